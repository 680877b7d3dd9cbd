"""The least value that a JSON schema takes, of the keywords that programs write schemas with (Pydantic, zod).

What a schema asks for beyond them may not be met: this is no validator.
"""

import json
import math
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

DEPTH_MAX: Final = 32
"""Levels of required values within each other; more have only schemas that require themselves, which no value meets.

It bounds no work: what one level requires twice is read twice. `STEPS_MAX` does.
"""
STEPS_MAX: Final = 50_000
"""Schemas and entries read, and values and characters written, for one schema: a short one can ask for gigabytes."""
_PLAIN: Final = {"boolean": False, "null": None}
_Size = Annotated[int, msgspec.Meta(ge=0, le=1024)]
_Type = Literal["array", "boolean", "integer", "null", "number", "object", "string"]
_Value = TypeVar("_Value")


class _Composition(msgspec.Struct, rename="camel"):
    """The other schemas that a value must meet as well; msgspec.ValidationError for what is no schema."""

    all_of: list[Any] = []
    any_of: list[Any] | None = None
    one_of: list[Any] | None = None
    reference: str | None = msgspec.field(default=None, name="$ref")


class _Keywords(msgspec.Struct, rename="camel"):
    """What a schema says itself; msgspec.ValidationError for what is no schema."""

    const: Any = msgspec.UNSET
    enum: list[Any] | None = None
    type: _Type | list[_Type] = "object"
    properties: dict[str, Any] = {}
    required: list[str] = []
    items: Any = None
    min_items: _Size = 0
    min_length: _Size = 0
    minimum: float = 0
    exclusive_minimum: float | None = None


def minimal_value(schema: object) -> object:
    """The constant or the least of its type, of the first alternatives if there are any; an object has what it must.

    msgspec.ValidationError for what is no schema, takes no value, or needs more than `STEPS_MAX`.
    """
    return _Reader(schema).least(schema, 0)


class _Reader:
    """Reads one schema, which its references are places of, within its steps."""

    def __init__(self, root: object) -> None:
        self._root, self._left = root, STEPS_MAX

    def least(self, schema: object, depth: int) -> object:
        if depth > DEPTH_MAX:
            raise msgspec.ValidationError("the schema requires itself")
        known = _merged(self._parts(schema))
        if known.const is not msgspec.UNSET:
            return self._written(known.const)
        if known.enum:
            return self._written(known.enum[0])
        kind = known.type if isinstance(known.type, str) else next(iter(known.type), "object")
        if kind == "object":
            return {self._written(name): self.least(known.properties.get(name), depth + 1) for name in known.required}
        if kind == "array":
            return self._repeated(known.items, known.min_items, depth + 1) if known.min_items else []
        return self._written(_least_scalar(kind, known))

    def _repeated(self, items: object, count: int, depth: int) -> list[object]:
        """Each item counts as if it were read again: it is written again."""
        left = self._left
        item = self.least(items, depth)
        self._spend((left - self._left) * (count - 1))
        return [item] * count

    def _parts(self, schema: object) -> list[dict[str, Any]]:
        """All that the value must meet, without what it is composed of; later parts are nearer to the point."""
        parts, unread = [], [schema]
        while unread:
            self._spend(1)
            if not isinstance(part := unread.pop(), dict):
                continue  # true, or what a reference that leads nowhere asks for
            self._spend(sum(len(value) for value in part.values() if isinstance(value, dict | list)) + len(part))
            composition = msgspec.convert(part, _Composition)
            own = {keyword: value for keyword, value in part.items() if keyword not in _COMPOSING}
            if len(own) == len(part):
                parts.append(part)
            else:
                unread += [*_alternative(composition), own, *self._referred(composition), *composition.all_of[::-1]]
        return parts

    def _referred(self, composition: _Composition) -> list[object]:
        """What `$ref` leads to, a place in the schema itself."""
        if composition.reference is None:
            return []
        self._spend(len(composition.reference))
        here = self._root
        for step in composition.reference.removeprefix("#").split("/")[1:]:
            here = here.get(step) if isinstance(here, dict) else None
        return [here]

    def _written(self, value: _Value) -> _Value:
        """The value, for as many steps as it has characters."""
        self._spend(len(json.dumps(value)))
        return value

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise msgspec.ValidationError(f"the schema takes more than {STEPS_MAX} steps to answer")


_COMPOSING: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Composition))


def _alternative(composition: _Composition) -> list[object]:
    """The first of each."""
    return [of[0] for of in (composition.any_of, composition.one_of) if of]


def _merged(parts: list[dict[str, Any]]) -> _Keywords:
    """Every part's properties and what it requires; of the other keywords, the last part's that has it."""
    found: dict[str, Any] = {}
    properties: dict[str, list[Any]] = {}
    required: dict[str, None] = {}
    for part in parts:
        known = msgspec.convert(part, _Keywords)
        found |= part
        required |= dict.fromkeys(known.required)
        for name, schema in known.properties.items():
            properties.setdefault(name, []).append(schema)
    joined = {name: schemas[0] if len(schemas) == 1 else {"allOf": schemas} for name, schemas in properties.items()}
    return msgspec.convert(found | {"properties": joined, "required": list(required)}, _Keywords)


def _least_scalar(kind: str, known: _Keywords) -> object:
    if kind == "string":
        return "x" * known.min_length
    if kind in _PLAIN:
        return _PLAIN[kind]
    least, above = math.ceil(known.minimum), known.exclusive_minimum
    return least if above is None else max(least, math.floor(above) + 1)
