"""From an answer as its caller got it to the choices that its receipt commits to.

One answer has one commitment, whichever endpoint gave it and whether it was streamed. Shapes are those of OpenAI's API:
`chat.completion`, `text_completion`, the list of embeddings, and the `response` of `/v1/responses`.
"""

import base64
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pinaivu_shared.errors import UnreadableError
from pinaivu_shared.forwarding import Endpoint
from pinaivu_shared.json_fields import Fields, complaint, fields_of, kind_of, list_of, place_of, text_of
from pinaivu_shared.response_events import check_told
from pinaivu_shared.sse import assemble_choices

Choices = list[dict[str, Any]]
_ENDED: Final = ("response.completed", "response.incomplete")
_ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "chat.completion": "chat",
    "text_completion": "completions",
    "list": "embeddings",
    "response": "responses",
}
_SHOWN: Final = ("choices", "data", "output")
_COMPLETE: Final = ("stop", "tool_calls")
_INCOMPLETE: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}


def choices_of_answer(answer: Any) -> Choices:  # noqa: ANN401 - any JSON value
    """The choices of an unstreamed answer, for `commitments.response_commitment`; UnreadableError for what is none."""
    try:
        return _choices_of(fields_of(answer))
    except (LookupError, TypeError, ValueError, AttributeError, struct.error, OverflowError) as error:
        raise UnreadableError(f"answer: {complaint(error)}") from error


def choices_of_stream(events: Iterable[dict[str, Any]]) -> Choices:
    """The same of the events of a stream (`sse.data_events`): chunks, or those of `/v1/responses`.

    A response stands in the last event as a whole; the pieces before it, which its caller saw first, must say the same.
    """
    try:
        told = [fields_of(event) for event in events]
        end = next((place for place, event in enumerate(told) if kind_of(event) in _ENDED), None)
        choices = _joined(told) if end is None else _told_and_ended(told[:end], told[end:])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UnreadableError(f"answer: {complaint(error)}") from error
    if not choices:
        raise UnreadableError("answer: the stream has no end of a response, and no choices")
    return choices


def endpoint_of_answer(answer: Mapping[str, Any]) -> Endpoint:
    """Which endpoint gives an answer of this shape; of one whose choices were read."""
    return _ENDPOINTS[answer.get("object", "chat.completion")]


def endpoint_of_stream(events: Iterable[Mapping[str, Any]]) -> Endpoint:
    """The same of the events of a stream."""
    told = list(events)
    if any(event.get("type") in _ENDED for event in told):
        return "responses"
    parts = (part for chunk in told for part in chunk.get("choices", ()))
    return "completions" if any("text" in part for part in parts) else "chat"


def finish_reason_of(response: Mapping[str, Any]) -> str:
    """The finish_reason of the chat behind a response, which says it only where it does not follow from the rest.

    LookupError or ValueError for a response that has not ended.
    """
    if response["status"] == "incomplete":
        return _INCOMPLETE[response["incomplete_details"]["reason"]]
    if response["status"] != "completed":
        raise ValueError("its status is neither completed nor incomplete")
    if (told := response.get("finish_reason")) is not None:
        if told not in _COMPLETE:
            raise ValueError("it is completed, and its finish_reason says that it is not")
        return str(told)
    return "tool_calls" if any(item["type"] == "function_call" for item in response["output"]) else "stop"


def embeddings_content(vectors: Sequence[str]) -> str:
    """What is committed to for embeddings: a JSON array of the vectors, each in base64, in their order."""
    return json.dumps(list(vectors), separators=(",", ":"))


def packed_vector(numbers: Sequence[float]) -> str:
    """A vector as base64 of little-endian float32; struct.error or OverflowError for what float32 cannot hold."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def _choices_of(answer: Fields) -> Choices:
    """Fields of two kinds are refused: its caller saw those of one, and few look at `object`, which says the kind."""
    shown = [name for name in _SHOWN if name in answer]
    if len(shown) > 1:
        raise ValueError(f"has both {' and '.join(shown)}")
    match answer.get("object", "chat.completion"):
        case "chat.completion":
            return [_complete(one, fields_of(one["message"]), other="text") for one in list_of(answer["choices"])]
        case "text_completion":
            return [_complete(one, _said(one["text"]), other="message") for one in list_of(answer["choices"])]
        case "list":
            return _of_embeddings(list_of(answer["data"]))
        case "response":
            return [_of_response(answer)]
        case _:
            raise ValueError("neither a completion, nor embeddings, nor a response")


def _told_and_ended(told: Sequence[Fields], ends: Sequence[Fields]) -> Choices:
    if len(ends) > 1:
        raise ValueError("something follows the end of the response")
    if any("choices" in event for event in (*told, *ends)):
        raise ValueError("chunks of a chat among the events of a response")
    response = fields_of(ends[0]["response"])
    check_told(told, [fields_of(item) for item in list_of(response["output"])])
    return _choices_of(response)


def _joined(chunks: Sequence[Fields]) -> Choices:
    if any(kind_of(chunk).startswith("response.") for chunk in chunks):
        raise ValueError("the events of a response, which does not end")
    return assemble_choices(chunks)


def _complete(choice: Fields, message: Mapping[str, Any], *, other: str) -> dict[str, Any]:
    if other in choice:
        raise ValueError("a choice has both a message and a text")
    return _choice(place_of(choice["index"]), message, choice.get("finish_reason"))


def _choice(index: int, message: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "message": dict(message), "finish_reason": finish_reason}


def _said(text: object) -> dict[str, Any]:
    return {"role": "assistant", "content": text_of(text)}


def _of_embeddings(data: Sequence[Mapping[str, Any]]) -> Choices:
    in_order = sorted(data, key=lambda one: place_of(one["index"]))
    if [one["index"] for one in in_order] != list(range(len(data))):
        raise ValueError("the vectors are not numbered from 0 on")
    vectors = (one["embedding"] for one in in_order)
    content = embeddings_content([one if isinstance(one, str) else packed_vector(_numbers(one)) for one in vectors])
    return [_choice(0, _said(content), "stop")]


def _numbers(vector: object) -> list[float]:
    numbers = list_of(vector)
    if any(isinstance(number, bool) for number in numbers):
        raise TypeError("a vector has what is no number")
    return numbers


def _of_response(response: Mapping[str, Any]) -> dict[str, Any]:
    """Texts and calls of its output, in their order. What else there is, such as reasoning, is not committed to."""
    texts, calls = [], []
    for item in response["output"]:
        if item["type"] == "message":
            texts += [part["text"] for part in item["content"] if part["type"] == "output_text"]
        elif item["type"] == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            calls.append({"id": item["call_id"], "type": "function", "function": function})
    message = _said("".join(texts)) | ({"tool_calls": calls} if calls else {})
    return _choice(0, message, finish_reason_of(response))
