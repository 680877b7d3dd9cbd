"""Recounts: an answer's tokens, counted by the host where it knows the tokenizer."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.host.fake_node import Offered
from tests.host.town import Town

from pinaivu_host.gateway.recount import AT_ONCE_CHARACTERS, Recounter, load_tokenizers
from pinaivu_node.engines.access import EMBEDDED_TOKENIZER
from pinaivu_shared.errors import CallerError

TINY = EMBEDDED_TOKENIZER
pytestmark = pytest.mark.anyio


@pytest.fixture
def recounter() -> Recounter:
    return load_tokenizers(f"pinaivu-tiny={TINY}")


def choice(content: str | None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content, **more}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("The capital of France is Paris.", 9), ("fox", 1), ('{"a": 1}', 8), ("<|im_end|>", 1), ("Grüße 你好", 14)],
)
async def test_a_text_has_the_tokens_of_its_model(recounter: Recounter, text: str, tokens: int) -> None:
    assert await recounter.count_answer([choice(text)], model="pinaivu-tiny") == tokens


async def test_a_long_text_is_counted_as_a_short_one(recounter: Recounter) -> None:
    assert (
        await recounter.count_answer([choice("fox\n" * AT_ONCE_CHARACTERS)], model="pinaivu-tiny")
        == 2 * AT_ONCE_CHARACTERS
    )


@pytest.mark.parametrize(
    "answer", [choice(None), choice(""), choice("x", tool_calls=[{"id": "1"}])], ids=["nothing", "empty", "tool call"]
)
async def test_what_is_not_only_text_is_not_recounted(recounter: Recounter, answer: dict[str, Any]) -> None:
    assert await recounter.count_answer([answer], model="pinaivu-tiny") is None


async def test_a_model_without_a_known_tokenizer_is_not_recounted(recounter: Recounter) -> None:
    assert await recounter.count_answer([choice("fox")], model="llama3.2:1b") is None
    assert await load_tokenizers("").count_answer([choice("fox")], model="pinaivu-tiny") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("pinaivu-tiny", "is not MODEL=FILE"),
        ("=file", "is not MODEL=FILE"),
        ("m=/nowhere.json", "No such file"),
        (f"m={__file__}", "is no tokenizer of m"),
        (f"m={TINY},m={TINY}", "twice"),
    ],
)
def test_what_cannot_be_used_is_named(given: str, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        load_tokenizers(given)


STORY = "Once upon a time there was a fox called Rusty who lived in the forest."


@pytest.mark.parametrize(("claimed", "paid", "reason"), [(20, 20, ""), (30, 27, ""), (60, 27, "usage_recounted")])
async def test_a_node_is_paid_for_the_tokens_of_its_text_and_no_more(
    closed_town: Town, claimed: int, paid: int, reason: str
) -> None:
    """60 tokens would be within the bytes that were delivered: only the recount tells."""
    closed_town.settings["recounter"] = load_tokenizers(f"m={TINY}")
    town = await closed_town.open()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta(STORY)
        await offered.delta(finish_reason="stop")
        await offered.prove(STORY, tokens=(11, claimed))

    await town.node(script)
    answer = (await town.chat()).json()
    receipt = (await town.client().get(f"/v1/receipts/{answer['request_id']}")).json()
    assert (receipt["completion_tokens"], receipt["reason"]) == (paid, reason)
    assert answer["usage"]["completion_tokens"] == paid
    await town.close()


@pytest.mark.parametrize(
    ("messages", "tokens"),
    [
        ([{"role": "user", "content": "fox"}], 1 + 8),
        (
            [{"role": "system", "content": "fox"}, {"role": "user", "content": [{"type": "text", "text": "fox"}]}],
            3 + 16,
        ),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}], None),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], None),
    ],
    ids=["one", "parts", "an image", "a tool call"],
)
async def test_a_prompt_has_the_tokens_of_its_texts_and_a_few_for_each_message(
    recounter: Recounter, messages: list[dict[str, Any]], tokens: int | None
) -> None:
    forwarded = msgspec.json.encode({"messages": messages, "model": "pinaivu-tiny"})
    assert await recounter.count_prompt(forwarded, model="pinaivu-tiny") == tokens
    assert await recounter.count_prompt(forwarded, model="another") is None


@pytest.mark.parametrize(("inputs", "tokens"), [(["fox"], 1 + 4), (["fox", "fox"], 3 + 8)])
async def test_inputs_of_embeddings_have_the_tokens_of_their_texts_and_a_few_for_each(
    recounter: Recounter, inputs: list[str], tokens: int
) -> None:
    forwarded = msgspec.json.encode({"input": inputs, "model": "pinaivu-tiny"})
    assert await recounter.count_prompt(forwarded, model="pinaivu-tiny") == tokens


async def test_a_long_input_is_counted_whole_by_a_tokenizer_that_would_cut_it(tmp_path: Path) -> None:
    """Those of embeddings' models cut a text to the model's context, and fill it up to that."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - an extra

    cutting = Tokenizer.from_file(str(TINY))
    cutting.enable_truncation(4)
    cutting.enable_padding(length=4)
    cutting.save(str(tmp_path / "tokenizer.json"))
    recounter = load_tokenizers(f"m={tmp_path / 'tokenizer.json'}")
    counts = [
        await recounter.count_prompt(msgspec.json.encode({"input": [text], "model": "m"}), model="m")
        for text in ("fox", STORY)
    ]
    assert counts == [1 + 4, 27 + 4]


async def test_a_node_is_paid_for_the_inputs_that_there_were(openable: Town) -> None:
    openable.settings["recounter"] = load_tokenizers(f"m={TINY}")
    town = await openable.open()
    content = json.dumps([base64.b64encode(struct.pack("<f", 1)).decode()])

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta(content)
        await offered.delta(finish_reason="stop")
        await offered.prove(content, tokens=(1000 + offered.award.request_bytes, 0))

    await town.node(script)
    answer = (await town.client().post("/v1/embeddings", json={"model": "m", "input": STORY})).json()
    receipt = (await town.client().get(f"/v1/receipts/{answer['request_id']}")).json()
    allowance = town.configuration.metering.template_allowance
    assert (receipt["outcome"], receipt["prompt_tokens"]) == ("completed", 27 + 4 + allowance)
    assert receipt["reason"] == "prompt_cut"


async def test_a_node_is_paid_for_the_prompt_that_there_was(closed_town: Town) -> None:
    """One token for each of the request's bytes would be within what the award allows."""
    closed_town.settings["recounter"] = load_tokenizers(f"m={TINY}")
    town = await closed_town.open()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta(STORY)
        await offered.delta(finish_reason="stop")
        await offered.prove(STORY, tokens=(1000 + offered.award.request_bytes, 27))

    await town.node(script)
    answer = (await town.chat()).json()
    receipt = (await town.client().get(f"/v1/receipts/{answer['request_id']}")).json()
    allowance = town.configuration.metering.template_allowance
    assert (receipt["prompt_tokens"], receipt["reason"]) == (1 + 8 + allowance, "prompt_cut")
    await town.close()
