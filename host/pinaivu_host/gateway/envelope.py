"""What every object of one answer begins with: id, object, created, model, request_id."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Envelope:
    """The same for all chunks of one answer. The id is ours: engines repeat theirs."""

    request_id: str
    created_s: int
    model: str
    service_tier: bool  # whether the caller asked for one; the answer is always "default"

    def answer_id(self, prefix: str) -> str:
        """An id of this answer, or of a part of it, in the style of its endpoint."""
        return prefix + self.request_id.removeprefix("req_")

    def fields(self, kind: str, *, prefix: str) -> dict[str, Any]:
        """The common fields of an object of this kind, in OpenAI's order."""
        fields: dict[str, Any] = {
            "id": self.answer_id(prefix),
            "object": kind,
            "created": self.created_s,
            "model": self.model,
        }
        if self.service_tier:
            fields["service_tier"] = "default"
        return fields

    def head(self, kind: str, *, prefix: str) -> bytes:
        """Those fields and the request_id as JSON, the object left open."""
        return _encode({**self.fields(kind, prefix=prefix), "request_id": self.request_id})[:-1]
