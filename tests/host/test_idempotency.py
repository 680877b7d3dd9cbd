"""`Idempotency-Key`: one job, one charge, and equal answers for all who ask with it, whenever they come and go."""

import asyncio
from typing import Any

import openai
import pytest
from tests.host.fake_node import Offered, echoing, endless
from tests.host.keyed import ask, asking, first_piece, receipt_of, spent
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_host.store.accounts import new_account_id
from pinaivu_host.store.idempotency import KeyStore, place_of
from pinaivu_shared.sse import assemble_choices, data_events
from pinaivu_shared.wire.link import OpenJob, SettleJob

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]
CLIENTS = 50


@pytest.mark.parametrize("stream", [False, True])
async def test_fifty_clients_with_one_key_are_one_auction_one_charge_and_fifty_equal_answers(
    town: Town, *, stream: bool
) -> None:
    await town.node()
    alone = await town.chat(stream=stream)
    one_charge = await spent(town)
    answers = await asyncio.gather(*(ask(town, stream=stream) for _ in range(CLIENTS)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len({(one.headers["x-request-id"], one.headers["x-pinaivu-salt"]) for one in answers}) == 1
    assert [one.headers.get("idempotent-replayed") for one in answers].count(None) == 1
    assert len(town.enclave.all_of(OpenJob)) == len(town.enclave.all_of(SettleJob)) == 2
    assert await spent(town) == 2 * one_charge > 0
    assert len(answers[0].content) == len(alone.content)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_given_again_after_a_restart(town: Town, *, stream: bool) -> None:
    await town.node()
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    first = await ask(town, **options)
    charged = await spent(town)
    await town.close_host()
    await town.open_host()
    await town.host.link.wait_ready()
    again = await ask(town, **options)  # without any node
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("x-request-id", "x-pinaivu-salt", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert await spent(town) == charged
    assert (await receipt_of(town, again))["outcome"] == "completed"


async def test_whoever_comes_in_the_middle_of_a_stream_hears_it_from_the_beginning(town: Town) -> None:
    joined = asyncio.Event()

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("Hel")
        await joined.wait()
        await offered.delta("lo")
        await offered.delta(finish_reason="stop")
        await offered.prove("Hello")

    await town.node(script)
    async with asking(town) as first, asking(town) as second:
        assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
        joined.set()
        assert await first.aread() == await second.aread()
    assert assemble_choices(data_events(first.text))[0]["message"]["content"] == "Hello"


async def test_a_body_is_the_same_however_it_is_written(town: Town) -> None:
    await town.node()
    raws = (
        b'{"model":"m","messages":[{"role":"user","content":"\xc3\xa9"}],"max_tokens":5}',
        b'{ "max_tokens": 5.0, "messages": [{"content": "\\u00e9", "role": "user"}], "model": "m" }',
    )
    headers = {"idempotency-key": "k", "content-type": "application/json"}
    first, second = [await town.client().post("/v1/chat/completions", content=raw, headers=headers) for raw in raws]
    assert (second.content, second.headers["idempotent-replayed"]) == (first.content, "true")


async def test_another_body_under_the_same_key_is_409_and_not_to_be_retried(town: Town) -> None:
    node = await town.node(endless)
    async with asking(town) as running:
        await first_piece(running.aiter_lines())
        body = check_shape(await ask(town, temperature=1), 409, "invalid_request_error", "idempotency_conflict")
        assert body["error"]["param"] == "Idempotency-Key"
    node.script = echoing("done")
    assert (await ask(town)).status_code == 200
    for other in ({"temperature": 1}, {"stream": True}, {"user": "somebody"}):
        refused = await ask(town, **other)
        check_shape(refused, 409, "invalid_request_error", "idempotency_conflict")
        assert refused.headers["x-should-retry"] == "false"
    assert len(town.enclave.all_of(OpenJob)) == 2


async def test_a_key_belongs_to_an_account(town: Town) -> None:
    await town.node()
    _, stranger = await town.account("stranger", credit=10**8)
    mine = await ask(town)
    theirs = await ask(town, api_key=stranger)
    assert mine.headers["x-request-id"] != theirs.headers["x-request-id"]
    assert "idempotent-replayed" not in theirs.headers
    assert (await ask(town, "other")).headers["x-request-id"] != mine.headers["x-request-id"]


async def test_an_account_without_credit_is_given_its_answer_again_but_no_new_one(town: Town) -> None:
    await town.node()
    _, poor = await town.account("poor", credit=10)
    answers = [await ask(town, str(number), api_key=poor) for number in range(11)]
    assert answers[0].status_code == 200
    check_shape(answers[-1], 429, "rate_limit_error", "insufficient_credit")
    assert (await ask(town, "0", api_key=poor)).content == answers[0].content


async def test_an_account_without_any_credit_begins_nothing(town: Town) -> None:
    await town.node()
    account_id = new_account_id()
    penniless = await town.host.accounts.create(name="penniless", account_id=account_id)
    check_shape(await ask(town, api_key=penniless), 429, "rate_limit_error", "insufficient_credit")
    assert not town.enclave.all_of(OpenJob)
    assert await KeyStore(town.host._database).find(place_of(account_id, "k")) is None


async def test_the_openai_sdk_repeats_itself_safely(town: Town) -> None:
    await town.node()
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{town.port}/v1", api_key=town.key) as sdk:
        calls: list[Any] = [
            await sdk.chat.completions.with_raw_response.create(
                model="m", messages=[{"role": "user", "content": "hi"}], extra_headers={"Idempotency-Key": "mine"}
            )
            for _ in range(2)
        ]
        with pytest.raises(openai.ConflictError) as conflict:
            await sdk.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "!"}], extra_headers={"Idempotency-Key": "mine"}
            )
    assert calls[0].parse() == calls[1].parse()
    assert conflict.value.code == "idempotency_conflict"
    assert len(town.enclave.all_of(OpenJob)) == 1
