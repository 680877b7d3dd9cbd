"""`GET /openapi.json`: what this gateway takes and answers, as OpenAPI 3.1 (spec.openapis.org/oas/v3.1.1).

Bodies are described by the models that validate them, errors by the table of errors. A route is declared once, in
`openapi.public` or `openapi.admin`; a test compares these with the router, others with what is really answered.
"""

import hashlib
import inspect
import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.error_table import ErrorKind
from pinaivu_host.gateway.http_answer import JSON, send_json
from pinaivu_host.gateway.openapi.admin import ADMIN
from pinaivu_host.gateway.openapi.answers import Error, ValidationError
from pinaivu_host.gateway.openapi.chat import ChatCompletionChunk, CompletionChunk
from pinaivu_host.gateway.openapi.operation import Header, Key, Operation, Parameter, Schema, Success
from pinaivu_host.gateway.openapi.public import PUBLIC
from pinaivu_host.gateway.openapi.responses import ResponseEvent

OPERATIONS: Final = (*PUBLIC, *ADMIN)
EVENTS: Final = (ChatCompletionChunk, CompletionChunk, ResponseEvent)
"""What streams are made of: no route's answer as a whole, so that nothing else would document them."""

_QUALIFIED: Final = re.compile(r"pinaivu_host__gateway__(\w+)__(\w+)")
_REF: Final = "#/components/schemas/"
_ID: Final = Header("x-request-id", "Names the request, in receipts as well.", {"type": "string", "pattern": "^req_"})
_TAGS: Final = {
    "models": "Asking models, and what they cost.",
    "account": "What the account of the key used and paid.",
    "evidence": "What anybody can verify, without a key.",
    "running": "For whoever runs gateways, without a key.",
    "operator": "For the market's operator, under the admin key.",
}
_SECURITY: Final[dict[Key, list[dict[str, list[str]]]]] = {
    "": [],
    "account": [{"key": []}],
    "operator": [{"admin": []}],
}
_HEADERS: Final[dict[str, Schema]] = {"retry-after": {"type": "integer", "minimum": 1}}


