"""Awards: which are run, and every reason for which none is."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pinaivu_shared.canonical import encode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed, sign_as_enclave
from pinaivu_shared.wire.node import Accept, Decline, Offer, PostQuote

from .engines.scripted import ScriptedEngine, chunk, event, head, serving, streamed, usage
from .market import BODY, MODEL, NOW_MS, SALT, Counter
from .running import network

ANSWER = streamed(chunk("Good "), chunk("day"), chunk(finish="stop"), usage(9, 3))
BEGUN = head("200 OK", "text/event-stream") + event(chunk("Good "))
HELD = [BEGUN, ScriptedEngine.HOLD]


OTHER_KEY = ec.derive_private_key(9, ec.SECP256R1())
Spoil = Callable[[Counter], Offer]


def of_award(**changes: Any) -> Spoil:
    return lambda counter: counter.signed(counter.award(**changes))


def of_offer(**changes: Any) -> Spoil:
    return lambda counter: msgspec.structs.replace(counter.signed(counter.award()), **changes)


def of_body(body: Any, **changes: Any) -> Spoil:
    """An award that commits to this body, which no node should run."""
    return lambda counter: counter.signed(counter.award(body, **changes), body)


def by_other_key(counter: Counter) -> Offer:
    payload = encode(counter.award())
    return msgspec.structs.replace(counter.signed(counter.award()), award=sign_as_enclave("award", payload, OTHER_KEY))


def of_another_kind(counter: Counter) -> Offer:
    payload = encode(counter.award())
    signed = sign_as_enclave("challenge", payload, counter.gateway.enclave.receipt)
    return msgspec.structs.replace(counter.signed(counter.award()), award=signed)


def altered_after_signing(counter: Counter) -> Offer:
    signed = counter.signed(counter.award()).award
    payload = encode(counter.award(input_price=999))
    return msgspec.structs.replace(counter.signed(counter.award()), award=Signed(payload, signed.signature))


REFUSALS: dict[str, Spoil] = {
    "signed by another key": by_other_key,
    "signed as another kind": of_another_kind,
    "altered after signing": altered_after_signing,
    "another node": of_award(node_id="node_" + "0" * 32),
    "another session": of_award(session="ses_" + "9" * 32),
    "a quote never posted": of_award(quote=digest_of(b"other")),
    "another model": of_award(model="other"),
    "input price below the quote": of_award(input_price=99),
    "output price below the quote": of_award(output_price=199),
    "no token to answer with": of_award(max_completion_tokens=0),
    "no token for a completion": of_body({"model": MODEL, "prompt": "x"}, max_completion_tokens=0),
    "first token overdue": of_award(first_token_by_ms=NOW_MS),
    "deadline over": of_award(deadline_ms=NOW_MS - 1),
    "another request's commitment": of_award(forwarded_commitment=digest_of(b"x")),
    "another length": of_award(request_bytes=1),
    "another salt": of_offer(salt=bytes(32)),
    "another request": of_offer(request=b'{"messages":[],"model":"llama3.2:1b"}'),
    "request not JSON": of_offer(request=b"{"),
    "request with a key twice": of_offer(request=b'{"model":"x","model":"x"}'),
    "request too deep": of_offer(request=b"[" * 100_000),
    "request not UTF-8": of_offer(request=b'"\xff"'),
    "request that is no object": of_body([BODY]),
    "request for another model": of_body({**BODY, "model": "other"}),
    "request with a field nodes must not see": of_body({**BODY, "user": "somebody"}),
}


@pytest.mark.trio
@pytest.mark.parametrize("spoil", REFUSALS.values(), ids=REFUSALS)
async def test_an_award_that_does_not_hold_is_declined_and_never_run(spoil: Spoil) -> None:
    async with serving() as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.gateway.send(spoil(counter))
        decline = await counter.gateway.receive(Decline)
        assert decline.reason == "invalid_award"
        assert not engine.asked.is_set()


@pytest.mark.trio
async def test_an_award_is_good_for_one_run() -> None:
    async with serving(ANSWER) as engine, network(engine.address) as running:
        counter = await running.open()
        await counter.offer(award := counter.award())
        await counter.accepted(award)
        await counter.outcome()
        for again in (award, msgspec.structs.replace(award, attempt=2)):
            await counter.offer(again)
            decline = await counter.gateway.receive(Decline)
            assert (decline.request_id, decline.reason) == (award.request_id, "invalid_award")


@pytest.mark.trio
async def test_an_award_of_an_earlier_session_is_not_run_in_the_next() -> None:
    async with network() as running:
        first = await running.open()
        award = first.award()
        await first.gateway.websocket.aclose()
        second = await running.open()
        await second.offer(award)
        assert (await second.gateway.receive(Decline)).reason == "invalid_award"


@pytest.mark.trio
async def test_an_offer_without_an_award_ends_the_session() -> None:
    async with network() as running:
        counter = await running.open()
        await counter.gateway.send(Offer(Signed(b"{}", b""), b"{}", SALT))
        await running.open()


@pytest.mark.trio
async def test_an_award_under_the_former_quote_is_still_run_after_its_renewal() -> None:
    async with (
        serving(ANSWER) as engine,
        network(engine.address, quote_lifetime_ms=40) as running,
    ):
        counter = await running.open()
        renewed, _ = await counter.gateway.quote()
        assert renewed.sequence > counter.standing.sequence
        await counter.offer(counter.award())
        while isinstance(message := await counter.gateway.any(), PostQuote):
            pass
        assert isinstance(message, Accept)
