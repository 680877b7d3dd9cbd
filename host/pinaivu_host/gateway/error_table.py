"""Every error a caller can get, in one table (product README; OpenAI's envelope).

`code` is for programs and stable. docs/developers/errors.md is written from the table, a test walks it, and the OpenAPI
document says which rows a route can answer with.
"""

from dataclasses import dataclass, field
from typing import Final

_REQUEST: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_NO_RETRY: Final = ("x-should-retry", "false")
_SOON: Final = ("retry-after", "1")
_CLOSE: Final = ("connection", "close")
_RETRIED: Final = frozenset({408, 409, 429})

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table: status, `type`, `code`, the constant headers; `when` and `do` are for people."""

    status: int
    type: str
    code: str
    headers: tuple[Header, ...] = ()
    when: str = field(kw_only=True)
    do: str = field(kw_only=True)

    @property
    def retried(self) -> bool:
        """Whether OpenAI's SDKs send the request again by themselves: `x-should-retry` decides, else the status."""
        return _NO_RETRY not in self.headers and (self.status in _RETRIED or self.status >= 500)


# fmt: off
# A row says in its first line what programs see, in the next two when it happens and what its reader can do.

INVALID_REQUEST: Final = ErrorKind(
    400, _REQUEST, "invalid_request",
    when="A parameter or header makes no sense, by itself or beside the others.",
    do="Change what `param` names.",
)
UNSUPPORTED_PARAMETER: Final = ErrorKind(
    400, _REQUEST, "unsupported_parameter",
    when="A parameter is not supported here, or no node can do what it asks for.",
    do="Leave out what `param` names.",
)
UNSUPPORTED_IMAGE_URL: Final = ErrorKind(
    400, _REQUEST, "unsupported_image_url",
    when="An image is given by an address; nodes fetch none.",
    do="Send the image itself as a `data:` URL.",
)
CONTEXT_LENGTH_EXCEEDED: Final = ErrorKind(
    400, _REQUEST, "context_length_exceeded",
    when="What `param` names is longer than the context of every node that offers the model.",
    do="Shorten it, or ask another model: `GET /v1/models` has their `context_length`.",
)
MISSING_API_KEY: Final = ErrorKind(
    401, "authentication_error", "missing_api_key", (("www-authenticate", "Bearer"),),
    when="The request has no key.",
    do="Send `Authorization: Bearer sk-pnv-...`.",
)
INVALID_API_KEY: Final = ErrorKind(
    401, "authentication_error", "invalid_api_key", (("www-authenticate", "Bearer"),),
    when="There is no such key, or it has expired.",
    do="Use another key; ask whoever gave you this one.",
)
KEY_DISABLED: Final = ErrorKind(
    403, "permission_error", "key_disabled",
    when="The key has been revoked.",
    do="Use another key.",
)
MODEL_NOT_ALLOWED: Final = ErrorKind(
    403, "permission_error", "model_not_allowed",
    when="The key has a list of models, and this model is not on it.",
    do="Ask a model of the key's list, or have a key made without one.",
)
PERMISSION_DENIED: Final = ErrorKind(
    403, "permission_error", "permission_denied",
    when="The key is read-only and was used to ask a model.",
    do="Use a key with full permission.",
)
NO_OPERATOR_KEY: Final = ErrorKind(
    403, "permission_error", "no_operator_key",
    when="For operators: this host holds no operator's key, so it signs no orders.",
    do="Sign the order where the key is and hand it in at `POST /admin/v1/orders`.",
)
NOT_FOUND: Final = ErrorKind(
    404, _REQUEST, "not_found",
    when="There is nothing at this path.",
    do="Check the path; the base URL ends in `/v1`, once.",
)
RECEIPT_NOT_FOUND: Final = ErrorKind(
    404, _REQUEST, "receipt_not_found",
    when="The account has no receipt of this id.",
    do="Check the id, and that the key is of the account that asked.",
)
NO_SUCH_MODEL: Final = ErrorKind(
    404, _REQUEST, "model_not_found",
    when="`GET /v1/models/{model}`: no node offers the model right now, or the key's list of models lacks it.",
    do="Take a model that `GET /v1/models` lists.",
)
METHOD_NOT_ALLOWED: Final = ErrorKind(
    405, _REQUEST, "method_not_allowed",
    when="The path is right and the method is not.",
    do="Use a method that the header `Allow` names.",
)
REQUEST_TIMEOUT: Final = ErrorKind(
    408, _REQUEST, "request_timeout", (_CLOSE,),
    when="The body did not arrive within 30 s.",
    do="Try again; over a slow line send a smaller body.",
)
IDEMPOTENCY_CONFLICT: Final = ErrorKind(
    409, _REQUEST, "idempotency_conflict", (_NO_RETRY,),
    when="The idempotency key was used with another body.",
    do="Use a new key for a new request.",
)
IDEMPOTENCY_IN_PROGRESS: Final = ErrorKind(
    409, _REQUEST, "idempotency_in_progress", (_SOON,),
    when="A request with this idempotency key has just begun at another gateway.",
    do="Wait for `Retry-After` and send the same again: it gets the other's answer.",
)
ORDER_CONFLICT: Final = ErrorKind(
    409, _REQUEST, "order_conflict", (_NO_RETRY,),
    when="For operators: the reference was used for another order.",
    do="Give a new order a reference of its own.",
)
ORDER_REFUSED: Final = ErrorKind(
    409, _REQUEST, "order_refused", (_NO_RETRY,),
    when="For operators: the enclave refused the order; the message has its reason.",
    do="Make an order that the books allow.",
)
REQUEST_TOO_LARGE: Final = ErrorKind(
    413, _REQUEST, "request_too_large", (_CLOSE,),
    when="The body has more bytes than this gateway takes.",
    do="Send less: fewer messages, smaller images.",
)
UNSUPPORTED_MEDIA_TYPE: Final = ErrorKind(
    415, _REQUEST, "unsupported_media_type",
    when="By its content type the body is not JSON, or by its content encoding it is compressed.",
    do="Send `Content-Type: application/json` (curl's `-d` alone does not) and the body as it is.",
)
INVALID_JSON: Final = ErrorKind(
    422, _REQUEST, "invalid_json",
    when="The body is no JSON object in UTF-8, or names a key twice.",
    do="Write the body with a JSON library.",
)
INVALID_VALUE: Final = ErrorKind(
    422, _REQUEST, "invalid_value",
    when="A field has the wrong type or is out of its range; `detail` lists all such fields.",
    do="Change what `param` and `detail` name.",
)
MISSING_FIELD: Final = ErrorKind(
    422, _REQUEST, "missing_field",
    when="A field that must be there is not; `detail` lists all faults.",
    do="Add what `param` and `detail` name.",
)
MODEL_NOT_FOUND: Final = ErrorKind(
    422, _REQUEST, "model_not_found",
    when="A request is to a model that this market does not have.",
    do="Take a model that `GET /v1/models` lists.",
)
HEAD_TOO_LARGE: Final = ErrorKind(
    431, _REQUEST, "head_too_large", (_CLOSE,),
    when="The request's line and headers together are too large, on any path.",
    do="Send fewer or shorter headers; cookies are of no use here.",
)
INSUFFICIENT_CREDIT: Final = ErrorKind(
    429, "rate_limit_error", "insufficient_credit", (("retry-after", "60"), _NO_RETRY),
    when="What the account has left does not pay for the request.",
    do="Have credit paid in; shorter requests may still be served.",
)
CREDIT_HELD: Final = ErrorKind(
    429, "rate_limit_error", "insufficient_credit", (_SOON,),
    when="The account's running requests hold its credit until they end.",
    do="Wait for `Retry-After` and try again, or run fewer requests at once.",
)
RATE_LIMIT_EXCEEDED: Final = ErrorKind(
    429, "rate_limit_error", "rate_limit_exceeded",
    when="The key has used its requests or tokens of a minute, or runs as many requests at once as it may.",
    do="Wait for `Retry-After` and try again; the `x-ratelimit-*` headers say what is left.",
)
REQUEST_OVER_LIMIT: Final = ErrorKind(
    429, "rate_limit_error", "rate_limit_exceeded", (("retry-after", "60"), _NO_RETRY),
    when="The request alone could use more tokens than the key has in a minute.",
    do="Shorten it, or set a lower limit for its answer.",
)
BUDGET_EXCEEDED: Final = ErrorKind(
    429, "rate_limit_error", "budget_exceeded", (_NO_RETRY,),
    when="What is left of the key's budget for the month does not pay for the request.",
    do="Have the budget raised, or wait for the next month: `Retry-After` is the time until then.",
)
BUDGET_HELD: Final = ErrorKind(
    429, "rate_limit_error", "budget_exceeded", (_SOON,),
    when="Running requests hold what is left of the key's budget until they end.",
    do="Wait for `Retry-After` and try again, run fewer requests at once, or set lower limits for their answers.",
)
TOO_MANY_IDEMPOTENCY_KEYS: Final = ErrorKind(
    429, "rate_limit_error", "too_many_idempotency_keys", (_NO_RETRY,),
    when="The account has used as many idempotency keys within 24 hours as are kept.",
    do="Send requests without a key, or wait for `Retry-After`.",
)
INTERNAL_ERROR: Final = ErrorKind(
    500, _SERVER, "internal_error",
    when="Something is wrong with the gateway itself.",
    do="Try again; if it stays, report the `request_id`.",
)
IDEMPOTENCY_RESULT_LOST: Final = ErrorKind(
    500, _SERVER, "idempotency_result_lost", (_NO_RETRY,),
    when="The former request with this idempotency key was answered and charged, but its answer could not be stored.",
    do="Use a new key to ask again; that is charged again.",
)
NODE_FAILED: Final = ErrorKind(
    502, _SERVER, "node_failed",
    when="The nodes that were given the request failed. It costs nothing.",
    do="Try again.",
)
NO_NODE_AVAILABLE: Final = ErrorKind(
    503, _SERVER, "no_node_available", (_SOON,),
    when="No node offers the model, or all that do are busy.",
    do="Wait for `Retry-After` and try again, or ask another model.",
)
COORDINATOR_UNAVAILABLE: Final = ErrorKind(
    503, _SERVER, "coordinator_unavailable", (_SOON,),
    when="The gateway cannot reach the enclave that decides over jobs and money.",
    do="Wait for `Retry-After` and try again.",
)
DATABASE_UNAVAILABLE: Final = ErrorKind(  # not "overloaded": fewer requests do not bring it back
    503, _SERVER, "database_unavailable", (_SOON,),
    when="The gateway cannot reach its own database.",
    do="Wait for `Retry-After` and try again.",
)
OVERLOADED: Final = ErrorKind(
    503, _SERVER, "overloaded", (_SOON,),
    when="So much is asked for at this moment that this request was turned away.",
    do="Wait for `Retry-After` and try again.",
)
TOO_MANY_CONNECTIONS: Final = ErrorKind(
    503, _SERVER, "too_many_connections", (_SOON, _CLOSE),
    when="This gateway has as many open connections as it takes, whatever is asked on them.",
    do="Wait for `Retry-After` and try again; use one connection for many requests.",
)
SHUTTING_DOWN: Final = ErrorKind(
    503, _SERVER, "shutting_down", (_SOON, _CLOSE),
    when="This gateway process is shutting down.",
    do="Try again: another process, or the next one, answers.",
)
TIMEOUT: Final = ErrorKind(
    504, _SERVER, "timeout",
    when="No node answered in time. It costs nothing.",
    do="Try again; a lower `max_completion_tokens` makes answers shorter.",
)
# fmt: on
TABLE: Final = tuple(value for value in list(globals().values()) if isinstance(value, ErrorKind))
"""Every row, in the order in which they stand here."""
