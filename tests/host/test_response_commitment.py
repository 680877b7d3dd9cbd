"""Whoever has a response, streamed or whole, can open what its receipt commits to."""

import msgspec
import pytest
from tests.shared.evidence import make_evidence

from pinaivu_host.gateway.answer import Answer
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.responses.stream import ResponsesWriter
from pinaivu_shared.answers import choices_of_answer, choices_of_stream
from pinaivu_shared.commitments import canonical_choices
from pinaivu_shared.ids import make_request_id
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.sse import data_events
from pinaivu_shared.wire.node import Delta, ToolCallDelta

REQUEST_ID = make_request_id(1, bytes(10))
CALL = Delta(REQUEST_ID, tool_calls=(ToolCallDelta(0, "c", "f", '{"a":'), ToolCallDelta(0, arguments="1}")))
TEXT = Delta(REQUEST_ID, content="Hi")


@pytest.fixture(scope="module")
def receipt() -> Receipt:
    return msgspec.convert(make_evidence().bundle["receipt"], Receipt)


def writer() -> ResponsesWriter:
    envelope = Envelope(REQUEST_ID, 1, "m", service_tier=False)
    return ResponsesWriter(envelope, {}, with_logprobs=False)


@pytest.mark.parametrize("finish_reason", ["stop", "length", "tool_calls", "content_filter"])
@pytest.mark.parametrize(
    "deltas",
    [(), (TEXT,), (CALL,), (TEXT, CALL), (CALL, TEXT)],
    ids=["nothing", "text", "call", "text, call", "call, text"],
)
def test_every_end_of_a_response_can_be_opened(deltas: tuple[Delta, ...], finish_reason: str, receipt: Receipt) -> None:
    """Engines end a call that was forced with `stop`, as OpenAI does; a response has no word of its own for it."""
    answer, streaming = Answer(), writer()
    events = streaming.begin()
    for delta in (*deltas, Delta(REQUEST_ID, finish_reason=finish_reason)):  # type: ignore[arg-type]  # one of four
        answer.add(delta)
        events += streaming.delta(delta)
    events += streaming.finish(answer, receipt)
    committed = canonical_choices(answer.choices())
    assert canonical_choices(choices_of_stream(data_events(events.decode()))) == committed
    whole = msgspec.json.decode(msgspec.json.encode(writer().response_of(answer, receipt)))
    assert canonical_choices(choices_of_answer(whole)) == committed
