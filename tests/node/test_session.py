"""Joining the market: the enclave is judged, the node registers, quotes stand while the engine is ready."""

from typing import Any

import msgspec
import pytest
import trio
import trio_websocket
from cryptography.hazmat.primitives.asymmetric import ec

from pinaivu_node.tariff import Tariff
from pinaivu_shared.canonical import encode
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import Signed, sign_as_enclave
from pinaivu_shared.terms import Registered
from pinaivu_shared.wire.node import (
    NODE_PROTOCOL,
    Accept,
    Goodbye,
    Register,
    RegistrationAccepted,
    Welcome,
    WithdrawQuotes,
)

from .market import CONFIGURATION, MODEL, NODE, NOW_MS, Enclave
from .running import network


@pytest.mark.trio
async def test_a_node_registers_by_answering_the_challenge() -> None:
    async with network() as running:
        gateway = await running.connection()
        registration = await gateway.admit()
        assert gateway.hello.protocol == NODE_PROTOCOL
        assert gateway.hello.public_key == NODE.public_key
        assert registration.session == gateway.session
        assert registration.challenge == "33" * 32
        assert registration.public_key == NODE.public_key.hex()
        assert registration.operator == "alice"


OTHER_KEY = ec.derive_private_key(8, ec.SECP256R1())


def challenge(key: ec.EllipticCurvePrivateKey | None = None, **changes: Any) -> Signed:
    enclave = Enclave()
    return sign_as_enclave("challenge", encode(enclave.challenge("ses_" + "0" * 32, **changes)), key or enclave.receipt)


@pytest.mark.trio
@pytest.mark.parametrize(
    "changes",
    [
        {"attestation": b"attested" + b"\0" * 32},
        {"attestation": b""},
        {"manifest": b"{}"},
        {"configuration": b"{}"},
        {"challenge": challenge(OTHER_KEY)},
        {"challenge": challenge(node_id="node_" + "0" * 32)},
        {"challenge": challenge(expires_ms=NOW_MS)},
        {"challenge": Signed(b"{}", b"")},
    ],
    ids=["old nonce", "no document", "manifest", "configuration", "other key", "other node", "expired", "unsigned"],
)
async def test_an_enclave_that_cannot_be_believed_gets_no_registration(changes: dict[str, Any]) -> None:
    async with network() as running:
        gateway = await running.connection()
        await gateway.welcome(**changes)
        with pytest.raises(trio_websocket.ConnectionClosed):
            await gateway.receive(Register)
        again = await running.connection()
        await again.admit()
        assert again.hello.nonce != gateway.hello.nonce


@pytest.mark.trio
@pytest.mark.parametrize("changes", [{"session": "ses_" + "9" * 32}, {"node_id": "node_" + "0" * 32}])
async def test_a_registration_of_somebody_else_is_not_ours(changes: dict[str, str]) -> None:
    async with network() as running:
        gateway = await running.connection()
        await gateway.welcome()
        await gateway.receive(Register)
        registered = Registered(session=gateway.session, node_id=NODE.node_id, registered_ms=NOW_MS)
        payload = encode(msgspec.structs.replace(registered, **changes))
        await gateway.send(RegistrationAccepted(sign_as_enclave("registered", payload, gateway.enclave.receipt)))
        with pytest.raises(trio_websocket.ConnectionClosed):
            await gateway.receive(Register)


@pytest.mark.trio
async def test_a_quote_says_what_the_operator_set_and_its_acknowledgement_is_kept() -> None:
    async with network() as running:
        counter = await running.open()
        quote = counter.standing
        assert (quote.session, quote.node_id, quote.model) == (counter.gateway.session, NODE.node_id, MODEL)
        assert (quote.input_price, quote.output_price, quote.slots) == (100, 200, 2)
        assert quote.context_length == 4096
        assert quote.expires_ms == NOW_MS + CONFIGURATION.quote_lifetime_ms  # the market's bound, below the node's wish
        while not running.kept:
            await trio.lowlevel.checkpoint()
        assert digest_of(running.kept[0].quote.payload) == counter.digest


