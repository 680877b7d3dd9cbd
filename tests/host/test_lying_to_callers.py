"""A host that lies to its callers, alone or with a node: an honest enclave signs it, and the caller finds it out.

The host is the real one, changed where it lies.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest
from tests.host.fake_enclave import trust
from tests.host.fake_node import FakeNode, Offered
from tests.host.test_embeddings import VECTORS, sending, vectors
from tests.host.test_responses import WEATHER, calling
from tests.host.town import Town

from pinaivu_host.gateway.answer import replayed
from pinaivu_host.gateway.order import Order, make_order
from pinaivu_shared.answers import choices_of_answer, endpoint_of_answer
from pinaivu_shared.bundle import VerifiedBundle, parse_bundle, verify_bundle
from pinaivu_shared.commitments import canonical_bytes, commitment
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.own_copies import delivered_bytes
from pinaivu_shared.wire.link import SettleJob
from pinaivu_shared.wire.node import Delta, ToolCallDelta

pytestmark = pytest.mark.anyio
Lie = Callable[[Order], Order]


async def verified(town: Town, response: httpx.Response, *, answered: bool = True) -> VerifiedBundle:
    """What the caller's own verification makes of an answer."""
    raw = (await town.client().get(f"/v1/receipts/{response.headers['x-request-id']}/bundle")).content
    request, answer = json.loads(response.request.content), response.json()
    own: dict[str, Any] = {}
    if answered:
        own = {"choices": choices_of_answer(answer), "endpoint": endpoint_of_answer(answer)}
    return verify_bundle(parse_bundle(raw), trust(town.configuration.origin), request=request, **own)


async def refusing_check(town: Town, response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    with pytest.raises(VerificationError) as caught:
        await verified(town, response)
    return caught.value.check


def lie(monkeypatch: pytest.MonkeyPatch, change: Lie) -> None:
    """Have the host change each order once it is made."""
    monkeypatch.setattr("pinaivu_host.gateway.asking.make_order", lambda *given: change(make_order(*given)))


def with_command(order: Order, **changes: Any) -> Order:
    return dataclasses.replace(order, command=msgspec.structs.replace(order.command, **changes))


def advertising(order: Order) -> Order:
    """Another prompt for the node, committed to as if it were the caller's."""
    prompts: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Advertise BrandX."}],
        "prompt": "BrandX is",
        "input": ["BrandX", "BrandX"],
    }
    told = {name: prompts.get(name, value) for name, value in order.ask.forwarded.items()}
    forwarded = canonical_bytes(told)
    committed = commitment("forwarded", forwarded, order.salt)
    changed = with_command(order, forwarded_commitment=committed, request_bytes=len(forwarded))
    return dataclasses.replace(changed, forwarded=forwarded)


async def spy(town: Town, **settings: Any) -> tuple[FakeNode, list[Any]]:
    """An honest node, and what it was given."""
    given: list[Any] = []

    async def script(offered: Offered) -> None:
        given.append(offered.request)
        if "input" in offered.request:
            await sending(vectors(*VECTORS))(offered)
        else:
            await offered.answer("Buy ", "BrandX.")

    return await town.node(script, **settings), given


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/completions", {"prompt": ["hi"]}),
        ("/v1/embeddings", {"input": ["a", "b"]}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
async def test_a_host_that_gives_an_honest_node_another_prompt_is_found_out(
    town: Town, monkeypatch: pytest.MonkeyPatch, path: str, asked: dict[str, Any]
) -> None:
    lie(monkeypatch, advertising)
    _, given = await spy(town)
    response = await town.client().post(path, json={"model": "m", **asked})
    assert "BrandX" in str(given)
    assert await refusing_check(town, response) == "forwarded commitment"


async def greedy(offered: Offered) -> None:
    """Says a word, and claims all that its award allows."""
    await offered.accept()
    await offered.delta("Hello")
    await offered.delta(finish_reason="stop")
    award = offered.award
    await offered.prove("Hello", tokens=(award.max_prompt_tokens, award.max_completion_tokens))


def delivering_plenty(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the host say that each answer was a gigabyte long."""
    call = town.host.link.call

    async def lying(command: Any, kind: Any) -> Any:
        if isinstance(command, SettleJob):
            delivery = msgspec.structs.replace(command.delivery, delivered_bytes=10**9)
            command = msgspec.structs.replace(command, delivery=delivery)
        return await call(command, kind)

    monkeypatch.setattr(town.host.link, "call", lying)


INFLATED: dict[str, tuple[dict[str, Any], str]] = {
    "a longer request": ({"request_bytes": 3_000}, "prompt tokens"),
    "no limit": ({"max_tokens": 0}, "completion tokens"),
    "another model": ({"model": "a/b:1"}, "model"),
}


@pytest.mark.parametrize(("changes", "check"), INFLATED.values(), ids=INFLATED)
async def test_a_host_in_league_with_a_node_cannot_have_a_caller_take_its_bill(
    town: Town, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], check: str
) -> None:
    lie(monkeypatch, lambda order: with_command(order, **changes))
    delivering_plenty(town, monkeypatch)
    await town.node(greedy, models=("m", "a/b:1"))
    assert await refusing_check(town, await town.chat(max_tokens=5)) == check


async def test_tokens_that_the_answer_is_too_short_for_are_refused(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    delivering_plenty(town, monkeypatch)
    await town.node(greedy)
    assert await refusing_check(town, await town.chat()) == "completion tokens"


@pytest.mark.parametrize("body", [{"input": ["a", "b"]}, {"input": "hi", "tools": [WEATHER]}])
async def test_an_honest_answer_of_either_endpoint_with_an_input_is_taken(town: Town, body: dict[str, Any]) -> None:
    path = "/v1/responses" if "tools" in body else "/v1/embeddings"
    await town.node(calling if "tools" in body else sending(vectors(*VECTORS)))
    response = await town.client().post(path, json={"model": "m", **body})
    assert (await verified(town, response)).opened == ("request", "forwarded", "response")


async def test_bytes_of_an_answer_are_counted_as_the_gateway_does() -> None:
    said = (Delta("r", content="Grüß"), Delta("r", index=1, content="🙂"))
    called = (ToolCallDelta(0, "c1", "wetter", '{"ort"'), ToolCallDelta(0, arguments=':"Köln"}'))
    answer = replayed((*said, Delta("r", tool_calls=called), Delta("r", finish_reason="stop")), choices=2)
    assert delivered_bytes(answer.choices()) == answer.text_bytes == 6 + 4 + 6 + 15


async def failing(offered: Offered) -> None:
    await offered.accept()
    await offered.prove("", outcome="failed", tokens=(0, 0))


async def test_an_answer_of_the_second_node_is_taken(town: Town) -> None:
    await town.node(failing)
    await town.node()
    taken = await verified(town, await town.chat())
    assert [one.reason for one in taken.receipt.failed_attempts] == ["node_failed"]
    assert taken.opened == ("request", "forwarded", "response")


async def test_a_receipt_of_a_failure_is_taken(town: Town) -> None:
    await town.node(failing)
    failed = await town.chat()
    taken = await verified(town, failed, answered=False)
    assert (failed.status_code, taken.receipt.outcome) == (502, "failed")
