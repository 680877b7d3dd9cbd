"""Log-probabilities come from a stranger: what is shown has OpenAI's shape, and what has not is the node's failure."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host.fake_node import Offered, echoing
from tests.host.town import Town

from pinaivu_host.gateway.answer import TokenLogprob, shown_logprobs
from pinaivu_shared.errors import PeerError
from pinaivu_shared.wire.link import ReportFailure
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
def test_anything_else_is_no_list_of_log_probabilities(sent: Any) -> None:
    with pytest.raises(PeerError, match="node: log-probabilities of another shape"):
        shown_logprobs(Delta(REQUEST, logprobs=msgspec.Raw(msgspec.msgpack.encode(sent))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"logprob": float("nan")},
        {"logprob": float("inf")},
        {"logprob": float("-inf")},
        {"logprob": 0.01},
        {"bytes": [256]},
        {"bytes": [-1]},
        {"bytes": [2**63]},
        {"top_logprobs": [{"token": "b", "logprob": float("nan")}]},
        {"top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": [300]}]},
    ],
    ids=str,
)
def test_what_no_token_can_have_is_refused(wrong: dict[str, Any]) -> None:
    """JSON has no NaN and nothing infinite: callers would get a null where the SDKs read a number."""
    with pytest.raises(PeerError):
        shown_logprobs(Delta(REQUEST, logprobs=msgspec.Raw(msgspec.msgpack.encode({"content": [TOKEN | wrong]}))))


@pytest.mark.parametrize("logprob", [0, 0.0, -9999.0, -3.4028234663852886e38], ids=str)
def test_certain_and_impossible_tokens_are_shown(logprob: float) -> None:
    """OpenAI has -9999.0 for what cannot come, llama.cpp the least number it has."""
    content = msgspec.msgpack.encode({"content": [TOKEN | {"logprob": logprob}]})
    (shown,) = shown_logprobs(Delta(REQUEST, logprobs=msgspec.Raw(content)))
    assert shown.logprob == logprob


@given(st.binary())
def test_any_bytes_are_entries_or_refused(sent: bytes) -> None:
    with contextlib.suppress(PeerError):
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
async def test_a_node_that_makes_them_up_fails_the_job_and_another_answers(town: Town, *, stream: bool) -> None:
    await town.node(spell_badly)
    await town.node(echoing("good"))
    response = await town.chat(stream=stream, logprobs=True)
    assert response.status_code == 200
    assert "good" in response.text
    assert [one.reason for one in town.enclave.all_of(ReportFailure)] == ["protocol_violation"]


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_wrong_in_them_costs_nobody_the_answer_who_did_not_ask_for_them(
    town: Town, *, stream: bool
) -> None:
    await town.node(spell_badly)
    response = await town.chat(stream=stream)
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
