"""Limits of a key: what is admitted, what is 429 and for how long, and that it holds for all gateways together."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.host.limited import LEASE_MS, NOON_MS, Clock, Process, caller, headers, together

from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.rate_limits import Admission
from pinaivu_host.store.accounts import Caller
from pinaivu_host.store.key_charges import add_charges, charged_in, month_start_ms, next_month_ms

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.anyio, pytest.mark.every_database]
MINUTE_MS = 60_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(database_url: str, clock: Clock) -> Iterator[Process]:
    one = Process(database_url, clock)
    yield one
    one.close()


@pytest.fixture
def second(database_url: str, clock: Clock, process: Process) -> Iterator[Process]:
    """Another gateway at the same database."""
    other = Process(database_url, clock)
    yield other
    other.close()


async def refused(process: Process, who: Caller, **command: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await process.ask(who, **command)
    assert raised.value.kind.status == 429
    return raised.value


def receipt(prompt: int, completion: int) -> Any:
    return SimpleNamespace(prompt_tokens=prompt, completion_tokens=completion)


async def charge(process: Process, who: Caller, amount: int, at_ms: int = NOON_MS) -> None:
    """As a receipt does that became durable."""
    charges = {(who.key_id, month_start_ms(at_ms)): amount}
    await process.database.write(lambda connection: add_charges(connection, charges))


async def test_a_key_without_limits_touches_no_store(process: Process) -> None:
    process.store.close()  # whatever asks it now fails
    admitted = await process.ask(caller(), max_tokens=0)
    assert (admitted.max_tokens, admitted.headers) == (0, ())
    admitted.end(None)
    assert await process.limits.headers(caller()) == await process.limits.admit_replay(caller()) == ()


async def test_requests_of_a_minute_are_counted_when_admitted_and_a_429_is_not(process: Process, clock: Clock) -> None:
    who = caller(requests_per_minute=2)
    for remaining in ("1", "0"):
        assert headers(await process.ask(who)) == {
            "x-ratelimit-limit-requests": "2",
            "x-ratelimit-remaining-requests": remaining,
            "x-ratelimit-reset-requests": "2m0s",
        }
    for error in [await refused(process, who) for _ in range(3)]:
        assert error.kind.code == "rate_limit_exceeded"
        assert headers(error)["x-ratelimit-remaining-requests"] == "0"
        assert "x-should-retry" not in headers(error)
    clock.now_ms += int(headers(await refused(process, who))["retry-after"]) * 1000
    await process.ask(who)


async def test_a_window_slides(process: Process, clock: Clock) -> None:
    who = caller(requests_per_minute=60)
    for _ in range(60):
        await process.ask(who)
    clock.now_ms += MINUTE_MS  # the minute before counts whole, then less and less
    assert headers(await refused(process, who))["retry-after"] == "1"
    clock.now_ms += MINUTE_MS // 2
    admitted, rest = await together(*(process.tried(who) for _ in range(60)))
    assert (len(admitted), len(rest)) == (30, 30)
    clock.now_ms += 2 * MINUTE_MS
    found = dict(await process.limits.headers(who))
    assert (found["x-ratelimit-remaining-requests"], found["x-ratelimit-reset-requests"]) == ("60", "0s")


async def test_two_gateways_admit_exactly_the_limit_together(process: Process, second: Process) -> None:
    who = caller(requests_per_minute=50)
    admitted, rest = await together(*(one.tried(who) for _ in range(50) for one in (process, second)))
    assert (len(admitted), len(rest)) == (50, 50)


async def test_keys_have_limits_of_their_own(process: Process) -> None:
    for key_id in ("key_1", "key_2"):
        await process.ask(caller(key_id, requests_per_minute=1))
        await refused(process, caller(key_id, requests_per_minute=1))


async def test_tokens_are_reserved_and_the_receipt_corrects_them(process: Process) -> None:
    who = caller(tokens_per_minute=1000)
    admitted = await process.ask(who, request_bytes=400, max_tokens=300)
    assert headers(admitted)["x-ratelimit-remaining-tokens"] == "600"
    error = await refused(process, who, request_bytes=400, max_tokens=501)
    assert (error.kind.code, headers(error)["x-ratelimit-remaining-tokens"]) == ("rate_limit_exceeded", "600")
    for used, remaining in ((receipt(50, 10), "940"), (None, "940")):
        await process.end(admitted, receipt=used)
        assert dict(await process.limits.headers(who))["x-ratelimit-remaining-tokens"] == remaining, "once"


async def test_an_answer_longer_than_it_was_taken_for_counts_whole(process: Process) -> None:
    who = caller(tokens_per_minute=1000)
    admitted = await process.ask(who, max_tokens=0)  # without a limit: all that is left, up to 4096
    assert headers(admitted)["x-ratelimit-remaining-tokens"] == "0"
    await process.end(admitted, receipt=receipt(10, 1990))
    assert dict(await process.limits.headers(who))["x-ratelimit-remaining-tokens"] == "0"
    await refused(process, who)


async def test_answers_without_a_limit_take_4096_each_or_what_is_left_and_give_back_what_they_do_not_use(
    process: Process,
) -> None:
    who = caller(tokens_per_minute=10_000)
    admitted, rest = await together(*(process.tried(who, max_tokens=0) for _ in range(20)))
    remaining = sorted((int(headers(one)["x-ratelimit-remaining-tokens"]) for one in admitted), reverse=True)
    assert remaining == [5904, 1808, 0]
    assert {one.kind.code for one in rest} == {"rate_limit_exceeded"}
    await process.end(*admitted, receipt=receipt(10, 90))
    assert dict(await process.limits.headers(who))["x-ratelimit-remaining-tokens"] == "9700"
    small = caller("key_0000000000000002", tokens_per_minute=150)
    await process.end(await process.ask(small, max_tokens=0), receipt=receipt(10, 30))
    assert (await process.ask(small, max_tokens=0)).max_tokens == 0, "110 are left, and 100 are expected"


async def test_what_goes_beyond_a_reservation_counts_in_the_minute_of_the_receipt(
    process: Process, clock: Clock
) -> None:
    """Otherwise an answer that takes minutes would count as no more than was taken for it."""
    who = caller(tokens_per_minute=1000)
    long = await process.ask(who, max_tokens=0)
    clock.now_ms += 5 * MINUTE_MS
    await process.end(long, receipt=receipt(10, 1990))
    await refused(process, who)


async def test_tokens_go_back_to_the_minute_that_they_were_taken_from(process: Process, clock: Clock) -> None:
    who = caller(tokens_per_minute=1000)
    old = await process.ask(who, max_tokens=1000)
    clock.now_ms += MINUTE_MS + MINUTE_MS // 2
    new = await process.ask(who, max_tokens=400)
    await process.end(old, receipt=receipt(0, 0))
    assert dict(await process.limits.headers(who))["x-ratelimit-remaining-tokens"] == "600"
    clock.now_ms += 4 * MINUTE_MS
    await process.ask(who)  # which deletes what is over
    await process.end(new, receipt=receipt(0, 0))
    assert dict(await process.limits.headers(who))["x-ratelimit-remaining-tokens"] == "999"


@pytest.mark.parametrize(("may_follow", "remaining"), [(False, "1000"), (True, "700")])
async def test_without_a_receipt_tokens_go_back_unless_one_may_follow(
    process: Process, *, may_follow: bool, remaining: str
) -> None:
    who = caller(tokens_per_minute=1000)
    await process.end(await process.ask(who, max_tokens=300), may_follow=may_follow)
    assert dict(await process.limits.headers(who))["x-ratelimit-remaining-tokens"] == remaining


async def test_a_request_that_no_minute_has_tokens_for_is_told_not_to_try_again(process: Process) -> None:
    who = caller(tokens_per_minute=100, requests_per_minute=1)
    error = await refused(process, who, max_tokens=101)
    assert (error.kind.code, headers(error)["retry-after"]) == ("rate_limit_exceeded", "60")
    assert headers(error)["x-should-retry"] == "false"
    assert headers(error)["x-ratelimit-remaining-requests"] == "1", "a request that is refused is not counted"


async def test_so_many_run_at_once_in_all_gateways_together(process: Process, second: Process) -> None:
    who = caller(concurrent_requests=10)
    admitted, rest = await together(*(one.tried(who) for _ in range(10) for one in (process, second)))
    assert (len(admitted), len(rest)) == (10, 10)
    assert {(one.kind.code, headers(one)["retry-after"]) for one in rest} == {("rate_limit_exceeded", "1")}
    await process.end(admitted[0], may_follow=True)
    await second.end(admitted[1])
    admitted, rest = await together(*(process.tried(who) for _ in range(5)))
    assert (len(admitted), len(rest)) == (2, 3)


async def test_what_a_dead_gateway_ran_is_free_when_its_leases_expire(process: Process, clock: Clock) -> None:
    who = caller(concurrent_requests=1, monthly_budget=100)
    await process.ask(who, max_tokens=1)
    clock.now_ms += LEASE_MS - 1
    await refused(process, who, max_tokens=1)
    clock.now_ms += 1
    await process.ask(who, max_tokens=1)


# Of these requests each may cost: 1024 prompt tokens and 1000 of the answer are 80.48 micro-USDC, so 81 and a fee of 9.
COST = 90


async def test_a_budget_of_exactly_so_many_requests_admits_them_and_no_more(process: Process, second: Process) -> None:
    who = caller(monthly_budget=7 * COST)
    admitted, rest = await together(*(one.tried(who, max_tokens=1000) for _ in range(50) for one in (process, second)))
    assert (len(admitted), len(rest)) == (7, 93)
    assert {one.max_tokens for one in admitted} == {1000}
    assert {(one.kind.code, headers(one)["retry-after"]) for one in rest} == {("budget_exceeded", "1")}
    assert all("x-should-retry" not in headers(one) for one in rest), "they run: some of it may come back"
    for one in admitted:
        await charge(process, who, COST)
        await process.end(one, receipt=receipt(1, 1))
    error = await refused(process, who, max_tokens=1000)
    assert headers(error)["x-should-retry"] == "false"


async def test_the_last_of_a_budget_buys_a_shorter_answer_and_then_none(process: Process) -> None:
    who = caller(monthly_budget=200)
    await charge(process, who, 200 - COST + 1)
    admitted = await process.ask(who, max_tokens=1000)
    assert 900 < admitted.max_tokens < 1000
    assert (await refused(process, who, max_tokens=1)).kind.code == "budget_exceeded"
    await process.end(admitted)
    await charge(
        process, who, COST - 1 - 23
    )  # 1024 prompt tokens are 20.48, so 21 with one of the answer, and a fee of 3
    error = await refused(process, who, max_tokens=1)
    assert headers(error)["x-should-retry"] == "false"
    await charge(process, who, -1)
    assert (await process.ask(who, max_tokens=1000)).max_tokens == 8, "21 micro-USDC less the prompt"


async def test_without_a_limit_of_the_caller_a_budget_sets_one(process: Process) -> None:
    assert (await process.ask(caller(monthly_budget=10**9), max_tokens=0)).max_tokens == 4096
    assert (await process.ask(caller(tokens_per_minute=10**9), max_tokens=0)).max_tokens == 0
    embedding = await process.ask(caller("key_2", monthly_budget=24), max_tokens=0, needs=("embeddings",))
    assert embedding.max_tokens == 0
    await refused(process, caller("key_2", monthly_budget=24), max_tokens=0, needs=("embeddings",))


async def test_a_charge_that_may_still_come_stays_reserved(process: Process) -> None:
    who = caller(monthly_budget=COST)
    await process.end(await process.ask(who, max_tokens=1000), may_follow=True)
    assert headers(await refused(process, who, max_tokens=1000))["retry-after"] == "1"


async def test_a_budget_begins_anew_with_the_month(process: Process, clock: Clock) -> None:
    who = caller(monthly_budget=COST)
    await charge(process, who, COST)
    clock.now_ms = next_month_ms(NOON_MS) - 90_500
    assert headers(await refused(process, who))["retry-after"] == "91"
    clock.now_ms = next_month_ms(NOON_MS)
    assert (await process.ask(who, max_tokens=1000)).max_tokens == 1000


async def test_a_replay_is_a_request_and_takes_no_tokens(process: Process) -> None:
    who = caller(requests_per_minute=1, tokens_per_minute=10, concurrent_requests=1)
    found = dict(await process.limits.admit_replay(who))
    assert (found["x-ratelimit-remaining-requests"], found["x-ratelimit-remaining-tokens"]) == ("0", "10")
    with pytest.raises(ApiError) as raised:
        await process.limits.admit_replay(who)
    assert raised.value.kind.code == "rate_limit_exceeded"


def test_four_processes_at_one_database_admit_what_the_tightest_limit_allows(database_url: str) -> None:
    Process(database_url, Clock()).close()
    command = [sys.executable, "-m", "tests.host.hammer", database_url, "50"]
    with contextlib.ExitStack() as running:
        processes = [
            running.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(4)
        ]
        assert [one.stdout.readline() for one in processes if one.stdout] == ["ready\n"] * 4
        for one in processes:
            assert one.stdin
            one.stdin.write("go\n")
            one.stdin.flush()
        counts = [int(one.communicate()[0]) for one in processes]
    assert sum(counts) == 60, counts


async def test_counters_that_may_be_lost_cost_no_write_to_a_disk(process: Process, tmp_path: Path) -> None:
    await process.ask(caller(requests_per_minute=1))
    with process.store._engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 0
            assert (tmp_path / "data" / "host-limits.sqlite").stat().st_mode & 0o777 == 0o600
        else:
            kinds = connection.exec_driver_sql("SELECT relpersistence FROM pg_class WHERE relname LIKE 'limit\\_%%s'")
            assert set(kinds.scalars()) == {"u"}


async def test_charges_are_summed_by_key_and_month(process: Process) -> None:
    who = caller()
    for amount in (5, 7):
        await charge(process, who, amount)
    await charge(process, who, 11, at_ms=next_month_ms(NOON_MS))
    with process.database.engine.connect() as connection:
        months = (month_start_ms(NOON_MS), next_month_ms(NOON_MS), 0)
        found = [charged_in(connection, who.key_id, month_ms) for month_ms in months]
    assert found == [12, 11, 0]


def test_an_admission_of_no_limits_is_no_error() -> None:
    Admission(5).end(None)
