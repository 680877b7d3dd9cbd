"""`pinaivu accounts` and `pinaivu keys`: thin clients of the admin API, which send the admin key nowhere else."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host.town import ADMIN_KEY, Town, request

from pinaivu_host.admin_client import AdminClient, _read_answer
from pinaivu_host.admin_commands import accounts, keys
from pinaivu_shared.errors import CallerError, OverloadedError, PeerError

PROGRAMS = {"accounts": accounts, "keys": keys}


class Desk:
    """The operator's terminal."""

    def __init__(self, town: Town, capsys: pytest.CaptureFixture[str]) -> None:
        self._town, self._capsys = town, capsys
        self.key_file = town.folder / "admin.key"
        self.key_file.write_text(ADMIN_KEY + "\n")

    async def run(self, program: str, command: str, *arguments: str, status: int = 0) -> str:
        """What it prints on stdout; `err` is what it says to people."""
        place = ("--url", f"http://127.0.0.1:{self._town.port}", "--admin-key-file", str(self.key_file))
        ended = await asyncio.to_thread(PROGRAMS[program], [command, *place, *arguments])
        out, self.err = self._capsys.readouterr()
        assert ended == status, self.err
        assert ADMIN_KEY not in out + self.err
        return out

    def said(self) -> str:
        return self._capsys.readouterr().err

    async def json(self, program: str, command: str, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.run(program, command, *arguments, "--json")).splitlines()]

    async def status_of(self, api_key: str, **fields: Any) -> int:
        client = self._town.client(api_key)
        answer: httpx.Response = await client.post("/v1/chat/completions", json=request(**fields))
        return answer.status_code


