"""Server-sent events of a streamed answer, read back into the choices that its receipt commits to."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pinaivu_shared.canonical import parse_json
from pinaivu_shared.json_fields import fields_of, kind_of, list_of, place_of, text_of

DONE: Final = "[DONE]"
_FIELDS: Final = frozenset({"", "data", "event", "id", "retry"})
_BLANK: Final = ""
_COMMENT: Final = ":"


def data_events(text: str) -> Iterator[dict[str, Any]]:
    """The JSON of each event; comments are passed over, as are an event without data and the closing `[DONE]`.

    Raises ValueError where the data is not JSON, and for what clients read in different ways: data after `[DONE]` or
    over several lines, an event that is cut or named otherwise than by its `type`, a line that is no field, a CR
    without LF, a name twice in one object. Lines end in LF or CRLF: U+2028 does not end one (HTML, 9.2.6).
    """
    done = False
    for name, data in _events(text):
        if done:
            raise ValueError(f"data follows the closing {DONE}")
        done = data == DONE
        if not done:
            event = parse_json(data)
            if name and kind_of(fields_of(event)) != name:
                raise ValueError(f"an event is named {name[:64]!r}, and its type is another")
            yield event


def _events(text: str) -> Iterator[tuple[str, str]]:
    """Name and data of each event that has data."""
    *lines, rest = text.split("\n")
    fields: dict[str, str] = {}
    for line in (*lines, rest) if rest else lines:
        name, value = _field(line)
        if name == "data" in fields:
            raise ValueError("an event has several lines of data")
        fields[name] = value
        if name == _BLANK:
            if fields.get("data"):
                yield fields.get("event", ""), fields["data"]
            fields.clear()
    if fields.get("data") == DONE:  # what keeps a stream in a file may take the last line's end away
        yield "", DONE
    elif fields.get("data"):
        raise ValueError("the stream ends within an event")


def _field(line: str) -> tuple[str, str]:
    bare = line.removesuffix("\r")
    if "\r" in bare:
        raise ValueError("a carriage return stands alone in the stream")
    name, colon, value = bare.partition(":")
    if bare and (not colon or name not in _FIELDS):
        raise ValueError(f"{bare[:32]!r} is no line of a stream")
    return (name or _COMMENT if colon else _BLANK), value.strip(" ")


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
        _join_call(message.setdefault("tool_calls", []), piece)


def _join_call(calls: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """A call has its name, and its id, in its first piece only: some clients join what comes later, some replace."""
    place, function = place_of(piece["index"]), fields_of(piece.get("function") or {})
    begins = place == len(calls)
    identity, name = text_of(piece.get("id") or ""), text_of(function.get("name") or "")
    if piece.get("type", "function") != "function" or "custom" in piece:
        raise ValueError("a tool call is none of a function")
    if bool(name) != begins or (identity and not begins):
        raise ValueError("a tool call is not named in its first piece, once")
    if begins:
        calls.append({"id": identity, "type": "function", "function": {"name": name, "arguments": ""}})
    calls[place]["function"]["arguments"] += text_of(function.get("arguments") or "")
