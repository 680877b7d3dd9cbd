"""What `POST /v1/responses` answers, whole and in events, as types for the OpenAPI document."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from pinaivu_host.gateway.answer import TokenLogprob
from pinaivu_host.gateway.openapi.answers import Answer, Count, ErrorObject, Seconds
from pinaivu_host.gateway.responses.items import Status
from pinaivu_shared.ids import RequestId


class OutputText(Answer):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]


class ResponseItem(Answer, kw_only=True):
    """A message with its content, or a call of a function with its name and arguments."""

    id: str
    type: Literal["message", "function_call"]
    status: Status
    role: Literal["assistant"] | UnsetType = UNSET
    content: list[OutputText] | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class InputTokensDetails(Answer):
    """None are cached."""

    cached_tokens: Count
    cache_write_tokens: Count


class OutputTokensDetails(Answer):
    """None are counted apart."""

    reasoning_tokens: Count


class ResponseUsage(Answer):
    """Tokens, as they are charged."""

    input_tokens: Count
    input_tokens_details: InputTokensDetails
    output_tokens: Count
    output_tokens_details: OutputTokensDetails
    total_tokens: Count


class IncompleteDetails(Answer):
    """Why the response ends before its end."""

    reason: Literal["max_output_tokens", "content_filter"]


class Response(Answer, kw_only=True):
    """A response, with the settings that it was asked for with. Nothing is stored."""

    id: str
    object: Literal["response"]
    created_at: Seconds
    completed_at: Seconds | None
    status: Status
    error: None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[ResponseItem]
    instructions: str | None
    max_output_tokens: Count | None
    max_tool_calls: Count | None
    metadata: dict[str, Any]
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[Any]
    top_p: float
    frequency_penalty: float
    presence_penalty: float
    top_logprobs: Count
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: dict[str, Any]
    store: Literal[False]
    truncation: Literal["disabled"]
    background: Literal[False]
    prompt_cache_key: str | None
    safety_identifier: str | None
    user: str | None
    service_tier: Literal["default"]
    usage: ResponseUsage | None
    request_id: RequestId | UnsetType = UNSET


class ResponseEvent(Answer, kw_only=True):
    """An event of a stream; its `type` says which of the fields it has. `error` ends a stream that broke."""

    type: str
    sequence_number: Count
    response: Response | UnsetType = UNSET
    item: ResponseItem | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    output_index: Count | UnsetType = UNSET
    content_index: Count | UnsetType = UNSET
    part: OutputText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    param: str | UnsetType | None = UNSET
    error: ErrorObject | UnsetType = UNSET
    request_id: RequestId | UnsetType = UNSET
