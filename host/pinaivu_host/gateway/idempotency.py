"""`Idempotency-Key`: one key, one body, one job, one charge, and its answer to whoever asks with them within 24 hours.

A key belongs to an account. What is written down, and when, is chosen so that the log alone decides how a job ended:

    1. before the auction         the key's row: whose job it is, with its id, salt and a digest of path and body
    2. before the job is settled  the whole answer, but for the token counts
    3. by settling                the receipt, which has them, as a leaf
    4. after that                 the end of the answer goes out to the callers

    row         receipt         what a request with this key finds       what it gets
    ----------  --------------  ---------------------------------------  ------------------------------------------
    none        -               a new key, or one a day old              an auction
    any         (runs here)     the job of another caller                that job's answer, from its beginning on;
                                                                         409 if the body differs
    no answer   none            a crash before 2., or no award           an auction, once the former job is closed
    answer      none            a crash between 2. and 3., or a          the same, unless closing the former job
                                settlement that nobody heard of          brings its receipt to light
    any         not completed   a job that failed or was cancelled       an auction
    answer      completed       an answer, whoever got to hear it        that answer; 409 if the body differs
    no answer   completed       an answer that could not be stored       500 `idempotency_result_lost`, with its id

Only completed answers are given again. What failed costs nothing; what was cancelled, since the last of its callers
left, costs what they had been delivered. A former job is closed by having the enclave settle it as failed, which it
does for open jobs only: none is charged after its key has begun another. Without the enclave that cannot be known: 503.
"""

import asyncio
import dataclasses
import logging
from typing import Final
from weakref import WeakValueDictionary

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.app import refusal_of
from pinaivu_host.gateway.delivery import MakeSink
from pinaivu_host.gateway.departure import Departure
from pinaivu_host.gateway.error_table import (
    IDEMPOTENCY_CONFLICT,
    IDEMPOTENCY_IN_PROGRESS,
    IDEMPOTENCY_RESULT_LOST,
    TOO_MANY_IDEMPOTENCY_KEYS,
    Header,
)
from pinaivu_host.gateway.errors import ApiError, shutting_down
from pinaivu_host.gateway.former_job import completed_receipt
from pinaivu_host.gateway.idempotency_key import NAME, REPLAYED, KeyedRequest
from pinaivu_host.gateway.job import Job
from pinaivu_host.gateway.market import Market
from pinaivu_host.gateway.rate_limits import Admission
from pinaivu_host.gateway.recording import Recording
from pinaivu_host.store.idempotency import KEPT_MS, KeptAnswer, KeyStore, KeyUse, Place
from pinaivu_host.store.leaf_rows import JobRecord
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed

logger = logging.getLogger(__name__)

KEYS_MAX: Final = 100_000
"""Keys of one account within 24 hours."""
STORED_BYTES_MAX: Final = 1 << 30
"""Compressed answers of one account within 24 hours."""
CLEANING_INTERVAL_S: Final = 300.0


