"""What a node gets of a request's inner values: a table of members (facts of OpenAI's API), null standing for absent.

Engines act on members that nobody reviewed here, and some refuse a null. What is a caller's own data, such as a JSON
schema, in which null has a meaning, is not looked into. Values of another shape than the table's are left alone, so
that this is defined for every JSON value. Part of the projection that clients compute (docs/verifying.md).
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Members: TypeAlias = Mapping[str, "Members | None"]
"""The members that are kept of an object, or of each object of a list; None keeps a member's value as it is."""

_FUNCTION_NAME: Final[Members] = {"type": None, "function": {"name": None}}
_TOOL_CALL: Final[Members] = {"id": None, "type": None, "function": {"name": None, "arguments": None}}
_PART: Final[Members] = {"type": None, "text": None, "refusal": None, "image_url": {"url": None, "detail": None}}
_MESSAGE: Final[Members] = {"role": None, "content": _PART, "name": None}
_ASSISTANT: Final[Members] = {**_MESSAGE, "refusal": None, "tool_calls": _TOOL_CALL}
_TOOL: Final[Members] = {**_MESSAGE, "tool_call_id": None}
MEMBERS: Final[Members] = {
    "response_format": {
        "type": None,
        "json_schema": {"name": None, "description": None, "schema": None, "strict": None},
    },
    "tools": {
        "type": None,
        "function": {"name": None, "description": None, "parameters": None, "strict": None},
    },
    "tool_choice": _FUNCTION_NAME,
}
"""Of every field but `messages`, whose members depend on the role; fields that are not named stay as they are."""


def forwarded_value(name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """What a node gets of a request's field."""
    if name == "messages" and isinstance(value, list):
        return [_message(one) for one in value]
    return _kept(value, MEMBERS.get(name))


def _kept(value: Any, members: "Members | None") -> Any:  # noqa: ANN401 - any JSON value
    if members is None:
        return value
    if isinstance(value, list):
        return [_kept(one, members) if isinstance(one, dict) else one for one in value]
    if isinstance(value, dict):
        return {name: _kept(value[name], inner) for name, inner in members.items() if value.get(name) is not None}
    return value


def _message(message: Any) -> Any:  # noqa: ANN401 - any JSON value
    role = message.get("role") if isinstance(message, dict) else None
    if role != "assistant":
        return _kept(message, _TOOL if role == "tool" else _MESSAGE)
    return _as_text(_kept(message, _ASSISTANT))


def _as_text(message: dict[str, Any]) -> dict[str, Any]:
    """An assistant's message whose refusals are text: engines know no other way to say what was said."""
    refusal, content = message.pop("refusal", None), message.get("content")
    if isinstance(content, list):
        message["content"] = [_text_of(part) for part in content]
    elif not content and refusal is not None:
        message["content"] = refusal
    return message


def _text_of(part: Any) -> Any:  # noqa: ANN401 - any JSON value
    refused = isinstance(part, dict) and part.get("type") == "refusal" and "refusal" in part
    return {"type": "text", "text": part["refusal"]} if refused else part
