"""No line of the log, at any level, has a key, a prompt or an answer: at every endpoint, and in tracebacks."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.host.fake_node import Offered
from tests.host.test_metrics import OF_THE_TEST, logging_all
from tests.host.town import ADMIN_KEY, Town

pytestmark = pytest.mark.anyio

PROMPT = "a-prompt-nobody-may-read"
ANSWER = "an-answer-nobody-may-read"
LABEL = "a-label-nobody-may-read"
WRONG_KEY = "sk-pnv-" + "wrongkey" * 6
WRONG_ADMIN_KEY = "wrong-admin-key-of-the-tests"
MESSAGES = [{"role": "user", "content": PROMPT}]
ASKING: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": PROMPT},
    "/v1/responses": {"input": PROMPT},
    "/v1/embeddings": {"input": PROMPT},
}
LOOKING = ("/v1/models", "/v1/usage", "/v1/receipts", "/v1/receipts/{prompt}", "/v1/pricing", "/metrics", "/{prompt}")


async def answer(offered: Offered) -> None:
    await offered.answer(ANSWER)


async def ask_everything(town: Town, key: str) -> list[int]:
    """Every endpoint, in every way, and then what is wrong with each."""
    client, statuses = town.client(key), []

    async def post(path: str, body: Any, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else None
        answered = await client.post(path, json=None if raw else body, content=raw, headers=headers)
        statuses.append(answered.status_code)

    for path, fields in ASKING.items():
        await post(path, {"model": "m", **fields})
        await post(path, {"model": "m", "stream": True, **fields}, **{"idempotency-key": PROMPT + path})
        await post(path, {"model": PROMPT, **fields})
        await post(path, {"model": "m", "temperature": PROMPT, **fields})
        await post(path, {"model": "m", PROMPT: PROMPT, **fields})
        await post(path, f'{{"model": "{PROMPT}'.encode())
    looked = [await client.get(path.format(prompt=PROMPT)) for path in LOOKING]
    return statuses + [one.status_code for one in looked]


async def administer(town: Town, admin_key: str) -> list[httpx.Response]:
    """An account, a key, and what changes them."""
    client = town.client(admin_key)
    keys = f"/admin/v1/accounts/{town.account_id}/keys"
    opened = await client.post("/admin/v1/accounts", json={"name": LABEL, "credit": "1"})
    made = await client.post(keys, json={"name": LABEL})
    wrong = await client.post(keys, json={"name": LABEL, "permission": LABEL})
    listed = await client.get(keys)
    key_id = made.json().get("key_id", "key_none")
    changed = await client.patch(f"/admin/v1/keys/{key_id}", json={"name": LABEL})
    revoked = await client.delete(f"/admin/v1/keys/{key_id}")
    return [opened, made, wrong, listed, changed, revoked]


async def test_no_line_has_a_secret_whoever_asks_for_whatever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_all():
        town = await Town(tmp_path).open()
        await town.node(answer)
        statuses = {key: await ask_everything(town, key) for key in (town.key, WRONG_KEY)}
        opened, made, wrong, *others = await administer(town, ADMIN_KEY)
        refused = await administer(town, WRONG_ADMIN_KEY)
        with town.host._database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE api_keys RENAME TO elsewhere"))
        town.host.accounts._cache.known.clear()
        broken = [
            *await ask_everything(town, town.key),
            *[one.status_code for one in await administer(town, ADMIN_KEY)],
        ]
        await town.close()
    assert {200, 404, 422} <= set(statuses[town.key])
    assert set(statuses[WRONG_KEY][: 6 * len(ASKING)]) == {401}
    assert {one.status_code for one in refused} == {401}
    assert wrong.status_code == 422
    assert [one.status_code for one in (opened, made, *others)] == [200] * 5
    assert set(broken) & {500, 503}
    lines = [line for line in capsys.readouterr().err.splitlines() if not OF_THE_TEST.search(line)]
    assert any("Traceback" in line for line in lines)
    secrets = (PROMPT, ANSWER, LABEL, town.key, WRONG_KEY, ADMIN_KEY, WRONG_ADMIN_KEY)
    for hidden in (*secrets, opened.json()["api_key"], made.json()["api_key"]):
        for form in (hidden, hidden[-8:].encode().hex(" ")):  # some libraries show the ends of what they carry
            assert not [line for line in lines if form in line], hidden
