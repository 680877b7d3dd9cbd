"""Requests of keys with limits, as the gateway makes them, without a gateway."""

import asyncio
from typing import Any

from tests.host.town import CONFIGURATION

from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.rate_limits import Admission, RateLimits
from pinaivu_host.store.accounts import Caller
from pinaivu_host.store.api_keys import KeyLimits, KeyTerms
from pinaivu_host.store.database import Database
from pinaivu_host.store.limits import LimitStore
from pinaivu_shared.ids import make_request_id
from pinaivu_shared.wire.link import OpenJob

NOON_MS = 1_792_497_600_000
"""A minute begins, in the middle of a month."""
LEASE_MS = 1_000_000


class Clock:
    """A time that tests set, in milliseconds."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Process:
    """One gateway process's part in it: a connection to the host's database, and limits that are counted there."""

    def __init__(self, database_url: str, clock: Clock) -> None:
        self.clock = clock
        self.database = Database(database_url)
        self.store = LimitStore(self.database, now_ms=clock)
        self.limits = RateLimits(self.store, CONFIGURATION, lease_ms=LEASE_MS, now_ms=clock)
        self._asked = 0

    def command(self, *, request_bytes: int = 0, max_tokens: int = 1, needs: Any = ("chat",)) -> OpenJob:
        self._asked += 1
        return OpenJob(
            request_id=make_request_id(self.clock(), f"{id(self) % 10**5:5}{self._asked:05}".encode()),
            account="acct_" + "0" * 32,
            model="m",
            request_commitment="sha256:" + "0" * 64,
            forwarded_commitment="sha256:" + "0" * 64,
            request_bytes=request_bytes,
            max_tokens=max_tokens,
            needs=needs,
            may_be_empty=False,
        )

    async def ask(self, caller: Caller, **command: Any) -> Admission:
        return await self.limits.admit(caller, self.command(**command))

    async def tried(self, caller: Caller, **command: Any) -> Admission | ApiError:
        try:
            return await self.ask(caller, **command)
        except ApiError as error:
            return error

    async def end(self, *admissions: Admission, receipt: Any = None, may_follow: bool = False) -> None:
        for admission in admissions:
            admission.end(receipt, may_follow=may_follow)
        await self.limits.settled()

    def close(self) -> None:
        self.store.close()
        self.database.close()


def caller(key_id: str = "key_0000000000000001", **limits: int) -> Caller:
    """Whoever holds a key with these limits."""
    terms = KeyTerms(name="k", permission="full", limits=KeyLimits(**limits))
    return Caller("acct_" + "0" * 32, 1000, disabled=False, terms=terms, key_id=key_id)


async def together(*asked: Any) -> tuple[list[Admission], list[ApiError]]:
    """All at once; who got in, who did not."""
    answers = await asyncio.gather(*asked)
    admitted = [one for one in answers if isinstance(one, Admission)]
    return admitted, [one for one in answers if isinstance(one, ApiError)]


def headers(answer: Admission | ApiError) -> dict[str, str]:
    """Of an answer; each name once."""
    found = dict(answer.headers)
    assert len(found) == len(answer.headers)
    return found
