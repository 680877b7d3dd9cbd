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
from pinaivu_shared.response_events import check_told
from pinaivu_shared.sse import assemble_choices

Choices = list[dict[str, Any]]
_ENDED: Final = frozenset({"response.completed", "response.incomplete"})
_COMPLETE: Final = ("stop", "tool_calls")
_INCOMPLETE: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}


def choices_of_answer(answer: Any) -> Choices:  # noqa: ANN401 - any JSON value
    """The choices of an unstreamed answer, for `commitments.response_commitment`; UnreadableError for what is none."""
    kind = answer.get("object", "chat.completion") if isinstance(answer, dict) else None
    try:
        match kind:
            case "chat.completion":
                return [_choice(one["index"], one["message"], one.get("finish_reason")) for one in answer["choices"]]
            case "text_completion":
                return [
                    _choice(one["index"], _said(one["text"]), one.get("finish_reason")) for one in answer["choices"]
                ]
            case "list":
                return _of_embeddings(answer["data"])
            case "response":
                return [_of_response(answer)]
            case _:
                raise UnreadableError("answer: neither a completion, nor embeddings, nor a response")
    except (LookupError, TypeError, ValueError, AttributeError, struct.error, OverflowError) as error:
        raise UnreadableError(f"answer: not of the shape of a {kind}: {error!r}") from error


def choices_of_stream(events: Iterable[dict[str, Any]]) -> Choices:
    """The same of the events of a stream (`sse.data_events`): chunks, or those of `/v1/responses`.

    A response stands in the last event as a whole; the pieces before it, which its caller saw first, must say the same.
    """
    told: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for event in events:
        if not isinstance(event, dict):
            raise UnreadableError("answer: an event of the stream is no JSON object")
        if ends:
            raise UnreadableError("answer: something follows the end of the response")
        (ends if event.get("type") in _ENDED else told).append(event)
    try:
        if ends:
            choices = choices_of_answer(ends[0].get("response"))
            check_told(told, ends[0]["response"]["output"])
            return choices
        choices = assemble_choices(told)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UnreadableError(f"answer: not the chunks of a stream: {error!r}") from error
    if not choices:
        raise UnreadableError("answer: the stream has no end of a response, and no choices")
    return choices


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


def _choice(index: int, message: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    if isinstance(index, bool) or not isinstance(index, int):
        raise TypeError("an index is no integer")
    return {"index": index, "message": dict(message), "finish_reason": finish_reason}


def _said(text: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise TypeError("a text is no string")
    return {"role": "assistant", "content": text}


def _of_embeddings(data: Sequence[Mapping[str, Any]]) -> Choices:
    in_order = sorted(data, key=lambda one: int(one["index"]))
    if [one["index"] for one in in_order] != list(range(len(data))):
        raise ValueError("the vectors are not numbered from 0 on")
    vectors = (one["embedding"] for one in in_order)
    content = embeddings_content([one if isinstance(one, str) else packed_vector(one) for one in vectors])
    return [_choice(0, _said(content), "stop")]


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
