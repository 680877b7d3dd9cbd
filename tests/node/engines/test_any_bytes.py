"""Whatever bytes an engine sends: events or one kind of error, and no character is ever lost or halved."""

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pinaivu_node.engines.characters import WholeCharacters, whole
from pinaivu_node.engines.chunks import Chunk, decode_chunk
from pinaivu_node.engines.events import EngineError
from pinaivu_node.engines.failures import failure_of_event, failure_of_response
from pinaivu_node.engines.sse import EventReader

from .scripted import chunk

GOOD = json.dumps(
    chunk("grün", "stop", usage={"prompt_tokens": 1, "completion_tokens": 2}), ensure_ascii=False
).encode()


def decoded(data: bytes) -> Chunk | None:
    try:
        return decode_chunk(data)
    except EngineError:
        return None


@given(st.binary())
@example(b'{"choices":[{"delta":{"content":"\xff"}}]}')
@example(b'{"choices":[{"delta":{"content":"\\ud800"}}]}')
@example(b'{"error":' + b"[" * 10_000)
@example(b'{"usage":{"prompt_tokens":1e400}}')
def test_any_event_is_a_chunk_or_an_engine_error(data: bytes) -> None:
    decoded(data)
    assert isinstance(failure_of_event(data), EngineError)
    assert isinstance(failure_of_response(500, data), EngineError)


def test_a_good_chunk_changed_in_any_place_is_a_chunk_or_an_engine_error() -> None:
    for place in range(len(GOOD)):
        for value in b'\0\n"\\{}[]:,0-eu \x7f\x80\xc3\xed\xf0\xff':
            decoded(GOOD[:place] + bytes([value]) + GOOD[place + 1 :])


@given(st.lists(st.binary(max_size=200)))
def test_events_do_not_depend_on_how_the_body_is_cut(parts: list[bytes]) -> None:
    body = b"".join(parts).replace(b"|", b"\n") + b"\n\ndata: x\n\n"
    cut, uncut = EventReader(), EventReader()
    found = [event for part in _cut(body, parts) for event in cut.feed(part)]
    assert found == uncut.feed(body)


def _cut(body: bytes, parts: list[bytes]) -> list[bytes]:
    cuts, position = [], 0
    for part in parts:
        cuts.append(body[position : position + len(part)])
        position += len(part)
    return [*cuts, body[position:]]


@given(st.text(), st.lists(st.integers(0, 400)))
def test_text_cut_between_any_bytes_comes_back_whole(text: str, places: list[int]) -> None:
    raw, characters = text.encode(), WholeCharacters()
    borders = [0, *sorted(place for place in places if place < len(raw)), len(raw)]
    pieces = [raw[start:end].decode("utf-8", "surrogateescape") for start, end in itertools.pairwise(borders)]
    assert "".join(map(characters.push, pieces)) + characters.flush() == text


@given(st.text(st.characters()))
def test_what_comes_out_can_always_be_written_as_utf8(text: str) -> None:
    assert whole(text).encode().decode() == whole(text)


@pytest.mark.parametrize("text", ["", "plain", "grün", "🎉"])
def test_whole_text_passes_through_at_once(text: str) -> None:
    assert WholeCharacters().push(text) == text
