"""Server-sent events of a streamed answer, read back into the choices that its receipt commits to."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

DONE = "[DONE]"


def data_events(text: str) -> Iterator[dict[str, Any]]:
    """The JSON of each `data:` line; comments, other fields and the closing `[DONE]` are passed over.

    Raises ValueError where a data line is not JSON. Lines end in LF or CRLF only: U+2028 does not end one.
    """
    for line in text.split("\n"):
        content = line.removesuffix("\r").removeprefix("data:").strip(" ")
        if line.startswith("data:") and content and content != DONE:
            yield json.loads(content)


def assemble_choices(chunks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the deltas of `chat.completion.chunk`s into choices, as an unstreamed answer would have them.

    Streamed text completions have a `text` in place of a delta, which is the content here.
    """
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk.get("choices", []):
            choice = choices.setdefault(part["index"], _empty_choice(part["index"]))
            _join(choice["message"], part.get("delta") or {"content": part.get("text")})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
    return [choices[index] for index in sorted(choices)]


def _empty_choice(index: int) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}


def _join(message: dict[str, Any], delta: dict[str, Any]) -> None:
    message["content"] += delta.get("content") or ""
    for piece in delta.get("tool_calls") or []:
        calls = message.setdefault("tool_calls", [])
        if piece["index"] >= len(calls):
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[piece["index"]], piece.get("function") or {}
        call["id"] += piece.get("id") or ""
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
