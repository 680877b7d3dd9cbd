"""The least value that a JSON schema takes, of the keywords that programs write schemas with (Pydantic, zod).

What a schema asks for beyond them may not be met: this is no validator.
"""

import math
from typing import Annotated, Any, Final, Literal

import msgspec

DEPTH_MAX: Final = 32
"""Deeper than this go only values of schemas that require themselves, of which there are none."""
_PLAIN: Final = {"boolean": False, "null": None}
_Size = Annotated[int, msgspec.Meta(ge=0, le=1024)]
_Type = Literal["array", "boolean", "integer", "null", "number", "object", "string"]


class _Keywords(msgspec.Struct, rename="camel"):
    """What is read of a schema once references are followed; msgspec.ValidationError for what is no schema."""

    const: Any = msgspec.UNSET
    enum: list[Any] | None = None
    any_of: list[Any] | None = None
    one_of: list[Any] | None = None
    type: _Type | list[_Type] = "object"
    properties: dict[str, Any] = {}
    required: list[str] = []
    items: Any = None
    min_items: _Size = 0
    min_length: _Size = 0
    minimum: float = 0
    exclusive_minimum: float | None = None


def minimal_value(schema: object) -> object:
    """The constant or the first alternative if there is one, else the least of its type; an object has what it must.

    msgspec.ValidationError for what is no schema or takes no value, RecursionError for one that is composed of itself.
    """
    return _least(schema, schema, 0)


def _least(schema: object, root: object, depth: int) -> object:
    if depth > DEPTH_MAX:
        raise msgspec.ValidationError("the schema requires itself")
    known = msgspec.convert(_resolved(schema, root), _Keywords)
    if known.const is not msgspec.UNSET:
        return known.const
    if known.enum:
        return known.enum[0]
    if alternatives := known.any_of or known.one_of:
        return _least(alternatives[0], root, depth + 1)
    kind = known.type if isinstance(known.type, str) else next(iter(known.type), "object")
    if kind == "object":
        return {name: _least(known.properties.get(name), root, depth + 1) for name in known.required}
    if kind == "array":
        return [_least(known.items, root, depth + 1)] * known.min_items if known.min_items else []
    return _least_scalar(kind, known)


def _least_scalar(kind: str, known: _Keywords) -> object:
    if kind == "string":
        return "x" * known.min_length
    if kind in _PLAIN:
        return _PLAIN[kind]
    least, above = math.ceil(known.minimum), known.exclusive_minimum
    return least if above is None else max(least, math.floor(above) + 1)


def _resolved(schema: object, root: object) -> dict[str, Any]:
    """The schema with all that it refers to or is composed of; what leads nowhere asks for nothing."""
    if not isinstance(schema, dict):
        return {}
    found: dict[str, Any] = {}
    for part in (*msgspec.convert(schema.get("allOf", ()), list[Any]), *_referred(schema, root)):
        found |= _resolved(part, root)
    return found | schema


def _referred(schema: dict[str, Any], root: object) -> list[object]:
    """What `$ref` leads to, a place in the schema itself."""
    if not isinstance(reference := schema.get("$ref"), str):
        return []
    here = root
    for step in reference.removeprefix("#").split("/")[1:]:
        here = here.get(step) if isinstance(here, dict) else None
    return [here]