@pytest.fixture
def desk(town: Town, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(town, capsys)


@pytest.mark.anyio
async def test_an_account_is_opened_given_credit_and_shown(desk: Desk, town: Town) -> None:
    await town.node()
    api_key = (await desk.run("accounts", "create", "--name", "ann", "--credit", "1.50")).strip()
    assert await desk.status_of(api_key) == 200
    account_id = desk.err.split()[-1]
    paid_in = ("deposit", account_id, "--amount", "2", "--reference", "invoice-1")
    assert await desk.run("accounts", *paid_in) == "invoice-1  recorded\n"
    assert await desk.run("accounts", *paid_in) == "invoice-1  recorded\n"
    left = await desk.run("accounts", "show", account_id)
    assert left.startswith("3.49")
    (shown,) = await desk.json("accounts", "show", account_id)
    assert (shown["name"], shown["credit"]) == ("ann", left.strip())


@pytest.mark.anyio
async def test_all_pages_of_accounts_are_listed(desk: Desk, town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.admin_commands.PAGE", 2)
    names = ["tests"] + [f"n{number}" for number in range(4)]
    for name in names[1:]:
        await town.account(name, credit=1)
    assert sorted(one["name"] for one in await desk.json("accounts", "list")) == sorted(names)
    assert len((await desk.run("accounts", "list")).splitlines()) == 5


@pytest.mark.anyio
async def test_a_name_does_not_steer_the_terminal(desk: Desk, town: Town) -> None:
    await town.account("red \x1b[31m", credit=1)
    listed = await desk.run("accounts", "list")
    assert "\x1b" not in listed
    assert r"'red \x1b[31m'" in listed


@pytest.mark.anyio
async def test_limits_of_a_key_are_set_shown_changed_and_taken_away(desk: Desk, town: Town) -> None:
    limits = ("--requests-per-minute", "60", "--concurrent-requests", "4", "--monthly-budget", "5.50", "--models", "m")
    await desk.run("keys", "create", town.account_id, "--name", "ci", *limits)
    key_id = desk.err.split()[-1]
    line = "full       60 requests/min, 4 at once, 5.500000 USDC/month, only m  ci"
    assert line in await desk.run("keys", "list", town.account_id)
    changed = await desk.run("keys", "change", key_id, "--name", "ci 2", "--monthly-budget", "none", "--models", "all")
    assert changed.endswith("full       60 requests/min, 4 at once  ci 2\n")
    (shown,) = await desk.json("keys", "change", key_id, "--tokens-per-minute", "1000", "--expires-in-days", "1")
    assert (shown["tokens_per_minute"], shown["monthly_budget"], shown["models"]) == (1000, None, None)
    assert shown["expires_ms"] is not None
    (shown,) = await desk.json("keys", "change", key_id, "--expires-in-days", "none")
    assert (shown["expires_ms"], shown["requests_per_minute"]) == (None, 60)
    shown_until = await desk.run("keys", "change", key_id, "--expires-in-days", "1")
    days = (datetime.now(UTC) + timedelta(days=1, minutes=-late) for late in (0, 5))  # midnight may have passed
    assert any(f", until {day:%Y-%m-%d} " in shown_until for day in days)


@pytest.mark.anyio
async def test_a_key_is_made_listed_and_revoked(desk: Desk, town: Town) -> None:
    await town.node()
    terms = ("--name", "ci", "--models", "m,x", "--expires-in-days", "7")
    api_key = (await desk.run("keys", "create", town.account_id, *terms)).strip()
    key_id = desk.err.split()[-1]
    assert await desk.status_of(api_key) == 200
    assert await desk.status_of(api_key, model="a/b:1") == 403
    assert f"{key_id}  {api_key[:12]}…  full       only m x, until 2" in await desk.run("keys", "list", town.account_id)
    (listed,) = [one for one in await desk.json("keys", "list", town.account_id) if one["key_id"] == key_id]
    assert listed["models"] == ["m", "x"]
    assert await desk.run("keys", "revoke", key_id) == f"{key_id}  revoked\n"
    town.host.accounts._cache.known.clear()
    assert await desk.status_of(api_key) == 403
    (made,) = await desk.json("keys", "create", town.account_id, "--name", "view", "--permission", "read_only")
    assert await desk.status_of(made["api_key"]) == 403


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("accounts", ["show", "acct_1"], "there is no such account; GET /admin/v1/accounts lists them (404 not_found)"),
        ("accounts", ["show", "../../v1/models"], "404 not_found"),
        ("accounts", ["show", ""], "ACCOUNT is empty"),
        ("accounts", ["create", "--name", ""], "422"),
        ("accounts", ["create", "--name", "ann", "--credit", "much"], "credit: "),
        (
            "accounts",
            ["deposit", "acct_1", "--amount", "1"],
            "there is no such account; GET /admin/v1/accounts lists them (404 not_found)",
        ),
        ("keys", ["list", "acct_1"], "there is no such account; GET /admin/v1/accounts lists them (404 not_found)"),
        (
            "keys",
            ["create", "acct_1", "--name", "x"],
            "there is no such account; GET /admin/v1/accounts lists them (404 not_found)",
        ),
        ("keys", ["create", "acct_1", "--name", "x", "--expires-in-days", "week"], "--expires-in-days: 'week'"),
        ("keys", ["create", "acct_1", "--name", "x", "--permission", "all"], "permission"),
        (
            "keys",
            ["create", "acct_1", "--name", "x", "--models", ""],
            "--models is empty: leave it out for a key that may ask for all models",
        ),
        ("keys", ["create", "acct_1", "--name", "x", "--models", "m,"], "--models 'm,' names a model of no characters"),
        ("keys", ["create", "acct_1", "--name", "x", "--models", "none"], "--models none: a key without a model"),
        ("keys", ["create", "acct_1", "--name", "x", "--expires-in-days", ""], "--expires-in-days is empty: leave it"),
        ("keys", ["create", "acct_1", "--name", "x", "--monthly-budget", ""], "--monthly-budget is empty: leave it"),
        ("keys", ["change", "key_1", "--models", ""], "--models is empty: give `all`"),
        ("keys", ["change", "key_1", "--models", "none"], "--models none: a key without a model"),
        ("keys", ["change", "key_1", "--requests-per-minute", ""], "--requests-per-minute is empty: give `none`"),
        ("keys", ["change", "key_1", "--name", ""], "--name is empty"),
        ("keys", ["revoke", "key_1"], "there is no such key"),
        ("keys", ["change", "key_1", "--name", "x"], "there is no such key"),
        ("keys", ["change", "key_1"], "nothing to change"),
        ("keys", ["change", "sk-pnv-secret"], "KEY is the key's id"),
        ("keys", ["change", "key_1", "--tokens-per-minute", "x"], "--tokens-per-minute: 'x' is no number"),
        ("keys", ["change", "key_1", "--monthly-budget", "x"], "--monthly-budget: 'x' is no amount"),
        ("keys", ["revoke", "sk-pnv-secret"], "KEY is the key's id"),
    ],
    ids=str,
)
async def test_what_is_refused_is_said_and_exits_2(desk: Desk, program: str, arguments: list[str], said: str) -> None:
    assert await desk.run(program, *arguments, status=2) == ""
    assert said in desk.err
    assert desk.err.count("\n") == 1
    assert "sk-pnv-secret" not in desk.err


