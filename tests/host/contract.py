"""The OpenAPI document as a contract: whether an answer is one that the document allows."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from pinaivu_host.gateway.openapi.document import OPERATIONS, openapi_document
from pinaivu_host.gateway.openapi.operation import Operation

Validator = jsonschema_rs.Draft202012Validator


class Contract:
    """Schemas are closed here: a field that the document does not know is a fault of the document."""

    def __init__(self) -> None:
        self.document = openapi_document()
        answers = {one.shape.__name__ for each in OPERATIONS for one in each.answers if isinstance(one.shape, type)}
        self.components = _closed(self.document["components"])
        assert answers <= self.components["schemas"].keys()
        self._validators: dict[str | int, Validator] = {}

    def check(self, operation: Operation, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """AssertionError unless the answer is as documented: status, headers, media type, content."""
        assert list(self.faults(operation, status, headers, body)) == []

    def faults(self, operation: Operation, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
        """What is not as documented, a sentence each."""
        responses = self.document["paths"][operation.path][operation.method.lower()]["responses"]
        response = responses.get(str(status))
        if response is None:
            yield f"status {status} is not documented: {body[:300]!r}"
            return
        yield from self._header_faults(response["headers"], headers)
        media_type = headers.get("content-type", "").split(";")[0]
        content = response.get("content", {})
        if media_type in content:
            yield from self._content_faults(content[media_type]["schema"], media_type, body)
        elif content:
            yield f"media type {media_type!r} is not documented"
        elif body:
            yield "there is a body where none is documented"

    def schema_faults(self, schema: dict[str, Any], value: object) -> Iterator[str]:
        """Where a value does not have a schema of the document."""
        key = schema.get("$ref") or id(schema)  # those without are parts of the document and live as long
        if key not in self._validators:
            self._validators[key] = Validator({**_closed(schema), "components": self.components})
        for error in self._validators[key].iter_errors(value):
            yield f"{list(error.instance_path)}: {error.message[:300]}"

    def _header_faults(self, documented: dict[str, Any], headers: Mapping[str, str]) -> Iterator[str]:
        for name, header in documented.items():
            if name not in headers:
                if header["required"]:
                    yield f"the header {name} is missing"
                continue
            value = headers[name]
            number = header["schema"].get("type") == "integer" and value.isdecimal()
            yield from (
                f"{name}{fault}" for fault in self.schema_faults(header["schema"], int(value) if number else value)
            )

    def _content_faults(self, schema: dict[str, Any], media_type: str, body: bytes) -> Iterator[str]:
        if media_type == "text/event-stream":
            for line in body.split(b"\n"):
                if line.startswith(b"data: {"):
                    yield from self._event_faults(json.loads(line.removeprefix(b"data: ")))
        elif media_type.endswith("json"):
            yield from self.schema_faults(schema, json.loads(body))
        else:
            body.decode()

    def _event_faults(self, event: dict[str, Any]) -> Iterator[str]:
        name = EVENTS.get(event.get("object", ""), "ResponseEvent" if "sequence_number" in event else "Error")
        return self.schema_faults({"$ref": f"#/components/schemas/{name}"}, event)


EVENTS = {"chat.completion.chunk": "ChatCompletionChunk", "text_completion": "CompletionChunk"}


def _closed(schema: Any) -> Any:
    """No object has properties that are not named; what is open on purpose names none."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and isinstance(schema.get("required"), list):
        closed.setdefault("additionalProperties", False)
    return closed