class Idempotency:
    """Every request that carries a key. Whatever it holds in memory is about jobs that run here."""

    def __init__(self, market: Market, keys: KeyStore) -> None:
        self._market, self._keys = market, keys
        self._running: dict[Place, Recording] = {}
        self._past: WeakValueDictionary[Place, Recording] = WeakValueDictionary()
        self._jobs: set[asyncio.Task[None]] = set()
        self._locks: WeakValueDictionary[Place, asyncio.Lock] = WeakValueDictionary()
        self._cleaning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """To be called before the first leaf comes: receipts of jobs that a crash cut short find their owners."""
        for use in await self._keys.unsettled():
            self._market.journal.records[use.request_id] = use.record()
        self._cleaning = asyncio.create_task(self._clean())

    async def stop(self) -> None:
        """Delete no more. Jobs end by themselves."""
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.gather(self._cleaning, return_exceptions=True)

    async def serve(self, keyed: KeyedRequest, make_sink: MakeSink, caller: Departure) -> None:
        """Answer one caller; ApiError before anything was sent, for what is not a job's own failure."""
        async with self._locks.setdefault(keyed.place, asyncio.Lock()):
            recording, headers = await self._find_or_begin(keyed)
            news = recording.join()
        try:
            sink = make_sink(recording.order, headers)
            await recording.play(news, sink, caller)
        finally:
            recording.leave(news, caller.reason)

    async def _find_or_begin(self, keyed: KeyedRequest) -> tuple[Recording, tuple[Header, ...]]:
        """The recording for this request, and the headers of its answer. Held by the key's lock."""
        running = self._running.get(keyed.place)
        if running is not None and running.departure.reason:  # cut short; only its receipt says how it ended
            await running.over.wait()
        if running is not None and not running.over.is_set():
            _check_same(keyed, running.use)
            return running, await self._replayed(keyed)
        former = await self._keys.find(keyed.place)
        receipt = None if former is None else await completed_receipt(self._market, former)
        if former is not None and receipt is not None:
            _check_same(keyed, former)
            return self._recorded(keyed, former, receipt), await self._replayed(keyed)
        return await self._begin(keyed, instead_of=former.request_id if former else "")

    def _recorded(self, keyed: KeyedRequest, former: KeyUse, receipt: Receipt) -> Recording:
        """One for all who hear it at the same time: they may read slowly, and it is as large as an answer may be."""
        past = self._past.get(keyed.place)
        if past is None or past.use.request_id != former.request_id:
            past = self._past[keyed.place] = _recorded(keyed, former, receipt)
        return past

    async def _replayed(self, keyed: KeyedRequest) -> tuple[Header, ...]:
        """An answer that was another request's counts as a request of its own, and as no tokens."""
        return REPLAYED, *await self._market.limits.admit_replay(keyed.order.caller)

    async def _begin(self, keyed: KeyedRequest, *, instead_of: str) -> tuple[Recording, tuple[Header, ...]]:
        if self._market.draining:
            raise shutting_down()
        await keyed.check_payer()
        await self._check_room(keyed.place.account_id)
        use = keyed.use()
        admission = await self._market.limits.admit(keyed.order.caller, keyed.order.command)
        begun = False
        try:
            begun = await self._keys.begin(use, instead_of=instead_of)
        finally:
            if not begun:
                admission.end(None)
        if not begun:
            message = "a request with this idempotency key has just been begun elsewhere"
            raise ApiError(IDEMPOTENCY_IN_PROGRESS, message, param=NAME)
        recording = Recording(use, admission.limit(keyed.order), self._keep)
        self._running[keyed.place] = recording
        job = asyncio.create_task(self._run(recording, admission))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return recording, admission.headers

    async def _check_room(self, account_id: str) -> None:
        held = await self._keys.holdings(account_id)
        if held.keys < KEYS_MAX and held.size_bytes < STORED_BYTES_MAX:
            return
        wait_s = max(1, -((now_ms() - held.oldest_ms - KEPT_MS) // 1000))
        raise ApiError(
            TOO_MANY_IDEMPOTENCY_KEYS,
            f"this account has {held.keys} idempotency keys and {held.size_bytes} bytes of answers under them",
            headers=(("retry-after", str(wait_s)),),
        )

    async def _run(self, recording: Recording, admission: Admission) -> None:
        """The job, in a task that no caller owns."""
        request_id = recording.use.request_id
        job = Job(self._market, recording.order, recording, recording.departure, admission)
        record = self._market.journal.records[request_id]
        try:
            await job.run()
            if not record.transcripts:  # no award: there is nothing that could ever be settled
                await self._keys.forget(recording.use)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the job is told, and it is logged
            await recording.fail(refusal_of(error, request_id=request_id, route="idempotent job"))
        except asyncio.CancelledError:
            await recording.fail(shutting_down())
            raise
        finally:
            recording.end()
            if self._running.get(recording.use.place) is recording:
                del self._running[recording.use.place]

    async def _keep(self, recording: Recording, proof: Signed | None) -> None:
        """Store the answer. Its callers get theirs even if that fails, and later ones are told what happened."""
        use = recording.use
        record = self._market.journal.records[use.request_id]
        answer = _kept(recording, record, proof)
        kv = {"kv": {"request_id": use.request_id}}
        try:
            if not await self._keys.keep(use, answer):
                logger.error("an answer came after its idempotency key was given away", extra=kv)
        except SQLAlchemyError:
            logger.exception("an answer could not be kept for its idempotency key", extra=kv)

    async def _clean(self) -> None:
        while True:
            try:
                await self._keys.forget_expired()
            except SQLAlchemyError:
                logger.exception("expired idempotency keys could not be deleted, trying again later")
            await asyncio.sleep(CLEANING_INTERVAL_S)


def _check_same(keyed: KeyedRequest, use: KeyUse) -> None:
    if keyed.body_sha256 != use.body_sha256:
        message = "this idempotency key was used with another body; use a new key for a new request"
        raise ApiError(IDEMPOTENCY_CONFLICT, message, param=NAME)


def _recorded(keyed: KeyedRequest, former: KeyUse, receipt: Receipt) -> Recording:
    """What the former job answered, under its own id and salt; the rest of the order is the same, as the body is."""
    if former.answer is None:
        raise ApiError(
            IDEMPOTENCY_RESULT_LOST,
            f"{former.request_id} was completed and charged under this idempotency key, but its answer could not be "
            "stored; use a new key to ask again",
        )
    order = dataclasses.replace(
        keyed.order,
        command=msgspec.structs.replace(keyed.order.command, request_id=former.request_id),
        salt=former.salt,
        envelope=dataclasses.replace(
            keyed.order.envelope, request_id=former.request_id, created_s=former.answer.created_s
        ),
    )
    return Recording.of_the_past(former, order, former.answer.deltas, receipt)


def _kept(recording: Recording, record: JobRecord, proof: Signed | None) -> KeptAnswer:
    return KeptAnswer(recording.order.envelope.created_s, recording.deltas, record.transcripts, proof)
