"""An enclave for the host's tests: the real coordinator, booted on a simulated platform, behind its Unix socket.

It runs in the tests' own event loop, on the real clock, but ends what is overdue only when a test says so (`tick`).
Faults are filters around the coordinator, set by attributes. A new `FakeEnclave` on the same path is a new enclave with
the same vault; `drop` only breaks the connections.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
import secrets
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.enclave.market import at_once

from pinaivu_enclave.boot import Boot, EnclavePlatform, ServingEpoch
from pinaivu_enclave.core.commands import IllegalCommandError, IssueChallenge, Tick
from pinaivu_enclave.core.coordinator import Coordinator
from pinaivu_enclave.core.keys import derive_signing_key
from pinaivu_enclave.core.sessions import CHALLENGE_ENTROPY_BYTES
from pinaivu_enclave.vault import OpenedVault, Vault
from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import PinaivuError
from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.leaves import Leaf, parse_leaf
from pinaivu_shared.log.keys import Algorithm, VerifierKey
from pinaivu_shared.signed import Signed, sign_ed25519
from pinaivu_shared.terms import Order
from pinaivu_shared.trust import TrustFile
from pinaivu_shared.wire import link, link_boot
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS, SimulatedNsm
from pinaivu_simulator.pki import SimulatedPki

Reply = list[link.Result | link.Push]
VAULT_SECRET = bytes(range(32))
CHECKPOINT_KEY = derive_signing_key(VAULT_SECRET, "checkpoint")
OPERATOR_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"operator of the tests").digest())
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(link.Call)


class FakeEnclave:
    """One enclave. `commands` is everything it was told, in order; `leaves` is its whole log.

    `silent_on` names commands that it neither carries out nor answers, `refused` the code of those that it refuses.
    Without `checkpoints` it signs none. `alter` has the last word on what is answered to a command.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commands: list[link.HostCommand] = []
        self.leaves: list[bytes] = []
        self.silent_on: tuple[type[link.HostCommand], ...] = ()
        self.refused: dict[type[link.HostCommand], str] = {}
        self.checkpoints = True
        self.sealed_vault = b"sealed by the first"
        self.alter: Callable[[link.HostCommand, Reply], Reply] = lambda _command, reply: reply
        self._nsm = SimulatedNsm(_pki(), now_ms=now_ms, entropy=secrets.token_bytes)
        self._boot: Boot | None = None
        self._epoch: ServingEpoch | None = None
        self._instance = ""
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Listen."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self._server = await asyncio.start_unix_server(self._connection, self.path)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        self._server.close()
        self.drop()
        await self._server.wait_closed()

    def drop(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def heard(self, kind: type[link.HostCommand], *, count: int = 1) -> None:
        """Wait until so many commands of a kind have come."""
        while sum(isinstance(command, kind) for command in self.commands) < count:
            self._changed.clear()
            await self._changed.wait()

    async def credited(self) -> None:
        """Wait until the host has handed in an order, and stored everything."""
        await self.heard(link.RecordOrder)
        await self.stored()

    async def stored(self) -> None:
        """Wait until the host has stored everything, and has said so."""
        while self.durable < len(self.leaves):
            self._changed.clear()
            await self._changed.wait()

    def all_of(self, kind: type[Any]) -> list[Any]:
        """The commands of a kind, in order."""
        return [command for command in self.commands if isinstance(command, kind)]

    def logged(self, kind: type[Any]) -> list[Any]:
        """The leaves of a kind, in order."""
        parsed: list[Leaf] = [parse_leaf(leaf) for leaf in self.leaves]
        return [leaf for leaf in parsed if isinstance(leaf, kind)]

    @property
    def coordinator(self) -> Coordinator:
        """The core, once it serves."""
        assert self._epoch is not None
        return self._epoch.coordinator

    @property
    def durable(self) -> int:
        """How many leaves the host acknowledged."""
        return self.coordinator._journal.durable

    @property
    def open_jobs(self) -> int:
        """How many jobs are awarded and not settled."""
        return len(self.coordinator._jobs)

    @property
    def busy_slots(self) -> int:
        """How many jobs all nodes run, by the enclave's count."""
        return sum(self.coordinator._book._running.values())

    def tick(self, *, later_ms: int = 0) -> None:
        """Let it notice the time, or a later one."""
        self._push(self.coordinator.apply(Tick(), now_ms() + later_ms))

    def carry_out(self, command: link.RecordOrder) -> None:
        """Carry out a command that nobody sent, so that nobody gets an answer, only what is pushed."""
        self._push(self.coordinator.apply(command, now_ms()))

    def _push(self, effects: Reply) -> None:
        pushes: Reply = [one for one in effects if isinstance(one, link.LeafAppended | link.CheckpointSigned)]
        self._keep(pushes)
        for writer in self._writers:
            _write(writer, 0, pushes)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        frames = FrameReader("host", max_bytes=link.MAX_FRAME_BYTES)
        with contextlib.suppress(ConnectionError):
            while received := await reader.read(65536):
                for payload in frames.feed(received):
                    self._serve(writer, _decoder.decode(payload))
        self._writers.discard(writer)
        writer.close()

    def _serve(self, writer: asyncio.StreamWriter, call: link.Call) -> None:
        self.commands.append(call.command)
        self._changed.set()
        if isinstance(call.command, self.silent_on):
            return
        refusal = self.refused.get(type(call.command))
        reply: Reply = [link.Refused(refusal, "as set")] if refusal else self._answer(call.command)
        _write(writer, call.id, self.alter(call.command, reply))

    def _answer(self, command: link.HostCommand) -> Reply:
        try:
            reply = self._carry_out(command)
        except PinaivuError as error:
            return [link.Refused(error.code, str(error))]
        self._keep(reply)
        return [one for one in reply if self.checkpoints or not isinstance(one, link.CheckpointSigned)]

    def _keep(self, reply: Reply) -> None:
        for one in reply:
            if isinstance(one, link.LeafAppended) and one.index == len(self.leaves):
                self.leaves.append(one.leaf)  # any other is sent again

    def _carry_out(self, command: link.HostCommand) -> Reply:
        if isinstance(command, link_boot.Introduce):
            self._instance = command.instance
        if self._epoch is None:
            return self._carry_out_boot(command)
        match command:
            case link.Attest(nonce):
                return [self._epoch.attest(self._nsm, nonce)]
            case link.RequestChallenge(public_key):
                entropy = secrets.token_bytes(CHALLENGE_ENTROPY_BYTES)
                return self.coordinator.apply(IssueChallenge(public_key, entropy), now_ms())
            case link_boot.Configure() | link_boot.OpenVault() | link_boot.Resume() | link_boot.FinishResume():
                raise IllegalCommandError("serving")
            case _:
                return self.coordinator.apply(command, now_ms())

    def _carry_out_boot(self, command: link.HostCommand) -> Reply:
        if self._boot is None:
            self._boot = Boot(_platform(self._nsm, _FixedVault(self.sealed_vault)))
        match command:
            case link_boot.Introduce():
                return [link_boot.Introduction(self._boot.phase, 0, 0)]
            case link_boot.Configure(configuration):
                self._boot.configure(configuration)
                self.leaves = []
            case link_boot.OpenVault(sealed):
                return [link_boot.VaultOpened(at_once(self._boot.open_vault(sealed)))]
            case link_boot.Resume(leaves):
                self._boot.resume(leaves)
                self.leaves += leaves
            case link_boot.FinishResume(checkpoint):
                self._epoch, effects = self._boot.finish(checkpoint, self._instance)
                return [*effects, link.Done()]
            case _:
                raise IllegalCommandError("not serving yet")
        return [link.Done()]


def trust(origin: str) -> TrustFile:
    """What a customer of such enclaves believes."""
    return TrustFile(
        platform="simulator",
        root=_pki().trust_root,
        policy=MeasurementPolicy.exactly(SIMULATED_MEASUREMENTS),
        origin=origin,
        log_keys=(VerifierKey(origin, Algorithm.ED25519, CHECKPOINT_KEY.public_key().public_bytes_raw()),),
        witnesses=(),
        quorum=0,
    )


def signed_order(order: Order) -> link.RecordOrder:
    """The command that hands in an order of the operator."""
    payload = encode(order)
    return link.RecordOrder(Signed(payload, sign_ed25519("order", payload, OPERATOR_KEY)))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class _FixedVault:
    """A vault whose secret is a constant."""

    def __init__(self, sealed: bytes) -> None:
        self._sealed = sealed

    async def open(self, _configuration: Configuration, _sealed: bytes) -> OpenedVault:
        return OpenedVault(VAULT_SECRET, self._sealed)


def _platform(nsm: SimulatedNsm, vault: Vault) -> EnclavePlatform:
    return EnclavePlatform(names=frozenset({"simulator"}), nsm=nsm, root=nsm.trust_root, vault=vault)


@cache
def _pki() -> SimulatedPki:
    return SimulatedPki.create(now=dt.datetime.now(dt.UTC), entropy=secrets.token_bytes)


def _write(writer: asyncio.StreamWriter, number: int, reply: Reply) -> None:
    for one in reply:
        answered = 0 if isinstance(one, link.LeafAppended | link.CheckpointSigned) else number
        writer.write(frame(_encoder.encode(link.Answer(answered, one)), max_bytes=link.MAX_FRAME_BYTES))
