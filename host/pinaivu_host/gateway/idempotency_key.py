"""The header `Idempotency-Key`, and what makes two requests the same one."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from pinaivu_host.gateway.error_table import INVALID_REQUEST
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.order import Order
from pinaivu_host.store.idempotency import KeyUse, Place

NAME: Final = "Idempotency-Key"
KEY_CHARACTERS_MAX: Final = 255
REPLAYED: Final = ("idempotent-replayed", "true")
"""On every answer but the one to the request that began the job."""


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key, and the digest of path and body that it is for."""

    key: str
    body_sha256: bytes


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with a key. `check_payer` raises ApiError unless a new job may be begun on the account's credit."""

    place: Place
    body_sha256: bytes
    order: Order
    check_payer: Callable[[], Awaitable[object]]

    def use(self) -> KeyUse:
        """The key's use by this request, should it begin a job."""
        command, key_id = self.order.command, self.order.caller.key_id
        return KeyUse(self.place, self.body_sha256, command.request_id, self.order.salt, key_id=key_id)


def read_key(scope: Scope) -> str | None:
    """The key of a request, None where it sends none; ApiError (400) for what is no key, or for two of them."""
    sent = [value for name, value in scope["headers"] if name == NAME.lower().encode()]
    if not sent:
        return None
    key: str = sent[0].decode("latin-1")
    if len(sent) > 1:
        raise _invalid("was sent twice")
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise _invalid(f"has {len(key)} characters instead of 1 to {KEY_CHARACTERS_MAX}")
    if not (key.isascii() and key.isprintable()):
        raise _invalid("may have printable ASCII characters only")
    return key


def digest_body(path: str, body: bytes) -> bytes:
    """SHA-256 over path, NUL and the body in canonical form: equal for bodies that mean the same, however written."""
    return hashlib.sha256(path.encode() + b"\0" + body).digest()


def _invalid(reason: str) -> ApiError:
    return ApiError(INVALID_REQUEST, f"the header {NAME} {reason}", param=NAME)
