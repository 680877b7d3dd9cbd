"""Whether the pieces of a streamed response say what the whole response at its end says."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pinaivu_shared.json_fields import place_of

_Place = tuple[int, int | None]
"""Places of an item and of its part; a call's arguments are no part."""
_PIECES: Final = frozenset({"response.output_text.delta", "response.function_call_arguments.delta"})
_WHOLE: Final = {"response.output_text.done": "text", "response.function_call_arguments.done": "arguments"}
_ITEM_DONE: Final = "response.output_item.done"
_ITEMS: Final = frozenset({"response.output_item.added", _ITEM_DONE})


def check_told(events: Iterable[Mapping[str, Any]], output: Sequence[Mapping[str, Any]]) -> None:
    """ValueError where what was told before differs from `output`, the response's; LookupError, TypeError for garbage.

    A stream without pieces tells nothing but its end, which is all its caller can have seen.
    """
    said = {place: text for index, item in enumerate(output) for place, text in _texts(index, item)}
    pieces: dict[_Place, list[str]] = defaultdict(list)
    newest = (0, 0)
    for event in events:
        kind = event.get("type")
        if kind in _PIECES:
            place = _place(event)
            newest = _in_order(newest, place)
            pieces[place].append(event["delta"])
        elif kind in _WHOLE:
            _check_same(said, _place(event), event[_WHOLE[kind]])
        elif kind in _ITEMS:
            _check_call(event["item"], output[place_of(event["output_index"])])
            for place, text in _texts(event["output_index"], event["item"]) if kind == _ITEM_DONE else ():
                _check_same(said, place, text)
    for place in pieces.keys() | {place for place, text in said.items() if text and pieces}:
        _check_same(said, place, "".join(pieces.get(place, ())))


def _place(event: Mapping[str, Any]) -> _Place:
    part = None if "arguments" in event["type"] else place_of(event.get("content_index", 0))
    return place_of(event.get("output_index", 0)), part


def _in_order(newest: tuple[int, int], place: _Place) -> tuple[int, int]:
    """The place of the newest text: a caller who shows texts as they come has read them in this order."""
    index, part = place
    if part is None:
        return newest
    if (index, part) < newest:
        raise ValueError("the pieces of an earlier text follow those of a later one")
    return index, part


def _texts(index: int, item: Mapping[str, Any]) -> Iterator[tuple[_Place, str]]:
    if item["type"] == "message":
        for number, part in enumerate(item["content"]):
            if part["type"] == "output_text":
                yield (index, number), part["text"]
    elif item["type"] == "function_call":
        yield (index, None), item["arguments"]


def _check_same(said: Mapping[_Place, str], place: _Place, text: str) -> None:
    if said.get(place) != text:
        raise ValueError(f"the pieces of item {place[0]} are not what the response says at its end")


def _check_call(told: Mapping[str, Any], item: Mapping[str, Any]) -> None:
    if any(told.get(name) != item.get(name) for name in ("type", "name", "call_id")):
        raise ValueError("an item of the stream is another one in the response at its end")
