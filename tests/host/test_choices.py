"""`n` above 1: several answers to one request, told apart by their index, committed to and paid together."""

import json
from typing import Any

import pytest
from tests.host.fake_node import Offered
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.wire.link import OpenJob

pytestmark = pytest.mark.anyio
TEXTS = ("one", "two", "three")


def choice(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": "stop"}


async def three(offered: Offered) -> None:
    """Three answers whose pieces come in turns; they end in another order than they began."""
    await offered.accept()
    for place in range(max(map(len, TEXTS))):
        for index, text in enumerate(TEXTS):
            if text[place : place + 1]:
                await offered.delta(text[place], index=index)
    for index in (2, 0, 1):
        await offered.delta(finish_reason="stop", index=index)
    await offered.prove("", choices=[choice(*one) for one in enumerate(TEXTS)])


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


async def test_each_choice_has_its_own_text(town: Town) -> None:
    await town.node(three)
    answer = await town.chat(n=3)
    choices = answer.json()["choices"]
    assert [(one["index"], one["message"]["content"], one["finish_reason"]) for one in choices] == [
        (index, text, "stop") for index, text in enumerate(TEXTS)
    ]
    receipt = (await town.client().get(f"/v1/receipts/{answer.json()['request_id']}")).json()
    salt = bytes.fromhex(answer.headers["x-pinaivu-salt"])
    assert receipt["response_commitment"] == response_commitment(choices, salt)


async def test_a_stream_tells_the_choices_apart(town: Town) -> None:
    await town.node(three)
    shown = events((await town.chat(n=3, stream=True)).text)
    assert [one["choices"][0]["delta"].get("role") for one in shown[:3]] == ["assistant"] * 3
    told = ["", "", ""]
    for one in shown:
        told[one["choices"][0]["index"]] += one["choices"][0]["delta"].get("content", "")
    assert tuple(told) == TEXTS
    assert [(one["choices"][0]["index"], one["choices"][0]["finish_reason"]) for one in shown[-3:]] == [
        (0, "stop"),
        (1, "stop"),
        (2, "stop"),
    ]


async def test_the_limit_is_over_all_choices_and_the_node_must_be_able_to(town: Town) -> None:
    await town.node(three)
    await town.chat(n=3, max_tokens=7)
    (opened,) = town.enclave.all_of(OpenJob)
    assert (opened.max_tokens, opened.needs) == (21, ("chat", "multiple_choices"))


@pytest.mark.parametrize(
    "ends",
    [[(0, "stop"), (1, "stop")], [(0, "stop"), (0, "stop"), (1, "stop"), (2, "stop")], [(3, "stop")]],
    ids=["one choice is left open", "one ends twice", "one was not asked for"],
)
async def test_choices_that_are_not_those_asked_for_are_no_answer(town: Town, ends: list[tuple[int, Any]]) -> None:
    async def wrong(offered: Offered) -> None:
        await offered.accept()
        for index, reason in ends:
            await offered.delta("x" if index == 3 else "", index=index, finish_reason=reason)
        await offered.prove("", choices=[choice(index, "") for index in range(3)])

    await town.node(wrong)
    check_shape(await town.chat(n=3), 502, "server_error", "node_failed")
