"""The node endpoint: what it forwards, what it refuses, what it bounds."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.host.fake_node import FakeNode, Offered, echoing
from tests.host.town import Town
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pinaivu_shared.canonical import decode
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.signed import Signed, verify_enclave
from pinaivu_shared.terms import NodeReport
from pinaivu_shared.wire import node as wire
from pinaivu_shared.wire.link import (
    PostSealedQuote,
    ReadNodeReport,
    RegisterNode,
    RequestChallenge,
    WithdrawQuotes,
)

pytestmark = pytest.mark.anyio
PUBLIC_KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
HELLO = wire.Hello(wire.NODE_PROTOCOL, PUBLIC_KEY, b"n" * 32, "test")


async def dial(town: Town) -> ClientConnection:
    return await connect(f"ws://127.0.0.1:{town.port}{wire.NODE_PATH}", max_size=None)


async def parted(socket: ClientConnection) -> tuple[wire.Goodbye | None, int | None]:
    """The Goodbye that the gateway says, if it does, and the close code."""
    goodbye = None
    try:
        while True:
            message = wire.decode_from_gateway(await socket.recv(decode=False))
            if isinstance(message, wire.Goodbye):
                goodbye = message
    except ConnectionClosed:
        return goodbye, socket.close_code


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"\x91" * 5000,
        wire.encode(wire.Register(Signed(b"", b""))),
        wire.encode(wire.Hello(99, PUBLIC_KEY, b"n" * 32, "")),
        wire.encode(wire.Delta("req_" + "0" * 26, "x")),
        wire.encode(wire.Cancel("req_" + "0" * 26)),
    ],
    ids=["empty", "garbage", "deep", "register", "protocol", "delta", "gateway's"],
)
async def test_what_is_no_hello_ends_the_connection_with_a_reason(town: Town, raw: bytes) -> None:
    socket = await dial(town)
    await socket.send(raw)
    goodbye, code = await parted(socket)
    assert goodbye is not None
    assert (goodbye.code, code) == ("protocol_error", 1008)
    assert not town.enclave.all_of(RequestChallenge)


async def test_text_is_no_message(town: Town) -> None:
    socket = await dial(town)
    await socket.send("hello")
    assert (await parted(socket))[1] == 1008


async def test_whoever_says_nothing_is_sent_away(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.nodes.HANDSHAKE_LIMIT_S", 0.05)
    goodbye, code = await parted(await dial(town))
    assert goodbye is not None
    assert (goodbye.code, code) == ("handshake_timeout", 1008)


async def test_only_so_many_may_register_at_once(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.nodes.UNREGISTERED_MAX", 3)
    waiting = [await dial(town) for _ in range(3)]
    assert (await parted(await dial(town)))[1] == 1013
    for socket in waiting:
        await socket.close()
    await asyncio.gather(*(socket.wait_closed() for socket in waiting))
    await town.node()


async def test_a_registration_that_the_enclave_refuses_is_told(town: Town) -> None:
    town.enclave.refused[RegisterNode] = "verification_failed"
    socket = await dial(town)
    await socket.send(wire.encode(HELLO))
    await socket.recv()
    await socket.send(wire.encode(wire.Register(Signed(b"x", b"y"))))
    goodbye, code = await parted(socket)
    assert goodbye is not None
    assert (goodbye.code, code) == ("verification_failed", 1008)


async def test_signed_bytes_are_bounded(town: Town) -> None:
    socket = await dial(town)
    await socket.send(wire.encode(HELLO))
    await socket.recv()
    await socket.send(wire.encode(wire.Register(Signed(b"x" * 100_000, b"y"))))
    assert (await parted(socket))[1] == 1008


@pytest.mark.parametrize(
    "message",
    [
        HELLO,
        wire.Register(Signed(b"", b"")),
        wire.Accept("req_" + "0" * 26, Signed(b"x" * 100_000, b"")),
        wire.Prove("req_" + "0" * 26, Signed(b"", b"x" * 1000)),
    ],
    ids=["hello", "register", "accept", "prove"],
)
async def test_a_registered_node_that_breaks_the_protocol_is_sent_away(town: Town, message: wire.NodeMessage) -> None:
    node = await town.node()
    await node.send(message)
    await node.gone()
    assert node.close_code == 1008
    assert node.goodbyes[0].code == "protocol_error"


async def test_words_about_unknown_jobs_are_ignored(town: Town) -> None:
    node = await town.node()
    stranger = "req_" + "0" * 26
    for message in (wire.Delta(stranger, "x"), wire.Decline(stranger, "busy"), wire.Prove(stranger, Signed(b"", b""))):
        await node.send(message)
    assert (await town.chat()).status_code == 200


async def test_a_quote_that_the_enclave_refuses_ends_the_session(town: Town) -> None:
    node = await town.node()
    town.enclave.refused[PostSealedQuote] = "refused_quote"
    await node.send(wire.PostQuote(b"sealed"))
    await node.gone()
    assert node.goodbyes[0].code == "refused_quote"


async def test_a_node_that_asks_how_it_stands_gets_the_enclaves_word(town: Town) -> None:
    node = await town.node()
    receipt = await town.client().get(f"/v1/receipts/{(await town.chat()).json()['request_id']}")
    signed = await node.ask()
    payload = verify_enclave("node-report", signed, node.manifest.receipt_public_key())
    report = decode(payload, NodeReport, check="report")
    assert (report.node_id, report.session, report.wins, report.losses) == (node.node_id, node.session, 1, 0)
    assert report.earned == parse_usdc(receipt.json()["payment_amount"]) > 0
    assert [(quote.model, quote.running) for quote in report.quotes] == [("m", 0)]


async def test_a_node_that_asks_faster_than_it_is_answered_is_sent_away(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinaivu_host.nodes.WISHES_WAITING_MAX", 3)
    town.enclave.silent_on = (ReadNodeReport,)
    node = await town.node()
    for _ in range(5):
        await node.send(wire.RequestReport())
    await node.gone()
    assert node.goodbyes[0].code == "protocol_error"
    assert len(town.enclave.all_of(ReadNodeReport)) == 1


async def test_withdrawn_models_are_not_offered(town: Town) -> None:
    node = await town.node(models=("m", "a/b:1"))
    await node.send(wire.WithdrawQuotes("m"))
    await town.enclave.heard(WithdrawQuotes)
    listed = (await town.client().get("/v1/models")).json()["data"]
    assert [one["id"] for one in listed] == ["a/b:1"]
    assert (await town.chat()).json()["error"]["code"] == "no_node_available"


async def test_a_node_that_comes_again_replaces_itself(town: Town) -> None:
    first = await town.node(echoing("old"))
    second = FakeNode(town.port, echoing("new"))
    second.key, second.public_key, second.node_id = first.key, first.public_key, first.node_id
    town.nodes.append(await second.start())
    await first.gone()
    assert first.goodbyes[0].code == "replaced"
    while len(town.host.nodes) > 1:
        assert (await town.client().get("/healthz")).status_code == 200
    assert "new" in (await town.chat()).text


async def test_many_jobs_share_one_connection(town: Town) -> None:
    async def spell(offered: Offered) -> None:
        await offered.answer(*offered.request["messages"][0]["content"])

    node = await town.node(spell)

    async def ask(number: int) -> Any:
        response = await town.chat(messages=[{"role": "user", "content": f"message {number}"}])
        return response.json()["choices"][0]["message"]["content"]

    assert await asyncio.gather(*(ask(n) for n in range(40))) == [f"message {n}" for n in range(40)]
    assert len(node.offers) == 40
