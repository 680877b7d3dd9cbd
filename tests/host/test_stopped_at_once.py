"""An answer that the caller's own `stop` ends before it begins costs nobody anything, the node's quality included."""

from typing import Any

import pytest
from tests.host.fake_node import FakeNode, Offered, echoing
from tests.host.town import Town

from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.link import OpenJob

pytestmark = pytest.mark.anyio
PRIOR_BPS = 5_000
STOPS = ["\n", ["a", "b"]]
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"prompt": "Once"}
ENDPOINTS = pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)],
    ids=["chat", "completions"],
)


async def ask(town: Town, path: str, **body: Any) -> Receipt:
    """The receipt of one request, which was answered."""
    response = await town.client().post(path, json={"model": "m", **body})
    assert response.status_code == 200, response.text
    assert "node_failed" not in response.text
    receipt: Receipt = town.enclave.logged(Receipt)[-1]
    return receipt


def quality_of(town: Town, node: FakeNode) -> int:
    return town.enclave.coordinator._state.quality.standing(node.node_id, town.configuration.nodes).quality_bps


def choices_with(*texts: str) -> Any:
    """A node that gives one text for each choice, some of them empty."""

    async def script(offered: Offered) -> None:
        await offered.accept()
        for index, text in enumerate(texts):
            await offered.delta(text, index=index, finish_reason="stop")
        shown = [
            {"index": index, "message": {"content": text}, "finish_reason": "stop"} for index, text in enumerate(texts)
        ]
        await offered.prove("", choices=shown)

    return script


@ENDPOINTS
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("stop", STOPS, ids=["one", "several"])
async def test_an_empty_answer_to_a_request_with_stop_leaves_the_nodes_quality_alone(
    town: Town, path: str, body: dict[str, Any], stop: Any, *, stream: bool
) -> None:
    node = await town.node(echoing())
    receipt = await ask(town, path, **body, stop=stop, stream=stream)
    assert (receipt.outcome, receipt.reason) == ("completed", "stopped_at_once")
    assert (receipt.payment_amount, receipt.charge_amount) == ("0.000000 USDC", "0.000000 USDC")
    assert quality_of(town, node) == PRIOR_BPS


@ENDPOINTS
@pytest.mark.parametrize("fields", [{}, {"stop": None}], ids=["absent", "null"])
async def test_an_empty_answer_that_nobody_asked_for_lowers_the_nodes_quality(
    town: Town, path: str, body: dict[str, Any], fields: dict[str, Any]
) -> None:
    node = await town.node(echoing())
    receipt = await ask(town, path, **body, **fields)
    assert (receipt.outcome, receipt.reason) == ("completed", "empty_answer")
    assert quality_of(town, node) < PRIOR_BPS


@ENDPOINTS
async def test_of_several_choices_all_must_be_empty(town: Town, path: str, body: dict[str, Any]) -> None:
    await town.node(choices_with("", ""))
    assert (await ask(town, path, **body, n=2, stop="\n")).reason == "stopped_at_once"


@ENDPOINTS
async def test_one_choice_with_text_is_an_answer(town: Town, path: str, body: dict[str, Any]) -> None:
    node = await town.node(choices_with("", "Hello"))
    receipt = await ask(town, path, **body, n=2, stop="\n")
    assert (receipt.reason, receipt.completion_tokens) == ("", 1)
    assert quality_of(town, node) > PRIOR_BPS


async def test_where_stop_is_no_parameter_it_explains_nothing(town: Town) -> None:
    await town.node(echoing())
    await town.client().post("/v1/embeddings", json={"model": "m", "input": "a", "stop": "\n"})
    (opened,) = town.enclave.all_of(OpenJob)
    assert not opened.may_be_empty
