"""Nodes that fail: before the first token another one answers and nobody notices; after it the caller is told."""

import json
from typing import Any

import msgspec
import pytest
from tests.host.fake_node import FakeNode, Offered, echoing
from tests.host.town import CONFIGURATION, Town

from pinaivu_host.gateway.failures import MESSAGES
from pinaivu_host.metrics import REASONS
from pinaivu_shared.configuration import JobLimits
from pinaivu_shared.quality import is_failure
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed
from pinaivu_shared.sse import data_events
from pinaivu_shared.wire.link import AcceptAward, EndSession, ReportFailure, SettleJob
from pinaivu_shared.wire.node import Accept

pytestmark = pytest.mark.anyio


async def disconnect(offered: Offered) -> None:
    await offered.node._socket.close()


async def accept_and_disconnect(offered: Offered) -> None:
    await offered.accept()
    await offered.node._socket.close()


async def speak_unasked(offered: Offered) -> None:
    await offered.delta("I have not accepted")


async def fail_at_once(offered: Offered) -> None:
    await offered.accept()
    await offered.prove("", outcome="failed", tokens=(0, 0))


async def busy(offered: Offered) -> None:
    await offered.decline("busy")


async def engine_gone(offered: Offered) -> None:
    await offered.accept()
    await offered.decline("engine_unavailable")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (disconnect, "node_disconnected"),
        (accept_and_disconnect, "node_disconnected"),
        (speak_unasked, "protocol_violation"),
        (fail_at_once, "node_failed"),
        (busy, "busy"),
        (engine_gone, "engine_unavailable"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_token_another_node_answers(
    town: Town, script: Any, reason: str, *, stream: bool
) -> None:
    await town.node(script)
    good = await town.node(echoing("good"))
    response = await town.chat(stream=stream)
    assert response.status_code == 200
    assert "good" in response.text
    assert "error" not in response.text
    assert [one.reason for one in town.enclave.all_of(ReportFailure)] == [reason]
    assert town.enclave.all_of(SettleJob)[-1].outcome == "completed"
    receipt = await town.client().get(f"/v1/receipts/{response.headers['x-request-id']}")
    assert receipt.json()["node_id"] == good.node_id


async def test_a_first_token_that_is_late_goes_to_another_node(closed_town: Town) -> None:
    town = closed_town
    limits = JobLimits(attempts=3, first_token_ms=100, duration_ms=60_000)
    town.configuration = msgspec.structs.replace(CONFIGURATION, jobs=limits)
    await town.open()

    async def mute(offered: Offered) -> None:
        await offered.accept()

    slow = await town.node(mute)
    await town.node(echoing("good"))
    response = await town.chat()
    assert response.json()["choices"][0]["message"]["content"] == "good"
    assert town.enclave.all_of(ReportFailure)[0].reason == "timeout"
    await slow.told(cancels=1)
    await town.close()


async def test_when_no_node_is_left_the_caller_gets_502_and_a_receipt(town: Town) -> None:
    await town.node(fail_at_once)
    response = await town.chat(stream=True)
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "node_failed"
    receipt = await town.client().get(f"/v1/receipts/{response.json()['request_id']}")
    assert receipt.json()["outcome"] == "failed"
    assert receipt.json()["payment_amount"] == "0.000000 USDC"


async def break_after_a_token(offered: Offered) -> None:
    await offered.accept()
    await offered.delta("half an ans")
    await offered.node._socket.close()


async def prove_failure_after_a_token(offered: Offered) -> None:
    await offered.accept()
    await offered.delta("half an ans")
    await offered.prove("half an ans", outcome="failed")


async def lie_in_the_proof(offered: Offered) -> None:
    await offered.accept()
    await offered.delta("one thing")
    await offered.delta(finish_reason="stop")
    await offered.prove("another thing")


async def speak_after_the_end(offered: Offered) -> None:
    await offered.accept()
    await offered.delta(finish_reason="stop")
    await offered.delta("more")


async def accept_wrongly_and_answer_at_once(offered: Offered) -> None:
    await offered.node.send(Accept(offered.award.request_id, Signed(b"{}", b"x" * 64)))
    await offered.delta("junk")
    await offered.delta(finish_reason="stop")
    await offered.prove("junk")


@pytest.mark.parametrize("script", [break_after_a_token, prove_failure_after_a_token, lie_in_the_proof])
async def test_after_the_first_token_a_stream_ends_with_an_error_event(town: Town, script: Any) -> None:
    await town.node(script)
    await town.node(echoing("never asked"))
    response = await town.chat(stream=True)
    events = list(data_events(response.text))
    assert events[-1]["error"]["code"] == "node_failed"
    assert list(events[-1]["error"]) == ["message", "type", "param", "code"]
    assert events[-1]["request_id"] == response.headers["x-request-id"]
    assert "[DONE]" not in response.text
    assert "never asked" not in response.text
    assert all(choice["finish_reason"] is None for event in events[:-1] for choice in event["choices"])
    assert not town.enclave.all_of(ReportFailure)
    receipt = await town.client().get(f"/v1/receipts/{response.headers['x-request-id']}")
    assert receipt.json()["outcome"] == "failed"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_acceptance_that_does_not_hold_is_the_nodes_failure_however_quick_its_answer(
    town: Town, *, stream: bool
) -> None:
    node = await town.node(accept_wrongly_and_answer_at_once)
    await town.chat(stream=stream)
    (receipt,) = town.enclave.logged(Receipt)
    assert (receipt.outcome, receipt.reason, receipt.node_id) == ("failed", "acceptance_refused", node.node_id)
    assert is_failure(receipt.reason)


@pytest.mark.parametrize("script", [break_after_a_token, lie_in_the_proof, speak_after_the_end])
async def test_after_the_first_token_a_whole_answer_is_502(town: Town, script: Any) -> None:
    await town.node(script)
    response = await town.chat()
    assert response.status_code == 502
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "node_failed")
    assert error["message"] in MESSAGES.values(), "in words, and no code"
    assert "x-pinaivu-salt" in response.headers


