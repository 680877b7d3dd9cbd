"""The gateway's public pages about a node, as its operator reads them. Nothing of it is verified here."""

from typing import Final, Self

import httpx
import msgspec

from pinaivu_node.gateway_url import http_url
from pinaivu_shared.error_body import service_error
from pinaivu_shared.errors import CallerError, UnreadableError
from pinaivu_shared.receipt import PaymentAmount
from pinaivu_shared.statement import MAX_STATEMENT_BYTES

TIMEOUT_SECONDS: Final = 30
MAX_ACCOUNT_BYTES: Final = 64 * 1024


class PublicSuspension(msgspec.Struct, frozen=True):
    """Why the node is out of every auction, by which job and leaf, and until when."""

    index: int
    reason: str
    request_id: str
    suspended_ms: int
    until_ms: int


class PublicAccount(msgspec.Struct, frozen=True):
    """`GET /v1/nodes/{node_id}`: what the gateway says that the log says. Amounts as on receipts."""

    node_id: str
    operator: str
    statements: int
    earned: PaymentAmount
    stated: PaymentAmount
    payable: PaymentAmount
    paid_out: PaymentAmount
    suspension: PublicSuspension | None


def gateway_url(text: str) -> str:
    """The gateway's HTTP URL, without a slash at its end, from that or the one a node connects to; CallerError."""
    try:
        return http_url(text)
    except ValueError as error:
        raise CallerError(f"gateway: {error}") from None


class MarketClient:
    """Asks one gateway. CallerError for what is not there, UnreadableError where there is no answer to be had."""

    def __init__(self, gateway: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` is httpx's own unless given."""
        self._client = httpx.Client(base_url=gateway_url(gateway), timeout=TIMEOUT_SECONDS, transport=transport)

    def __enter__(self) -> Self:
        """Keep connections until the block is left."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self._client.close()

    def account(self, node_id: str) -> PublicAccount:
        """How the node stands."""
        raw = self._get(f"/v1/nodes/{node_id}", max_bytes=MAX_ACCOUNT_BYTES)
        try:
            return msgspec.json.decode(raw, type=PublicAccount)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableError(f"gateway: no account of a node: {error}") from error

    def statement(self, node_id: str, number: int) -> bytes:
        """The bundle of one statement."""
        return self._get(f"/v1/nodes/{node_id}/statements/{number}", max_bytes=MAX_STATEMENT_BYTES)

    def _get(self, path: str, *, max_bytes: int) -> bytes:
        try:
            with self._client.stream("GET", path) as answer:
                body = b""
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > max_bytes:
                        raise UnreadableError(f"gateway: more than {max_bytes} bytes at {path}")
        except httpx.HTTPError as error:
            raise UnreadableError(f"gateway: {type(error).__name__} {error}".rstrip()) from error
        if answer.status_code == httpx.codes.OK:
            return body
        said = service_error(body) or "no reason given"
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise CallerError(f"gateway: {said}")
        raise UnreadableError(f"gateway: status {answer.status_code}: {said}")