@pytest.mark.anyio
async def test_another_admin_key_is_refused(desk: Desk) -> None:
    desk.key_file.write_text("another-admin-key")
    await desk.run("accounts", "list", status=2)
    assert "this is not the admin key (401 invalid_api_key)" in desk.err


@pytest.mark.anyio
@pytest.mark.parametrize("content", [None, "", "short", "sixteen bytes\nin two", "käse" * 8])
async def test_a_file_without_an_admin_key_is_refused(desk: Desk, content: str | None) -> None:
    desk.key_file.unlink()
    if content is not None:
        desk.key_file.write_text(content)
    await desk.run("accounts", "list", status=2)
    assert "--admin-key-file" in desk.err


@pytest.mark.anyio
async def test_a_host_that_is_not_there_is_said(desk: Desk, town: Town) -> None:
    await town.close_host()
    await desk.run("accounts", "list", status=2)
    assert "127.0.0.1: [Errno 111] Connection refused" in desk.err
    await town.open_host()


@pytest.mark.anyio
async def test_https_to_a_host_without_tls_is_said_with_what_to_change(desk: Desk, town: Town) -> None:
    place = ["--url", f"https://127.0.0.1:{town.port}", "--admin-key-file", str(desk.key_file)]
    assert await asyncio.to_thread(accounts, ["list", *place]) == 2
    assert "127.0.0.1 answers without TLS: --url begins with http:// for a host on this machine" in desk.said()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v1", "https://market.example/folder/v1/"])
def test_a_url_with_v1_is_refused_with_the_one_to_give(url: str) -> None:
    with pytest.raises(CallerError, match=f"without /v1, such as {url.partition('/v1')[0]}$"):
        AdminClient(url, "k" * 16)


@pytest.mark.parametrize(
    "url",
    [
        "http://market.example",
        "http://10.0.0.1:8080",
        "http://127.0.0.1.example:8080",
        "http://localhost.example",
        "ftp://127.0.0.1",
        "127.0.0.1:8080",
        "http://",
        "https://user@market.example",
        "https://market.example?x",
        "https://market.example:x",
        "",
    ],
)
def test_the_admin_key_goes_in_the_clear_to_this_machine_only(url: str) -> None:
    with pytest.raises(CallerError, match="--url"):
        AdminClient(url, "k" * 16)


@pytest.mark.parametrize("url", ["https://market.example", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"])
def test_https_goes_anywhere_and_http_to_this_machine(url: str) -> None:
    AdminClient(url, "k" * 16)


@given(st.integers(200, 599), st.binary())
def test_any_answer_is_an_object_or_one_of_three_errors(status: int, content: bytes) -> None:
    try:
        assert isinstance(_read_answer("host", status, content), dict)
    except PeerError:
        return
    except (CallerError, OverloadedError):
        assert status >= 300


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (200, b"[]", PeerError),
        (200, b"[" * 8000, PeerError),
        (200, b'{"a":"\xff"}', PeerError),
        (302, b"", PeerError),
        (502, b"<html>", PeerError),
        (404, b'{"error":{"message":"no"}}', CallerError),
        (503, b'{"error":{"message":"no","code":"shutting_down"}}', OverloadedError),
    ],
)
def test_each_answer_that_is_not_good_has_its_error(status: int, content: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        _read_answer("host", status, content)
