"""Server-sent events of a streamed answer, read back into the choices that its receipt commits to."""

from collections.abc import Iterable, Iterator
from typing import Any

from pinaivu_shared.canonical import parse_json
from pinaivu_shared.json_fields import list_of, place_of

DONE = "[DONE]"


def data_events(text: str) -> Iterator[dict[str, Any]]:
    """The JSON of each `data:` line; comments and other fields are passed over, as is the closing `[DONE]`.

    Raises ValueError where a data line is not JSON, and for what a client may read otherwise: data after `[DONE]`, a CR
    without LF, a name twice in one object. Lines end in LF or CRLF: U+2028 does not end one.
    """
    done = False
    for line in text.split("\n"):
        bare = line.removesuffix("\r")
        if "\r" in bare:
            raise ValueError("a carriage return stands alone in the stream")
        content = bare.removeprefix("data:").strip(" ")
        if not bare.startswith("data:") or not content:
            continue
        if done:
            raise ValueError(f"data follows the closing {DONE}")
        done = content == DONE
        if not done:
            yield parse_json(content)


def assemble_choices(chunks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the deltas of `chat.completion.chunk`s into choices, as an unstreamed answer would have them.

    Streamed text completions have a `text` in place of a delta, which is the content here. ValueError for a stream that
    has both: its client saw one of them.
    """
    choices: dict[int, dict[str, Any]] = {}
    kinds = set()
    for chunk in chunks:
        for part in list_of(chunk.get("choices", [])):
            index = place_of(part["index"])
            choice = choices.setdefault(index, _empty_choice(index))
            kinds |= part.keys() & {"delta", "text"}
            _join(choice["message"], (part.get("delta") or {}) if "delta" in part else {"content": part.get("text")})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
    if len(kinds) > 1:
        raise ValueError("chunks of a chat and of a text completion in one stream")
    return [choices[index] for index in sorted(choices)]


def _empty_choice(index: int) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}


def _join(message: dict[str, Any], delta: dict[str, Any]) -> None:
    message["content"] += delta.get("content") or ""
    for piece in delta.get("tool_calls") or []:
        calls = message.setdefault("tool_calls", [])
        place = place_of(piece["index"])
        if place == len(calls):
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[place], piece.get("function") or {}
        call["id"] += piece.get("id") or ""
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
