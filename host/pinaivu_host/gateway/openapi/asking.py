"""The routes that ask a model, as the OpenAPI document declares them: they differ in bodies and answers only."""

from typing import Final

from pydantic import BaseModel

from pinaivu_host.gateway.chat_request import ChatRequest
from pinaivu_host.gateway.completion_request import CompletionRequest
from pinaivu_host.gateway.embeddings import EmbeddingsRequest
from pinaivu_host.gateway.error_table import (
    BUDGET_EXCEEDED,
    BUDGET_HELD,
    CONTEXT_LENGTH_EXCEEDED,
    COORDINATOR_UNAVAILABLE,
    CREDIT_HELD,
    IDEMPOTENCY_CONFLICT,
    IDEMPOTENCY_IN_PROGRESS,
    IDEMPOTENCY_RESULT_LOST,
    INSUFFICIENT_CREDIT,
    INVALID_REQUEST,
    MODEL_NOT_ALLOWED,
    MODEL_NOT_FOUND,
    NO_NODE_AVAILABLE,
    NODE_FAILED,
    OVERLOADED,
    PERMISSION_DENIED,
    RATE_LIMIT_EXCEEDED,
    REQUEST_OVER_LIMIT,
    SHUTTING_DOWN,
    TIMEOUT,
    TOO_MANY_IDEMPOTENCY_KEYS,
    UNSUPPORTED_IMAGE_URL,
    UNSUPPORTED_PARAMETER,
)
from pinaivu_host.gateway.idempotency_key import KEY_CHARACTERS_MAX, NAME
from pinaivu_host.gateway.openapi.chat import ChatCompletion, Completion, Embeddings
from pinaivu_host.gateway.openapi.operation import Header, Operation, Parameter, Schema, Success
from pinaivu_host.gateway.openapi.responses import Response
from pinaivu_host.gateway.responses.request import ResponsesRequest

STREAM: Final = "text/event-stream"
TEXT: Final[Schema] = {"type": "string"}
SALT: Final = Header(
    "x-pinaivu-salt", "Opens the receipt's commitments.", {"type": "string", "pattern": "^[0-9a-f]{64}$"}
)
REPLAYED: Final = Header(
    "idempotent-replayed",
    "Where the answer is of an earlier request with the same key.",
    {"const": "true"},
    required=False,
)
IDEMPOTENCY_KEY: Final = Parameter(
    NAME,
    "The same key with the same body gets the same answer for 24 hours, and is charged once.",
    {"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS_MAX, "pattern": "^[ -~]*$"},
    where="header",
)
ASKING: Final = (
    INVALID_REQUEST,
    UNSUPPORTED_PARAMETER,
    UNSUPPORTED_IMAGE_URL,
    CONTEXT_LENGTH_EXCEEDED,
    MODEL_NOT_ALLOWED,
    PERMISSION_DENIED,
    IDEMPOTENCY_CONFLICT,
    IDEMPOTENCY_IN_PROGRESS,
    MODEL_NOT_FOUND,
    INSUFFICIENT_CREDIT,
    CREDIT_HELD,
    RATE_LIMIT_EXCEEDED,
    REQUEST_OVER_LIMIT,
    BUDGET_EXCEEDED,
    BUDGET_HELD,
    TOO_MANY_IDEMPOTENCY_KEYS,
    IDEMPOTENCY_RESULT_LOST,
    NODE_FAILED,
    NO_NODE_AVAILABLE,
    COORDINATOR_UNAVAILABLE,
    OVERLOADED,
    SHUTTING_DOWN,
    TIMEOUT,
)
"""How a request to a model can end."""


def asking(path: str, summary: str, body: type[BaseModel], answer: type, events: str) -> Operation:
    """A route that asks a model, whole or as a stream of `events`; "" where it cannot stream."""
    answers = [Success(answer, description="The whole answer.", headers=(SALT, REPLAYED))]
    if events:
        answers.append(Success(TEXT, media_type=STREAM, description=events, headers=(SALT, REPLAYED)))
    return Operation(
        method="POST",
        path=path,
        tag="models",
        summary=summary,
        key="account",
        parameters=(IDEMPOTENCY_KEY,),
        body=body,
        answers=tuple(answers),
        errors=ASKING,
    )


def _events(chunk: str) -> str:
    return f"Events: `data:` with a {chunk} each, at the end `data: [DONE]`; an Error if it breaks."


ASKED: Final = (
    asking(
        "/v1/chat/completions",
        "Ask a model",
        ChatRequest,
        ChatCompletion,
        _events("ChatCompletionChunk"),
    ),
    asking("/v1/completions", "Have a text continued", CompletionRequest, Completion, _events("CompletionChunk")),
    asking(
        "/v1/responses",
        "Ask a model, in the shape of OpenAI's newer API",
        ResponsesRequest,
        Response,
        "Events: `event:` with its type and `data:` with a ResponseEvent each.",
    ),
    asking("/v1/embeddings", "Have texts made vectors", EmbeddingsRequest, Embeddings, ""),
)
