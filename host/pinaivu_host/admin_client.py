"""The operator's side of `/admin/v1/`: one request, one JSON object.

No redirect is followed: the admin key would go along.
"""

import http.client
import ipaddress
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pinaivu_shared.errors import CallerError, OverloadedError, PeerError

ANSWER_LIMIT_S: Final = 60.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
Answer = dict[str, Any]


class _Fault(msgspec.Struct, frozen=True):
    message: str
    code: str | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error: _Fault


class AdminClient:
    """CallerError for what the service refuses (4xx), OverloadedError for what it cannot do right now."""

    def __init__(self, url: str, admin_key: str) -> None:
        """CallerError for a URL that the admin key must not be sent to: http is for this machine only."""
        try:
            parts = urlsplit(url)
            self._host, self._port, self._folder = parts.hostname or "", parts.port, parts.path.rstrip("/")
        except ValueError as error:
            raise CallerError(f"--url {url[:200]!r}: {error}") from None
        if parts.scheme not in {"http", "https"} or not self._host or parts.query or parts.fragment or parts.username:
            raise CallerError(f"--url {url[:200]!r}: expected a URL such as https://HOST or http://127.0.0.1:8080")
        if parts.scheme == "http" and not _is_loopback(self._host):
            raise CallerError(
                f"--url {url[:200]!r}: the admin key would travel in the clear; use https, or a tunnel to 127.0.0.1"
            )
        if self._folder.endswith("/v1"):
            right = url[:200].rstrip("/").removesuffix("/v1")
            raise CallerError(f"--url {url[:200]!r}: expected the host's URL without /v1, such as {right}")
        self._encrypted, self._admin_key = parts.scheme == "https", admin_key

    def get(self, path: str) -> Answer:
        """What is at a path below /admin/v1."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Answer:
        """Have something done."""
        return self._ask("POST", path, msgspec.json.encode(body))

    def patch(self, path: str, body: Mapping[str, object]) -> Answer:
        """Have something changed."""
        return self._ask("PATCH", path, msgspec.json.encode(body))

    def delete(self, path: str) -> Answer:
        """Have something taken away."""
        return self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        headers = {"authorization": f"Bearer {self._admin_key}", "content-type": "application/json"}
        connection = self._connection()
        try:
            connection.request(method, f"{self._folder}/admin/v1{path}", body=body, headers=headers)
            answered = connection.getresponse()
            content = answered.read(ANSWER_BYTES_MAX + 1)
        except ssl.SSLError as error:
            raise OverloadedError(f"{self._host}{_explained(error)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise OverloadedError(f"{self._host}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        return _read_answer(self._host, answered.status, content)

    def _connection(self) -> http.client.HTTPConnection:
        if self._encrypted:
            trusted = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=ANSWER_LIMIT_S, context=trusted)
        return http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_LIMIT_S)


def _explained(error: ssl.SSLError) -> str:
    """OpenSSL takes an answer without TLS for one of another version of it."""
    if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}:
        return (
            " answers without TLS: --url begins with http:// for a host on this machine that has no --tls-certificate"
        )
    return f": {error}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_answer(host: str, status: int, content: bytes) -> Answer:
    """The object of a good answer; the error's own text for another."""
    try:
        if len(content) > ANSWER_BYTES_MAX:
            raise PeerError(host, f"answered more than {ANSWER_BYTES_MAX} bytes")
        if 200 <= status < 300:
            return msgspec.json.decode(content, type=Answer)
        fault = msgspec.json.decode(content, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError(host, f"answered {status} with something that is none of the admin API's answers") from error
    said = f"{fault.message} ({status} {fault.code})"
    if status >= 500:
        raise OverloadedError(said)
    raise CallerError(said)