class OpenApiDocument:
    """The bytes, made at the first request."""

    async def document(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The whole document, for everybody."""
        body, tag = _encoded()
        headers = (("etag", tag), ("cache-control", "public, max-age=300"))
        await send_json(send, body, request_id=scope["state"]["request_id"], headers=headers)


@cache
def _encoded() -> tuple[bytes, str]:
    body = msgspec.json.encode(openapi_document())
    return body, f'"{hashlib.sha256(body).hexdigest()}"'


def openapi_document() -> Schema:
    """The document, with every schema that it refers to."""
    bodies = {one.body for one in OPERATIONS if one.body is not None}
    shown = {answer.shape for one in OPERATIONS for answer in one.answers if isinstance(answer.shape, type)}
    paths: Schema = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pinaivu",
            "version": version("pinaivu"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(bodies, {*shown, *EVENTS, Error, ValidationError}),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of an account, sk-pnv-..."},
                "admin": {"type": "http", "scheme": "bearer", "description": "The operator's admin key."},
            },
        },
    }


def _operation(one: Operation) -> Schema:
    shown: Schema = {
        "operationId": _operation_id(one),
        "tags": [one.tag],
        "summary": one.summary,
        "security": _SECURITY[one.key],
        "parameters": [*map(_segment, one.segments.items()), *map(_parameter, one.parameters)],
        "responses": {**_successes(one), **_failures(one)},
    }
    if one.body is not None:
        shown["requestBody"] = {"required": True, "content": {JSON: {"schema": {"$ref": _REF + one.body.__name__}}}}
    return shown


def _operation_id(one: Operation) -> str:
    words = one.path.removeprefix("/v1").replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([one.method.lower(), *filter(None, words)])


def _segment(segment: tuple[str, str]) -> Schema:
    name, text = segment
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _parameter(one: Parameter) -> Schema:
    return {"name": one.name, "in": one.where, "description": one.description, "schema": one.schema}


def _successes(one: Operation) -> Schema:
    shown: Schema = {}
    for status, group in itertools.groupby(one.answers, key=lambda answer: answer.status):
        alike = list(group)
        shown[str(status)] = {
            "description": alike[0].description,
            "headers": _headers([_ID, *one.headers, *(header for answer in alike for header in answer.headers)]),
        }
        content = {answer.media_type: _content(answer) for answer in alike if answer.shape is not None}
        if content:
            shown[str(status)]["content"] = content
    return shown


def _content(answer: Success) -> Schema:
    if isinstance(answer.shape, type):
        return {"schema": {"$ref": _REF + answer.shape.__name__}}
    return {"schema": answer.shape | {"description": answer.description}}


def _failures(one: Operation) -> Schema:
    by_status = itertools.groupby(one.all_errors(), key=lambda kind: kind.status)
    return {str(status): _failure(list(group), one.headers) for status, group in by_status}


def _failure(kinds: Sequence[ErrorKind], headers: Sequence[Header]) -> Schema:
    """All rows of one status. A header that only some of them have is not required."""
    shape = ValidationError if kinds[0].status == 422 else Error
    codes = {
        "type": "object",
        "properties": {"error": {"properties": {"code": {"enum": _unique(k.code for k in kinds)}}}},
    }
    return {
        "description": "\n".join(f"* `{kind.code}`: {kind.when}" for kind in kinds),
        "headers": _headers([_ID, *headers, *_constant_headers(kinds)]),
        "content": {JSON: {"schema": {"allOf": [{"$ref": _REF + shape.__name__}, codes]}}},
    }


def _constant_headers(kinds: Sequence[ErrorKind]) -> Iterator[Header]:
    for name in _unique(name for kind in kinds for name, _ in kind.headers if name != "connection"):
        values = _unique(value for kind in kinds for other, value in kind.headers if other == name)
        schema = _HEADERS.get(name, {"enum": values})
        required = all(name in dict(kind.headers) for kind in kinds)
        yield Header(name, "As with each of these errors." if required else "With some.", schema, required)


def _headers(headers: Sequence[Header]) -> Schema:
    return {
        one.name: {"description": one.description, "required": one.required, "schema": one.schema} for one in headers
    }


def _unique(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(values))


class _Untitled(GenerateJsonSchema):
    """Without titles, which repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - as pydantic has it
        return False


def _schemas(bodies: set[type[BaseModel]], shown: set[type]) -> Schema:
    models = sorted(bodies, key=lambda model: model.__name__)
    _, asked = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF + "{model}", schema_generator=_Untitled
    )
    types = sorted(shown, key=lambda shape: shape.__name__)
    _, answered = msgspec.json.schema_components(types, ref_template=_REF + "{name}")
    twice = asked["$defs"].keys() & answered.keys()
    assert not twice, f"two schemas of one name: {twice}"
    return {**_renamed(asked["$defs"]), **{name: _tidy(schema) for name, schema in answered.items()}}


def _renamed(schemas: Schema) -> Schema:
    """Names that two modules use have the module's name before them, as words."""
    text = msgspec.json.encode(schemas).decode()
    renamed: Schema = msgspec.json.decode(_QUALIFIED.sub(lambda found: _words(found[1]) + found[2], text))
    return renamed


def _words(module: str) -> str:
    return "".join(word.capitalize() for word in module.split("_"))


def _tidy(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """A schema of msgspec in JSON Schema's own patterns, open for fields that later versions add."""
    if isinstance(schema, list):
        return [_tidy(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {name: _tidy(value) for name, value in schema.items()}
    if isinstance(tidy.get("title"), str):
        del tidy["title"]
    if tidy.get("additionalProperties") is False:
        del tidy["additionalProperties"]
    if isinstance(tidy.get("pattern"), str):
        tidy["pattern"] = tidy["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(tidy.get("description"), str):
        tidy["description"] = inspect.cleandoc(tidy["description"])
    return tidy
