"""Log-probabilities come from a stranger: what is shown has OpenAI's shape, whatever was sent."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host.fake_node import Offered
from tests.host.town import Town

from pinaivu_host.gateway.answer import TokenLogprob, shown_logprobs
from pinaivu_shared.wire.node import Delta, decode_from_node, encode

REQUEST = "req_" + "0" * 26
TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": None}]}


def test_an_entry_is_shown_as_it_is() -> None:
    (shown,) = shown_logprobs(Delta(REQUEST, logprobs=msgspec.Raw(msgspec.msgpack.encode({"content": [TOKEN]}))))
    assert msgspec.to_builtins(shown) == TOKEN


@pytest.mark.parametrize(
    "sent",
    [
        {None: 1},
        {"content": 5},
        {"content": [msgspec.msgpack.Ext(1, b"x")]},
        {"content": [{"token": {None: 1}}]},
        [1],
        b"x",
        None,
    ],
    ids=["null key", "number", "extension", "null key inside", "list", "bytes", "null"],
)
def test_anything_else_is_shown_as_nothing(sent: Any) -> None:
    assert shown_logprobs(Delta(REQUEST, logprobs=msgspec.Raw(msgspec.msgpack.encode(sent)))) == []


@given(st.binary())
def test_any_bytes_are_shown_as_nothing_or_as_entries(sent: bytes) -> None:
    assert all(isinstance(one, TokenLogprob) for one in shown_logprobs(Delta(REQUEST, logprobs=msgspec.Raw(sent))))


def test_nobody_looks_into_them_before_somebody_wants_to_see_them() -> None:
    """Half a million of the shortest values would be as many objects, and a stranger may send them."""
    raw = b"\xdd" + (500_000).to_bytes(4, "big") + b"\x90" * 500_000
    message = decode_from_node(encode(Delta(REQUEST, logprobs=msgspec.Raw(raw))))
    assert isinstance(message, Delta)
    assert bytes(message.logprobs) == raw


async def spell_badly(offered: Offered) -> None:
    """Log-probabilities with a token that is no UTF-8."""
    content = msgspec.msgpack.encode({"content": [TOKEN]}).replace(b"\xa1a", b"\xa1\xff")
    await offered.accept()
    await offered.delta("Hi", logprobs=msgspec.Raw(content))
    await offered.delta(finish_reason="stop")
    await offered.prove("Hi")


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("logprobs", [False, True])
async def test_what_is_wrong_in_them_costs_nobody_the_answer(town: Town, *, stream: bool, logprobs: bool) -> None:
    await town.node(spell_badly)
    response = await town.chat(stream=stream, logprobs=logprobs)
    assert response.status_code == 200
    assert '"Hi"' in response.text
    assert '"token"' not in response.text


async def tell_of_a_half_character(offered: Offered) -> None:
    """A token whose text comes with the next one."""
    await offered.accept()
    for text in ("", "é"):
        await offered.delta(text, logprobs=msgspec.Raw(msgspec.msgpack.encode({"content": [TOKEN]})))
    await offered.delta(finish_reason="stop")
    await offered.prove("é")


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_those_of_a_piece_without_text_are_shown_too(town: Town, *, stream: bool) -> None:
    await town.node(tell_of_a_half_character)
    asked = await town.chat(stream=stream, logprobs=True)
    assert asked.text.count('"logprob":-0.5') == 2
    assert 'logprob"' not in (await town.chat(stream=stream)).text