def test_every_reason_of_a_failure_has_words_for_the_caller() -> None:
    not_the_nodes = {"client_disconnected", "client_stalled", "shutting_down", "abandoned", "host_restarted"}
    paid_or_declined = {name for name in REASONS if name.startswith(("usage_", "prompt_"))} | {
        "context_length_exceeded",  # the caller's own mistake, whose words errors have
        "credit_limit",
        "empty_answer",
        "false_decline",
        "not_accepted",
        "nothing_delivered",
        "stopped_at_once",
        "unsupported_request",
    }
    assert set(MESSAGES) >= REASONS - not_the_nodes - paid_or_declined - {"timeout"}
    assert not any("_" in message for message in MESSAGES.values())


@pytest.mark.parametrize(
    ("reason", "code", "param"),
    [
        ("context_length_exceeded", "context_length_exceeded", "messages"),
        ("unsupported_request", "unsupported_parameter", None),
    ],
)
async def test_what_a_node_cannot_do_is_the_callers_mistake(
    town: Town, reason: Any, code: str, param: str | None
) -> None:
    async def script(offered: Offered) -> None:
        await offered.decline(reason)

    await town.node(script)
    response = await town.chat()
    assert response.status_code == 400
    assert (response.json()["error"]["code"], response.json()["error"]["param"]) == (code, param)
    assert [command.reason for command in town.enclave.all_of(ReportFailure)] == [reason]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/embeddings", {"input": ["hi"]}),
    ],
)
async def test_what_is_too_long_for_the_node_names_the_parameter_of_its_endpoint(
    town: Town, path: str, body: dict[str, Any]
) -> None:
    await town.node(lambda offered: offered.decline("context_length_exceeded"))
    response = await town.client().post(path, json={"model": "m", **body})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert [response.json()["error"]["param"]] == [*body]


@pytest.mark.parametrize("reason", ["context_length_exceeded", "unsupported_request"])
async def test_what_one_node_cannot_do_another_may(town: Town, reason: Any) -> None:
    """A node that blames the request of every caller must not keep them from the others."""

    async def script(offered: Offered) -> None:
        await offered.decline(reason)

    await town.node(script)
    honest = await town.node()
    response = await town.chat()
    receipt = (await town.client().get(f"/v1/receipts/{response.json()['request_id']}")).json()
    assert (response.status_code, receipt["node_id"]) == (200, honest.node_id)


async def test_an_acceptance_that_the_enclave_refuses_is_no_acceptance(town: Town) -> None:
    async def accept_only(offered: Offered) -> None:
        await offered.accept()

    node = await town.node(accept_only)
    town.enclave.refused[AcceptAward] = "verification_failed"
    response = await town.chat()
    assert response.status_code == 502
    assert town.enclave.all_of(ReportFailure)[0].reason == "acceptance_refused"
    await node.told(cancels=1)


async def test_an_award_for_a_session_that_is_gone_ends_that_session(town: Town) -> None:
    gone = FakeNode(town.port, echoing("x"))
    await gone.start()
    town.nodes.append(gone)
    town.host.nodes._by_session.clear()  # as after a broken link: the enclave knows a session that the host does not
    await town.node(echoing("good"))
    response = await town.chat()
    assert "good" in response.text
    await town.enclave.heard(EndSession)
    assert town.enclave.all_of(EndSession)[0].session == gone.session


async def test_a_node_that_floods_one_job_loses_that_job_only(town: Town) -> None:
    async def flood(offered: Offered) -> None:
        if offered.request["messages"][0]["content"] != "flood":
            await offered.answer("fine")
            return
        await offered.accept()
        while not offered.cancelled.is_set():
            await offered.delta("x" * 200_000)
        await offered.prove("x", outcome="cancelled")

    node = await town.node(flood)
    body = {"model": "m", "messages": [{"role": "user", "content": "flood"}], "stream": True}
    async with town.client().stream("POST", "/v1/chat/completions", json=body) as response:
        await node.told(cancels=1)  # while nothing of the stream is read
        assert "fine" in (await town.chat()).text
        text = "".join([piece async for piece in response.aiter_text()])
    assert json.loads(text.rstrip().rpartition("data: ")[2])["error"]["code"] == "node_failed"
    assert sorted(one.reason for one in town.enclave.all_of(SettleJob)) == ["", "overflow"]
