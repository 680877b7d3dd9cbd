"""One route as the OpenAPI document declares it: what it takes, what it answers, and which errors it can end in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel

from pinaivu_host.gateway.error_table import (
    DATABASE_UNAVAILABLE,
    INTERNAL_ERROR,
    INVALID_API_KEY,
    INVALID_JSON,
    INVALID_VALUE,
    KEY_DISABLED,
    METHOD_NOT_ALLOWED,
    MISSING_API_KEY,
    MISSING_FIELD,
    NOT_FOUND,
    REQUEST_TIMEOUT,
    REQUEST_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    ErrorKind,
)
from pinaivu_host.gateway.http_answer import JSON

Schema = dict[str, Any]
Key = Literal["", "account", "operator"]
_OF_KEYS: Mapping[Key, tuple[ErrorKind, ...]] = {
    "": (),
    "account": (MISSING_API_KEY, INVALID_API_KEY, KEY_DISABLED, DATABASE_UNAVAILABLE),
    "operator": (MISSING_API_KEY, INVALID_API_KEY),
}
_OF_BODIES = (
    REQUEST_TIMEOUT,
    REQUEST_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    INVALID_JSON,
    INVALID_VALUE,
    MISSING_FIELD,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query, or a header; those of the path are in the path."""

    name: str
    description: str
    schema: Schema
    where: Literal["query", "header"] = "query"


@dataclass(frozen=True, slots=True)
class Header:
    """A response's header. One that is not required is sent in the cases that its description names."""

    name: str
    description: str
    schema: Schema
    required: bool = True


LIMITS: Final = tuple(
    Header(
        f"x-ratelimit-{what}-{measure}",
        f"{text} Where the key has a limit of {measure} a minute.",
        schema,
        required=False,
    )
    for measure in ("requests", "tokens")
    for what, text, schema in (
        ("limit", "How many.", {"type": "integer"}),
        ("remaining", "How many are left.", {"type": "integer"}),
        ("reset", "How long until nothing is used any more, such as 1m0.5s.", {"type": "string"}),
    )
)


@dataclass(frozen=True, slots=True)
class Success:
    """One good answer. `shape` is a type, a schema as it stands, or None for no content."""

    shape: Any
    status: int = 200
    media_type: str = JSON
    description: str = "Done."
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. Errors of keys, bodies and paths need not be named."""

    method: str
    path: str
    tag: str
    summary: str
    answers: tuple[Success, ...]
    key: Key = ""
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    errors: tuple[ErrorKind, ...] = ()
    segments: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> tuple[Header, ...]:
        """Those of all its answers."""
        return LIMITS if self.key == "account" else ()

    def all_errors(self) -> list[ErrorKind]:
        """Every row of the table that this route can answer with, by status."""
        kinds = [*_OF_KEYS[self.key], *self.errors, INTERNAL_ERROR]
        if self.body is not None:
            kinds += _OF_BODIES
        if "{" in self.path:  # what stands for a name may hold slashes, and then makes another path
            kinds += [NOT_FOUND, METHOD_NOT_ALLOWED]
        return sorted(dict.fromkeys(kinds), key=lambda kind: kind.status)
