"""The gateway's pages as a client reads them: bounded, strict, and at the right address."""

from collections.abc import Iterator

import pytest
from tests.node.operator import STATED, Pages

from pinaivu_node.market_client import MarketClient, gateway_url
from pinaivu_shared.errors import CallerError, UnreadableError


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages().serving() as found:
        yield found


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_account_cannot_be_read(pages: Pages, content: bytes) -> None:
    pages.answers[pages.node] = (200, content)
    with MarketClient(pages.url) as market, pytest.raises(UnreadableError):
        market.account(STATED.node.node_id)


def test_an_account_without_end_is_not_read_to_the_end(pages: Pages) -> None:
    pages.answers[pages.node] = (200, b" " * 70_000)
    with MarketClient(pages.url) as market, pytest.raises(UnreadableError, match="more than 65536 bytes"):
        market.account(STATED.node.node_id)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ws://gateway.test:80/node/v1/connect", "http://gateway.test:80"),
        ("wss://gateway.test/node/v1/connect", "https://gateway.test"),
        ("https://gateway.test/", "https://gateway.test"),
        ("https://gateway.test/market/", "https://gateway.test/market"),
    ],
)
def test_the_gateways_url_is_that_of_the_node_without_its_path(text: str, url: str) -> None:
    assert gateway_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "gateway", "ftp://gateway.test", "http://", "http://a:b@c", "http://a?b", "http://a#b", "http://["]
)
def test_what_is_no_url_of_a_gateway_is_refused(text: str) -> None:
    with pytest.raises(CallerError):
        gateway_url(text)
