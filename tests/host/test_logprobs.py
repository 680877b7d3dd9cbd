"""Log-probabilities come from a stranger: what is shown has OpenAI's shape, whatever was sent."""

from typing import Any

import msgspec
import pytest

from pinaivu_host.gateway.answer import shown_logprobs
from pinaivu_shared.wire.node import Delta

REQUEST = "req_" + "0" * 26
TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": None}]}


def test_an_entry_is_shown_as_it_is() -> None:
    (shown,) = shown_logprobs(Delta(REQUEST, logprobs={"content": [TOKEN]}))
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
    ],
    ids=["null key", "number", "extension", "null key inside", "list", "bytes"],
)
def test_anything_else_is_shown_as_nothing(sent: Any) -> None:
    assert shown_logprobs(Delta(REQUEST, logprobs=sent)) == []
