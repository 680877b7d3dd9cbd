"""Where the gateway is, from what an operator may write: the URL of its pages, its API or its nodes."""

from typing import Final
from urllib.parse import SplitResult, urlsplit

from pinaivu_shared.wire.node import NODE_PATH

_API_PATH: Final = "/v1"
_HTTP: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_WEBSOCKET: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def http_url(text: str) -> str:
    """The URL of its pages, without a slash at the end; ValueError for what is none of these."""
    url = _split(text)
    return f"{_HTTP[url.scheme]}://{_place(url)}"


def websocket_url(text: str) -> str:
    """The URL that nodes connect to; ValueError for what is none of these."""
    url = _split(text)
    return f"{_WEBSOCKET[url.scheme]}://{_place(url)}{NODE_PATH}"


def _split(text: str) -> SplitResult:
    url = urlsplit(text)
    if url.scheme not in _HTTP or not url.hostname or url.query or url.fragment or url.username:
        raise ValueError("expected an http(s):// or ws(s):// URL without user, query and fragment")
    return url


def _place(url: SplitResult) -> str:
    return url.netloc + url.path.rstrip("/").removesuffix(NODE_PATH).removesuffix(_API_PATH)
