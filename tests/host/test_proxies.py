"""Who is calling, where a proxy stands between: believed of the proxies that the operator named, of nobody else."""

import logging

import pytest
from tests.host.test_metrics import ended
from tests.host.town import Town

from pinaivu_host.edge import EdgeSettings, parse_proxies
from pinaivu_shared.errors import CallerError

pytestmark = pytest.mark.anyio

PATH = "/v1/models"


async def logged_client(town: Town, caplog: pytest.LogCaptureFixture, *forwarded: str) -> str:
    """The address in the log's line of a request with these X-Forwarded-For headers."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "pinaivu_host"):
        headers = [("x-forwarded-for", value) for value in forwarded]
        await town.client().get(PATH, headers=headers)
        (line,) = await ended(caplog, PATH)
    client: str = line["client"]
    return client


async def test_what_an_untrusted_peer_says_changes_nothing(
    openable: Town, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own way to be told
    town = await openable.open()
    assert await logged_client(town, caplog, "192.0.2.7") == "127.0.0.1"
    await town.close_host()
    town.edge = EdgeSettings(trusted_proxies=parse_proxies("10.0.0.0/8,192.0.2.1"))
    await town.open_host()
    assert await logged_client(town, caplog, "192.0.2.7") == "127.0.0.1"


async def test_of_several_hops_the_last_that_is_no_trusted_proxy_is_the_caller(
    openable: Town, caplog: pytest.LogCaptureFixture
) -> None:
    openable.edge = EdgeSettings(trusted_proxies=parse_proxies("127.0.0.1, 10.0.0.0/8"))
    town = await openable.open()
    assert await logged_client(town, caplog) == "127.0.0.1"
    assert await logged_client(town, caplog, "192.0.2.7") == "192.0.2.7"
    assert await logged_client(town, caplog, "192.0.2.7:4711") == "192.0.2.7"
    assert await logged_client(town, caplog, "[2001:db8::7]:4711") == "2001:db8::7"
    assert await logged_client(town, caplog, "127.0.0.1, 198.51.100.9, 192.0.2.7, 10.1.2.3") == "192.0.2.7"
    assert await logged_client(town, caplog, "198.51.100.9", "192.0.2.7") == "192.0.2.7"


def test_proxies_are_addresses_and_networks() -> None:
    assert parse_proxies("") == ()
    assert parse_proxies("127.0.0.1,10.0.0.0/8, 2001:db8::/32") == ("127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32")
    for wrong in ("*", "proxy.example.com", "10.0.0.1/8", "127.0.0.1,", "127.0.0.1:80"):
        with pytest.raises(CallerError, match="is no address and no network"):
            parse_proxies(wrong)
