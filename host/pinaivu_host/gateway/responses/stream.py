"""The events of `POST /v1/responses`: named, numbered, each with its item's place; the last has the whole response.

OpenAI's reference has the order: created, in_progress, for each item its added, its pieces and its done, completed.
"""

from typing import Any, Final

import msgspec

from pinaivu_host.gateway.answer import Answer, shown_logprobs
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.responses.items import CONTENT_INDEX, CallItem, Item, MessageItem, Status
from pinaivu_host.gateway.stream import one_line
from pinaivu_shared.answers import finish_reason_of
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.node import Delta, ToolCallDelta

ID_PREFIX: Final = "resp_"
INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a response is incomplete, by the finish_reason of the chat."""
_encode: Final = msgspec.json.Encoder().encode


class ResponsesWriter:
    """Writes the events of one response, or the whole of it. `settings` is what it repeats of the request."""

    def __init__(self, envelope: Envelope, settings: dict[str, Any], *, with_logprobs: bool) -> None:
        self._envelope, self._settings, self._with_logprobs = envelope, settings, with_logprobs
        self._number = 0
        self._items: list[Item] = []
        self._message: MessageItem | None = None
        self._calls: dict[int, CallItem] = {}

    def begin(self) -> bytes:
        """The response with nothing in it."""
        response = self._response("in_progress", [])
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def delta(self, delta: Delta) -> bytes:
        """A piece of text, pieces of calls; before the first of each, its item."""
        logprobs = shown_logprobs(delta) if self._with_logprobs else []
        events = self._add_text(delta.content, logprobs) if delta.content or logprobs else b""
        return events + b"".join([self._add_call(piece) for piece in delta.tool_calls])

    def finish(self, answer: Answer, receipt: Receipt) -> bytes:
        """The end of each item, and the response."""
        status = _status(answer)
        begun = b"" if self._items else self._open_message()
        ends = b"".join([self._end(item, status) for item in self._items])
        response = self._ended(answer, receipt)
        return begun + ends + self._event(f"response.{status}", response=response)

    def fail(self, error: ApiError) -> bytes:
        """The event `error`: with its fields as the reference has them, and with the object that SDKs look for."""
        shape = {"message": error.message, "type": error.kind.type, "param": error.param, "code": error.kind.code}
        told = {"code": error.kind.code, "message": error.message, "param": error.param, "error": shape}
        return self._event("error", **told, request_id=self._envelope.request_id)

    def response_of(self, answer: Answer, receipt: Receipt) -> dict[str, Any]:
        """The whole response for a caller who wanted no events: the message first, then the calls."""
        choice = answer.choices()[0]
        message, calls = choice["message"], choice["message"].get("tool_calls", ())
        if message["content"] or not calls:
            logprobs = (choice["logprobs"] or {}).get("content", []) if self._with_logprobs else []
            self._new_message().add(message["content"] or "", logprobs)
        for call in calls:
            item = self._new_call(call["id"], call["function"]["name"])
            item.add(call["function"]["arguments"])
        return self._ended(answer, receipt)

    def _add_text(self, text: str, logprobs: list[Any]) -> bytes:
        opened = b"" if self._message else self._open_message()
        item = self._message
        assert item is not None
        item.add(text, logprobs)
        return opened + self._event(
            "response.output_text.delta", **_place(item), content_index=CONTENT_INDEX, delta=text, logprobs=logprobs
        )

    def _add_call(self, piece: ToolCallDelta) -> bytes:
        item, opened = self._calls.get(piece.index), b""
        if item is None:
            item = self._calls[piece.index] = self._new_call(piece.id, piece.name)
            opened = self._event(
                "response.output_item.added", output_index=item.output_index, item=item.shown("in_progress")
            )
        if not piece.arguments:
            return opened
        item.add(piece.arguments)
        return opened + self._event("response.function_call_arguments.delta", **_place(item), delta=piece.arguments)

    def _open_message(self) -> bytes:
        item = self._new_message()
        added = item.shown("in_progress", begun=True)
        return self._event("response.output_item.added", output_index=item.output_index, item=added) + self._event(
            "response.content_part.added", **_place(item), content_index=CONTENT_INDEX, part=item.part()
        )

    def _new_message(self) -> MessageItem:
        item = self._message = MessageItem(self._envelope.answer_id("msg_"), len(self._items))
        self._items.append(item)
        return item

    def _new_call(self, call_id: str, name: str) -> CallItem:
        place = len(self._items)
        item = CallItem(f"{self._envelope.answer_id('fc_')}_{place}", place, call_id=call_id, name=name)
        self._items.append(item)
        return item

    def _end(self, item: Item, status: Status) -> bytes:
        place, shown = _place(item), item.shown(status)
        if isinstance(item, CallItem):
            done = self._event(
                "response.function_call_arguments.done", **place, name=item.name, arguments=item.arguments()
            )
        else:
            part = item.part()
            done = self._event(
                "response.output_text.done",
                **place,
                content_index=CONTENT_INDEX,
                text=part["text"],
                logprobs=part["logprobs"],
            ) + self._event("response.content_part.done", **place, content_index=CONTENT_INDEX, part=part)
        return done + self._event("response.output_item.done", output_index=item.output_index, item=shown)

    def _ended(self, answer: Answer, receipt: Receipt) -> dict[str, Any]:
        status = _status(answer)
        response = self._response(status, [item.shown(status) for item in self._items])
        reason = INCOMPLETE.get(answer.finish_reason())
        response["incomplete_details"] = None if reason is None else {"reason": reason}
        if reason is None:
            response["completed_at"] = self._envelope.created_s
        if finish_reason_of(response) != answer.finish_reason():  # a forced call ends with `stop` at some engines
            response["finish_reason"] = answer.finish_reason()
        response["usage"] = {
            "input_tokens": receipt.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": receipt.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": receipt.prompt_tokens + receipt.completion_tokens,
        }
        return response

    def _response(self, status: Status, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._envelope.answer_id(ID_PREFIX),
            "object": "response",
            "created_at": self._envelope.created_s,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._envelope.model,
            "output": output,
            **self._settings,
            "service_tier": "default",
            "usage": None,
        }

    def _event(self, kind: str, **fields: Any) -> bytes:  # noqa: ANN401 - any JSON value
        body = one_line(_encode({"type": kind, "sequence_number": self._number, **fields}))
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"


def _place(item: Item) -> dict[str, Any]:
    return {"item_id": item.item_id, "output_index": item.output_index}


def _status(answer: Answer) -> Status:
    return "incomplete" if answer.finish_reason() in INCOMPLETE else "completed"
