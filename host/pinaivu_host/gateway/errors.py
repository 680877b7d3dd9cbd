"""Every error a caller can get, in one table, in one JSON shape (product README; OpenAI's envelope).

`{"error": {"message", "type", "param", "code"}, "request_id"}`, and `detail` beside `error` on 422.
`code` is for programs and stable, `message` is for people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

_REQUEST: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_NO_RETRY: Final = ("x-should-retry", "false")
_SOON: Final = ("retry-after", "1")
_CLOSE: Final = ("connection", "close")
_encoder: Final = msgspec.json.Encoder()

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table: status, `type`, `code`, and the headers that always go with it."""

    status: int
    type: str
    code: str
    headers: tuple[Header, ...] = ()


INVALID_REQUEST: Final = ErrorKind(400, _REQUEST, "invalid_request")
UNSUPPORTED_PARAMETER: Final = ErrorKind(400, _REQUEST, "unsupported_parameter")
UNSUPPORTED_IMAGE_URL: Final = ErrorKind(400, _REQUEST, "unsupported_image_url")
CONTEXT_LENGTH_EXCEEDED: Final = ErrorKind(400, _REQUEST, "context_length_exceeded")
MISSING_API_KEY: Final = ErrorKind(401, "authentication_error", "missing_api_key", (("www-authenticate", "Bearer"),))
INVALID_API_KEY: Final = ErrorKind(401, "authentication_error", "invalid_api_key", (("www-authenticate", "Bearer"),))
KEY_DISABLED: Final = ErrorKind(403, "permission_error", "key_disabled")
MODEL_NOT_ALLOWED: Final = ErrorKind(403, "permission_error", "model_not_allowed")
PERMISSION_DENIED: Final = ErrorKind(403, "permission_error", "permission_denied")
NO_OPERATOR_KEY: Final = ErrorKind(403, "permission_error", "no_operator_key")
NOT_FOUND: Final = ErrorKind(404, _REQUEST, "not_found")
RECEIPT_NOT_FOUND: Final = ErrorKind(404, _REQUEST, "receipt_not_found")
NO_SUCH_MODEL: Final = ErrorKind(404, _REQUEST, "model_not_found")
METHOD_NOT_ALLOWED: Final = ErrorKind(405, _REQUEST, "method_not_allowed")
REQUEST_TIMEOUT: Final = ErrorKind(408, _REQUEST, "request_timeout", (_CLOSE,))
IDEMPOTENCY_CONFLICT: Final = ErrorKind(409, _REQUEST, "idempotency_conflict", (_NO_RETRY,))
IDEMPOTENCY_IN_PROGRESS: Final = ErrorKind(409, _REQUEST, "idempotency_in_progress", (_SOON,))
ORDER_CONFLICT: Final = ErrorKind(409, _REQUEST, "order_conflict", (_NO_RETRY,))
ORDER_REFUSED: Final = ErrorKind(409, _REQUEST, "order_refused", (_NO_RETRY,))
REQUEST_TOO_LARGE: Final = ErrorKind(413, _REQUEST, "request_too_large", (_CLOSE,))
UNSUPPORTED_MEDIA_TYPE: Final = ErrorKind(415, _REQUEST, "unsupported_media_type")
INVALID_JSON: Final = ErrorKind(422, _REQUEST, "invalid_json")
INVALID_VALUE: Final = ErrorKind(422, _REQUEST, "invalid_value")
MISSING_FIELD: Final = ErrorKind(422, _REQUEST, "missing_field")
MODEL_NOT_FOUND: Final = ErrorKind(422, _REQUEST, "model_not_found")
INSUFFICIENT_CREDIT: Final = ErrorKind(
    429, "rate_limit_error", "insufficient_credit", (("retry-after", "60"), _NO_RETRY)
)
CREDIT_HELD: Final = ErrorKind(429, "rate_limit_error", "insufficient_credit", (_SOON,))
TOO_MANY_IDEMPOTENCY_KEYS: Final = ErrorKind(429, "rate_limit_error", "too_many_idempotency_keys", (_NO_RETRY,))
INTERNAL_ERROR: Final = ErrorKind(500, _SERVER, "internal_error")
IDEMPOTENCY_RESULT_LOST: Final = ErrorKind(500, _SERVER, "idempotency_result_lost", (_NO_RETRY,))
NODE_FAILED: Final = ErrorKind(502, _SERVER, "node_failed")
NO_NODE_AVAILABLE: Final = ErrorKind(503, _SERVER, "no_node_available", (_SOON,))
COORDINATOR_UNAVAILABLE: Final = ErrorKind(503, _SERVER, "coordinator_unavailable", (_SOON,))
SHUTTING_DOWN: Final = ErrorKind(503, _SERVER, "shutting_down", (_SOON, _CLOSE))
TIMEOUT: Final = ErrorKind(504, _SERVER, "timeout")


@dataclass(frozen=True, slots=True)
class Detail:
    """One fault of a body: where (`loc` starts with "body"), what, and its stable type."""

    loc: Sequence[str | int]
    msg: str
    type: str


class ApiError(Exception):
    """An answer that is an error; `param` names the parameter at fault, `detail` goes with 422."""

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        param: str | None = None,
        detail: Sequence[Detail] = (),
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.param, self.detail = kind, message, param, detail
        self.headers = (*kind.headers, *headers)

    def body(self, request_id: str) -> bytes:
        """The JSON of an error response, and of an error event inside a stream."""
        shape: dict[str, Any] = {
            "error": {"message": self.message, "type": self.kind.type, "param": self.param, "code": self.kind.code},
            "request_id": request_id,
        }
        if self.kind.status == 422:
            shape["detail"] = self.detail or [Detail(("body",), self.message, self.kind.code)]
        return _encoder.encode(shape)
