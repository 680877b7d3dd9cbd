"""The echo engine: what its settings say is what its clients see."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import msgspec
import pytest

from pinaivu_node.engines.echo import Echo
from pinaivu_node.engines.echo_settings import EchoSettings, Fault, parse_echo_settings
from pinaivu_shared.errors import CallerError

QUESTION = {"role": "user", "content": "how are  you"}


class Caller:
    """One ASGI request, whose client leaves once `patience` messages of a hanging answer came."""

    def __init__(self, settings: EchoSettings, body: object) -> None:
        self.body, self.sent = msgspec.json.encode(body), list[MutableMapping[str, Any]]()
        hangs = settings.fault.kind.startswith("hang")
        self._patience = 1 + bool(settings.fault.after_tokens) if hangs else -1
        self._leaves = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        """ASGI's receive: the body, then nothing until the client leaves."""
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body}
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's send."""
        self.sent.append(message)
        if len(self.sent) == self._patience:
            self._leaves.set()


def ask(settings: str, path: str = "/v1/chat/completions", **body: object) -> tuple[int, bytes, bool]:
    """Status, body and whether the response was complete."""
    asked = {"messages": [QUESTION]} if path == "/v1/chat/completions" else {}
    return asyncio.run(_ask(parse_echo_settings(settings), path, {**asked, **body}))


async def _ask(settings: EchoSettings, path: str, body: object) -> tuple[int, bytes, bool]:
    caller = Caller(settings, body)
    scope = {"type": "http", "method": "POST", "path": path}
    await Echo(settings)(scope, caller.receive, caller.send)
    content = b"".join(message.get("body", b"") for message in caller.sent)
    return caller.sent[0]["status"], content, not caller.sent[-1].get("more_body", True)


def events(content: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix(b"data: ") for line in content.split(b"\n\n") if line]
    return [msgspec.json.decode(line) for line in lines if line != b"[DONE]"]


def text(content: bytes) -> str:
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events(content) if event.get("choices"))


@pytest.mark.parametrize("settings", ["", "token_interval_ms=1", "first_token_ms=1"])
def test_it_streams_the_last_user_message_in_pieces_and_then_the_usage(settings: str) -> None:
    _, content, complete = ask(settings, stream=True, stream_options={"include_usage": True})
    assert text(content) == QUESTION["content"]
    assert [choice["finish_reason"] for event in events(content) for choice in event["choices"]] == [
        *([None] * 4),
        "stop",
    ]
    assert events(content)[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert content.endswith(b"data: [DONE]\n\n")
    assert complete


def test_usage_comes_in_a_stream_only_when_asked_for() -> None:
    assert "usage" not in events(ask("", stream=True)[1])[-1]


def test_the_prompt_is_counted_at_the_beginning_when_usage_is_asked_for_all_along() -> None:
    _, content, _ = ask("", stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    assert events(content)[0]["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}


def test_the_smaller_limit_holds_and_is_the_finish_reason() -> None:
    _, content, _ = ask("tokens=64", stream=True, max_tokens=5, max_completion_tokens=7)
    assert text(content) == "word0 word1 word2 word3 word4 "
    assert events(content)[-1]["choices"][0]["finish_reason"] == "length"


def test_an_unstreamed_answer_has_the_same_text() -> None:
    answer = msgspec.json.decode(ask("tokens=200")[1])
    assert answer["choices"][0]["message"]["content"] == text(ask("tokens=200", stream=True)[1])
    assert answer["usage"]["completion_tokens"] == 200


def test_parts_of_a_message_are_one_text() -> None:
    parts = [{"type": "text", "text": "eins "}, {"type": "text", "text": "zwei"}]
    assert text(ask("", stream=True, messages=[{"role": "user", "content": parts}])[1]) == "eins zwei"


@pytest.mark.parametrize(
    ("fault", "status", "said", "complete"),
    [
        ("refuse", 503, "", True),
        ("disconnect_before_first_token", 200, "", False),
        ("disconnect_after_tokens:2", 200, "how are  ", False),
        ("error_after_tokens:1", 200, "how ", True),
        ("hang_before_first_token", 200, "", False),
        ("hang_after_tokens:1", 200, "how ", False),
    ],
)
def test_a_fault_cuts_the_answer_where_it_says(fault: str, status: int, said: str, complete: bool) -> None:  # noqa: FBT001 - a table
    found_status, content, found_complete = ask(f"fault={fault}", stream=True)
    assert (found_status, found_complete) == (status, complete)
    assert status != 200 or text(content) == said
    assert (b'"error"' in content) == (fault in {"refuse", "error_after_tokens:1"})


@pytest.mark.parametrize(
    ("fault", "completion_tokens"), [("no_usage", None), ("zero_usage", 0), ("inflated_usage", 1030)]
)
def test_a_fault_falsifies_the_usage(fault: str, completion_tokens: int | None) -> None:
    _, content, _ = ask(f"fault={fault}", stream=True, stream_options={"include_usage": True})
    assert events(content)[-1].get("usage", {}).get("completion_tokens") == completion_tokens


def test_a_readiness_probe_for_one_token_meets_no_fault() -> None:
    assert ask("fault=refuse", stream=True, max_tokens=1)[0] == 200


def test_characters_are_cut_between_events_when_asked_for() -> None:
    _, content, _ = ask("fault=split_utf8", stream=True, messages=[{"role": "user", "content": "grün"}])
    assert b'"gr\xc3"' in content
    assert b'"\xbcn"' in content


def test_a_body_that_is_no_request_is_refused() -> None:
    assert ask("", messages=7)[0] == 400


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("tokens", "tokens"),
        ("tokens=-1", "whole number"),
        ("tokens=²", "whole number"),
        ("tokens=1,tokens=2", "twice"),
        ("speed=3", "speed"),
        ("tokens=9999999", "tokens"),
        ("fault=boom", "boom"),
        ("fault=refuse:1", "no count"),
        ("fault=hang_after_tokens", "a count"),
    ],
)
def test_wrong_settings_are_named(wrong: str, named: str) -> None:
    with pytest.raises(CallerError, match=named):
        parse_echo_settings(wrong)


def test_settings_are_read_from_one_line() -> None:
    expected = EchoSettings(tokens=64, token_interval_ms=10, fault=Fault("hang_after_tokens", 3))
    assert parse_echo_settings("tokens=64, token_interval_ms=10,fault=hang_after_tokens:3") == expected


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/models", 200), ("GET", "/health", 200), ("POST", "/nowhere", 404)]
)
def test_the_other_paths_answer_at_once(method: str, path: str, status: int) -> None:
    assert asyncio.run(_get(method, path)) == status


async def _get(method: str, path: str) -> int:
    caller = Caller(EchoSettings(), None)
    await Echo(EchoSettings())({"type": "http", "method": method, "path": path}, caller.receive, caller.send)
    return int(caller.sent[0]["status"])
