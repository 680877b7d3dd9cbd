"""Pages in browsers: which may call, what they may send and see, and that nothing is theirs unless it was named."""

import pytest
from tests.host.shape import check_shape
from tests.host.town import Town, request

from pinaivu_host.gateway.cors import parse_origins
from pinaivu_shared.errors import CallerError

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
PAGE = "https://app.example.com"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type, X-Stainless-Lang, x-stainless-os, x-secret",
}


async def opened(town: Town, *origins: str) -> Town:
    town.settings["cors_origins"] = origins
    return await town.open()


async def test_without_origins_no_page_is_let_in(town: Town) -> None:
    client = town.client()
    check_shape(await client.options(CHAT, headers=PREFLIGHT), 405, "invalid_request_error", "method_not_allowed")
    answer = await client.get("/v1/models", headers={"origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control-") or name == "vary"]


@pytest.mark.parametrize(
    ("origins", "allowed"), [((PAGE,), PAGE), (("http://localhost:5173", PAGE), PAGE), (("*",), "*")]
)
async def test_a_preflight_needs_no_key_and_names_what_is_allowed(
    openable: Town, origins: tuple[str, ...], allowed: str
) -> None:
    town = await opened(openable, *origins)
    answer = await town.client("none").options(CHAT, headers=PREFLIGHT)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == allowed
    assert "POST" in answer.headers["access-control-allow-methods"].split(", ")
    assert answer.headers["access-control-allow-headers"] == (
        "authorization, content-type, x-stainless-lang, x-stainless-os"
    )
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


async def test_streams_and_errors_can_be_read_by_the_page(openable: Town) -> None:
    town = await opened(openable, PAGE)
    await town.node()
    client, page = town.client(), {"origin": PAGE}
    answers = [
        await client.post(CHAT, headers=page, json=request(stream=True)),
        await client.post(CHAT, headers=page, json=request(n=0)),
        await town.client("sk-pnv-wrong").get("/v1/models", headers=page),
        await client.get("/v1/nowhere", headers=page),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 401, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert {"x-request-id", "retry-after", "x-pinaivu-salt", "x-ratelimit-reset-tokens", "idempotent-replayed"} <= {
            *answer.headers["access-control-expose-headers"].split(", ")
        }
        assert answer.headers["vary"] == "Origin"


async def test_other_pages_other_paths_and_other_callers_get_nothing(openable: Town) -> None:
    town = await opened(openable, PAGE)
    client = town.client()
    stranger = {**PREFLIGHT, "origin": "https://evil.example.com"}
    for answer in (
        await client.options(CHAT, headers=stranger),
        await client.get("/v1/models", headers={"origin": "https://evil.example.com"}),
        await client.get("/v1/models", headers={"origin": PAGE.upper()}),
        await client.get("/v1/models"),
    ):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin", "a cache must not give this answer to the page that may read it"
    for path in ("/admin/v1/accounts", "/metrics", "/healthz"):
        assert (await client.options(path, headers=PREFLIGHT)).status_code == 405
        answer = await client.get(path, headers={"origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_origins_are_read_as_browsers_write_them() -> None:
    assert parse_origins("") == ()
    assert parse_origins("*") == ("*",)
    assert parse_origins(f"{PAGE}, http://localhost:5173") == (PAGE, "http://localhost:5173")
    for wrong in (
        f"{PAGE}/",
        "app.example.com",
        "https://App.example.com",
        f"{PAGE},*",
        f"{PAGE},",
        "null",
        "https://",
    ):
        with pytest.raises(CallerError, match="is no origin"):
            parse_origins(wrong)