@pytest.mark.trio
async def test_quotes_are_renewed_with_a_rising_sequence() -> None:
    async with network(quote_lifetime_ms=20) as running:
        counter = await running.open()
        sequences = [counter.standing.sequence, *[(await counter.gateway.quote())[0].sequence for _ in range(3)]]
        assert sequences == sorted(set(sequences))


@pytest.mark.trio
@pytest.mark.parametrize(
    "changes",
    [{"quote": digest_of(b"other")}, {"sequence": 99}, {"session": "ses_" + "9" * 32}, {"node_id": "node_" + "0" * 32}],
)
async def test_an_acknowledgement_of_something_else_ends_the_session(changes: dict[str, Any]) -> None:
    async with network() as running:
        gateway = await running.connection()
        await gateway.admit()
        await gateway.quote(**changes)
        await (await running.connection()).open()


@pytest.mark.trio
async def test_quotes_are_withdrawn_while_the_engine_is_not_ready() -> None:
    async with network() as running:
        counter = await running.open()
        running.engine.fail()
        assert await counter.gateway.receive(WithdrawQuotes) == WithdrawQuotes("")
        running.engine.become_ready(context_length=1024)
        quote, _ = await counter.gateway.quote()
        assert quote.context_length == 1024


@pytest.mark.trio
@pytest.mark.parametrize(
    ("tariff", "reason"),
    [
        (Tariff(input_price=1001, output_price=200, slots=2), "input price 1001 is above the list price 1000"),
        (Tariff(input_price=100, output_price=2001, slots=2), "output price 2001 is above the list price 2000"),
    ],
)
async def test_no_quote_is_posted_above_the_list_price(
    tariff: Tariff, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with network(tariff=tariff) as running:
        gateway = await running.connection()
        await gateway.admit()
        while "not quoted, since the market would not buy it" not in caplog.messages:
            await trio.lowlevel.checkpoint()
        (told,) = (one for one in caplog.records if one.getMessage() == "not quoted, since the market would not buy it")
        assert vars(told)["kv"] == {"models": {MODEL: reason}}
        while running.shown[-1].engines[0].unquoted != {MODEL: reason}:
            await trio.lowlevel.checkpoint()
        running.agent.drain()
        assert await gateway.receive(WithdrawQuotes) == WithdrawQuotes("")


@pytest.mark.trio
async def test_a_node_comes_back_when_the_connection_is_lost() -> None:
    async with network() as running:
        first = await running.open()
        await first.gateway.websocket.aclose()
        second = await running.open()
        assert second.standing.session != first.standing.session


@pytest.mark.trio
@pytest.mark.parametrize(
    "raw", [b"", b"\xc1", b"\x90", "text", b"\x81\xa4type\xa5Offer", msgspec.msgpack.encode({"type": "Hello"})]
)
async def test_garbage_ends_the_session_and_not_the_node(raw: bytes | str) -> None:
    async with network() as running:
        counter = await running.open()
        await counter.gateway.websocket.send_message(raw)
        await running.open()


@pytest.mark.trio
async def test_a_message_out_of_place_ends_the_session() -> None:
    async with network() as running:
        counter = await running.open()
        await counter.gateway.send(Welcome(b"", b"", b"", Signed(b"", b"")))
        await running.open()


@pytest.mark.trio
async def test_a_goodbye_is_noted_and_what_follows_it_still_counts(caplog: pytest.LogCaptureFixture) -> None:
    async with network() as running:
        counter = await running.open()
        await counter.gateway.send(Goodbye("shutting_down", "for an update"))
        award = counter.award()
        await counter.offer(award)
        await counter.gateway.receive(Accept)
        assert "gateway says goodbye" in caplog.messages


@pytest.mark.trio
async def test_a_node_that_is_told_to_leave_before_it_registered_leaves_at_once() -> None:
    async with network() as running:
        await running.connection()
        running.agent.drain()
        await running.left.wait()
