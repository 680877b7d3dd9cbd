"""What a node may send of an answer: what breaks these rules is its failure, and is paid for by nobody."""

import threading
from typing import Any, get_args

import msgspec
import pytest
from tests.host.fake_node import Offered, echoing
from tests.host.keyed import ask
from tests.host.town import Town

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.answer_rules import SPARE_BYTES, TOKEN_BYTES
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.link import Delivery
from pinaivu_shared.wire.node import DeclineReason, ToolCallDelta

pytestmark = pytest.mark.anyio
FUNCTION = {"type": "function", "function": {"name": "f"}}
LOGPROBS = msgspec.Raw(msgspec.msgpack.encode({"content": [{"token": "half", "logprob": -0.1}]}))


def only_receipt(town: Town) -> Receipt:
    (receipt,) = town.enclave.logged(Receipt)
    assert isinstance(receipt, Receipt)
    return receipt


def reason_of(town: Town) -> str:
    receipt = only_receipt(town)
    assert (receipt.outcome, receipt.payment_amount) == ("failed", "0.000000 USDC")
    return receipt.reason


@pytest.mark.parametrize("reason", get_args(DeclineReason))
@pytest.mark.parametrize("stream", [False, True])
async def test_a_node_that_declines_what_it_has_begun_has_failed(town: Town, reason: Any, *, stream: bool) -> None:
    """A decline that blames the request would cost it nothing, whatever it broke."""

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("I begin and ")
        await offered.decline(reason)

    await town.node(script)
    await town.node(echoing("never asked"))
    response = await town.chat(stream=stream)
    assert '"code":"node_failed"' in response.text
    assert reason_of(town) == "node_failed"


async def begin_with_half_a_character(offered: Offered) -> None:
    """The first token has a log-probability and no text yet; then the node goes away."""
    await offered.accept()
    await offered.delta(logprobs=LOGPROBS)
    await offered.node.ask()
    await offered.node._socket.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
async def test_what_is_shown_of_a_token_is_a_first_token(town: Town, *, stream: bool, keyed: bool) -> None:
    """Else another node would go on with an answer that begins with this one's log-probabilities."""
    await town.node(begin_with_half_a_character)
    await town.node(echoing("never asked"))
    response = await (ask(town, stream=stream, logprobs=True) if keyed else town.chat(stream=stream, logprobs=True))
    assert "node_failed" in response.text
    assert "never asked" not in response.text
    assert reason_of(town) == "node_disconnected"


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities_that_nobody_asked_for_are_no_first_token(town: Town, *, stream: bool) -> None:
    await town.node(begin_with_half_a_character)
    good = await town.node(echoing("good"))
    response = await town.chat(stream=stream)
    assert "good" in response.text
    assert only_receipt(town).node_id == good.node_id


def calling(offered: Offered) -> Any:
    return offered.delta(tool_calls=(ToolCallDelta(0, "c", "f", "{}"),))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_call_that_nobody_asked_for_fails_the_job(town: Town, *, stream: bool) -> None:
    """Answers with tool calls are not recounted: one call more, and the rest is paid by its bytes."""

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("text")
        await calling(offered)

    await town.node(script)
    response = await town.chat(stream=stream)
    assert "node_failed" in response.text
    assert reason_of(town) == "protocol_violation"


async def test_a_tool_call_among_tools_is_an_answer(town: Town) -> None:
    message = {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}

    async def script(offered: Offered) -> None:
        await offered.accept()
        await calling(offered)
        await offered.delta(finish_reason="tool_calls")
        await offered.prove("", choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}])

    await town.node(script)
    body = (await town.chat(tools=[FUNCTION])).json()
    assert body["choices"][0]["message"]["tool_calls"] == message["tool_calls"]


def sending(text: str, times: int) -> Any:
    """The script of a node that sends this text so often, waiting until each piece was taken, and proves it."""

    async def script(offered: Offered) -> None:
        await offered.accept()
        for _ in range(times):
            await offered.delta(text)
            await offered.node.ask()
        await offered.delta(finish_reason="stop")
        await offered.prove(text * times)

    return script


@pytest.mark.parametrize("stream", [False, True])
async def test_more_than_the_awarded_tokens_can_spell_is_too_long(town: Town, *, stream: bool) -> None:
    """Of control characters, which are six bytes each in JSON, 64 MiB would stop everybody for seconds."""
    node = await town.node(sending("\x01" * 300_000, 20))
    response = await town.chat(stream=stream, max_tokens=1)
    assert "node_failed" in response.text
    assert reason_of(town) == "answer_too_long"
    await node.told(cancels=1)


@pytest.mark.parametrize("stream", [False, True])
async def test_as_much_as_the_awarded_tokens_can_spell_is_an_answer(town: Town, *, stream: bool) -> None:
    tokens = 20_000
    times = (SPARE_BYTES + tokens * TOKEN_BYTES) // 500_000
    await town.node(sending("x" * 499_000, times))
    response = await town.chat(stream=stream, max_tokens=tokens)
    assert response.text.count("x") >= 499_000 * times
    assert only_receipt(town).outcome == "completed"


@pytest.mark.parametrize("ends", ["whole", "broken"])
async def test_a_large_answer_is_committed_to_in_a_thread(
    town: Town, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The others get their turns meanwhile; a small one is not worth a thread."""
    threads: list[bool] = []
    deliver = Answer.delivery

    def noting(answer: Answer, salt: bytes, *, finished: bool) -> Delivery:
        threads.append(threading.current_thread() is threading.main_thread())
        return deliver(answer, salt, finished=finished)

    monkeypatch.setattr(Answer, "delivery", noting)

    async def script(offered: Offered) -> None:
        times = offered.request["max_completion_tokens"]
        await offered.accept()
        for _ in range(times):
            await offered.delta("x" * 100_000)
        if ends == "broken":
            await offered.decline("busy")
        else:
            await offered.delta(finish_reason="stop")
            await offered.prove("x" * 100_000 * times, tokens=(11, times))

    await town.node(script)
    for pieces in (1, 3):
        await town.chat(stream=True, max_completion_tokens=pieces)
    assert threads == [True, False]
