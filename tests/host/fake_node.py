"""A node for the host's tests: a real WebSocket, a real key, and a script that says what it does with each offer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.enclave.market import grant
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pinaivu_host.clock import now_ms
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.commitments import forwarded_commitment, response_commitment
from pinaivu_shared.configuration import ModelTerms, parse_configuration
from pinaivu_shared.ids import digest_of, node_id_of
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.sealing import seal
from pinaivu_shared.signed import Signed, sign_as_node
from pinaivu_shared.terms import Acceptance, Award, Capabilities, Capability, Challenge, Proof, Quote, Registration
from pinaivu_shared.wire import node as wire

EVERYTHING: Capabilities = get_args(Capability)
Script = Callable[["Offered"], Awaitable[None]]
QUOTED_FOR_MS = 300_000


@dataclass
class Offered:
    """One offer, and what a script can answer to it."""

    node: "FakeNode"
    award: Award
    signed: Signed
    request: Any
    salt: bytes
    cancelled: asyncio.Event

    async def accept(self) -> None:
        """Take the award."""
        acceptance = Acceptance(
            request_id=self.award.request_id,
            node_id=self.award.node_id,
            session=self.award.session,
            award=digest_of(self.signed.payload),
        )
        signed = sign_as_node("acceptance", encode(acceptance), self.node.key)
        await self.node.send(wire.Accept(self.award.request_id, signed))

    async def decline(self, reason: wire.DeclineReason) -> None:
        """Refuse the award."""
        await self.node.send(wire.Decline(self.award.request_id, reason))

    async def delta(self, content: str = "", **fields: Any) -> None:
        """A piece of the answer."""
        await self.node.send(wire.Delta(self.award.request_id, content, **fields))

    async def prove(self, content: str, *, outcome: Any = "completed", **changes: Any) -> None:
        """Prove an answer of one choice with this text; `choices`, `tokens` replace the defaults."""
        choice = {"index": 0, "message": {"content": content}, "finish_reason": changes.get("finish_reason", "stop")}
        choices = changes.get("choices", [choice])
        prompt_tokens, completion_tokens = changes.get("tokens", (11, max(1, len(content) // 4)))
        proof = Proof(
            request_id=self.award.request_id,
            node_id=self.award.node_id,
            session=self.award.session,
            sequence=1,
            public_key=self.node.public_key.hex(),
            award=digest_of(self.signed.payload),
            outcome=outcome,
            reason="",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            forwarded_commitment=forwarded_commitment(self.request, self.salt),
            response_commitment=response_commitment(choices, self.salt),
            first_token_ms=1,
            duration_ms=2,
        )
        self.node.proofs.append(sign_as_node("proof", encode(proof), self.node.key))
        await self.node.send(wire.Prove(self.award.request_id, self.node.proofs[-1]))

    async def answer(self, *pieces: str, finish_reason: Any = "stop") -> None:
        """Accept, stream these pieces, finish, prove."""
        await self.accept()
        for piece in pieces:
            await self.delta(piece)
        await self.delta(finish_reason=finish_reason)
        await self.prove("".join(pieces), finish_reason=finish_reason)


def echoing(*pieces: str) -> Script:
    """The script of a node that always gives the same answer."""

    async def script(offered: Offered) -> None:
        await offered.answer(*pieces)

    return script


async def endless(offered: Offered) -> None:
    """Stream until cancelled, then prove what was streamed."""
    await offered.accept()
    told = ""
    while not offered.cancelled.is_set():
        told += "x"
        await offered.delta("x")
        await asyncio.sleep(0.01)
    await offered.prove(told, outcome="cancelled", finish_reason=None)


def breaking(proceed: asyncio.Event) -> Script:
    """The script of a node that begins to answer, waits, and then sends what the protocol does not allow."""

    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("Hel")
        await proceed.wait()
        await offered.delta("x", index=7)

    return script


class Gate:
    """A node that begins to answer, waits until `proceed`, and ends. `begun` says that the first piece was sent."""

    def __init__(self) -> None:
        self.begun, self.proceed = asyncio.Event(), asyncio.Event()

    async def script(self, offered: Offered) -> None:
        await offered.accept()
        await offered.delta("begun")
        self.begun.set()
        await self.proceed.wait()
        await offered.delta(finish_reason="stop")
        await offered.prove("begun")


class FakeNode:
    """Connects, registers, quotes, and runs `script` for each offer.

    `offers`, `cancels`, `reports` and `goodbyes` are what it was told, `proofs` what it said in the end. It asks for
    half the reserve prices; of several nodes the one of the lowest `rank` asks for least.
    """

    def __init__(
        self,
        port: int,
        script: Script,
        *,
        models: Iterable[str] = ("m",),
        slots: int = 1000,
        rank: int = 0,
        operator: str = "operator",
        capabilities: Capabilities = EVERYTHING,
        context_length: int = 100_000,
    ) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.public_key = self.key.public_key().public_bytes_raw()
        self.node_id = node_id_of(self.public_key)
        self.script, self.models, self.slots, self.capabilities = script, tuple(models), slots, capabilities
        self.rank, self.operator, self.context_length = rank, operator, context_length
        self.offers: list[Award] = []
        self.cancels: list[str] = []
        self.proofs: list[Signed] = []
        self.goodbyes: list[wire.Goodbye] = []
        self.reports: list[Signed] = []
        self.acknowledged = asyncio.Event()
        self._port = port
        self._offered: dict[str, Offered] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: ClientConnection
        self._changed = asyncio.Event()

    async def start(self) -> "FakeNode":
        """Connect and quote; return once every quote stands."""
        address = f"ws://127.0.0.1:{self._port}{wire.NODE_PATH}"
        self._socket = await connect(address, max_size=None, compression=None)
        await self.send(wire.Hello(wire.NODE_PROTOCOL, self.public_key, b"n" * 32, "fake"))
        welcome = await self.receive()
        assert isinstance(welcome, wire.Welcome), welcome
        self.manifest = manifest = decode(welcome.manifest, KeyManifest, check="manifest")
        challenge = decode(welcome.challenge.payload, Challenge, check="challenge")
        self.session = challenge.session
        registration = Registration(
            session=challenge.session,
            challenge=challenge.challenge,
            public_key=self.public_key.hex(),
            **grant(self.operator, self.public_key),
        )
        await self.send(wire.Register(sign_as_node("registration", encode(registration), self.key)))
        accepted = await self.receive()
        assert isinstance(accepted, wire.RegistrationAccepted), accepted
        configuration = parse_configuration(welcome.configuration)
        for sequence, model in enumerate(self.models, start=1):
            terms = configuration.model(model)
            assert terms is not None
            await self._quote(terms, sequence, manifest)
            acknowledged = await self.receive()
            assert isinstance(acknowledged, wire.QuoteAcknowledged), acknowledged
        self._reading = asyncio.create_task(self._read())
        return self

    async def stop(self) -> None:
        """Cut the connection."""
        self._socket.transport.abort()
        await self.gone()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def gone(self) -> None:
        """Wait until the connection has ended."""
        await asyncio.gather(self._reading, return_exceptions=True)

    @property
    def close_code(self) -> int | None:
        """With which code the gateway closed."""
        return self._socket.close_code

    async def told(self, *, cancels: int = 0, offers: int = 0, reports: int = 0) -> None:
        """Wait until so many cancels, offers and reports have come."""
        while len(self.cancels) < cancels or len(self.offers) < offers or len(self.reports) < reports:
            self._changed.clear()
            await self._changed.wait()

    async def ask(self) -> Signed:
        """How this node stands; when the answer is there, the gateway has taken all that was sent before."""
        await self.send(wire.RequestReport())
        await self.told(reports=len(self.reports) + 1)
        return self.reports[-1]

    async def send(self, message: wire.NodeMessage) -> None:
        """One message to the gateway; lost if the connection is gone."""
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(wire.encode(message))

    async def receive(self) -> wire.FromGateway:
        """The next message of the gateway."""
        raw = await self._socket.recv(decode=False)
        return wire.decode_from_gateway(raw)

    async def _quote(self, terms: ModelTerms, sequence: int, manifest: KeyManifest) -> None:
        hundredths = 50 + self.rank
        quote = Quote(
            session=self.session,
            sequence=sequence,
            node_id=self.node_id,
            model=terms.model,
            input_price=max(1, terms.input_reserve_price * hundredths // 100),
            output_price=max(1, terms.output_reserve_price * hundredths // 100),
            slots=self.slots,
            context_length=self.context_length,
            capabilities=self.capabilities,
            expires_ms=now_ms() + QUOTED_FOR_MS,
        )
        signed = msgspec.msgpack.encode(sign_as_node("quote", encode(quote), self.key))
        await self.send(wire.PostQuote(seal(signed, manifest.sealing_public_key())))

    async def _read(self) -> None:
        while True:
            self._take(await self.receive())
            self._changed.set()

    def _take(self, message: wire.FromGateway) -> None:
        match message:
            case wire.Offer():
                award = decode(message.award.payload, Award, check="award")
                request = msgspec.json.decode(message.request)
                offered = Offered(self, award, message.award, request, message.salt, asyncio.Event())
                self._offered[award.request_id] = offered
                self.offers.append(award)
                task = asyncio.create_task(self._run(offered))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case wire.Cancel():
                self.cancels.append(message.request_id)
                self._offered[message.request_id].cancelled.set()
            case wire.Report():
                self.reports.append(message.report)
            case wire.Goodbye():
                self.goodbyes.append(message)
            case _:
                pass

    async def _run(self, offered: Offered) -> None:
        await self.script(offered)
