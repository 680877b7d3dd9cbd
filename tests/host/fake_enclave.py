"""An enclave for the host's tests: speaks wire.link over a Unix socket, signs with real keys, decides simply.

The first standing quote with a free slot whose node has not failed wins, by the real rule with one bid. Faults are set
by attributes. A new `FakeEnclave` on the same path is a new enclave; `drop` only breaks the connections.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.configuration import Configuration, parse_configuration
from pinaivu_shared.framing import FrameReader, frame
from pinaivu_shared.ids import digest_of, node_id_of
from pinaivu_shared.leaves import ConfigurationLeaf, EpochLeaf, sign_leaf
from pinaivu_shared.log.checkpoint import sign_checkpoint
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.tree import CompactRange
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.money import amount_owed, fee_on, format_usdc
from pinaivu_shared.receipt import LogPosition, Receipt, ReceiptAuction, ReceiptTiming, sign_receipt
from pinaivu_shared.sealing import open_sealed
from pinaivu_shared.second_score import Bid, Lot, run_auction
from pinaivu_shared.signed import Signed, sign_as_enclave
from pinaivu_shared.terms import Award, Challenge, Proof, Quote, QuoteAcknowledgement, Registered
from pinaivu_shared.wire import link

Reply = list[link.Result | link.Push]
CHECKPOINT_KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(link.Call)


@dataclass
class _Job:
    request: link.OpenJob
    award: Award
    signed: Signed
    transcript: bytes
    accepted: bool = False
    failed: set[str] = field(default_factory=set)


class FakeEnclave:
    """One enclave. `commands` is everything it was told, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commands: list[link.HostCommand] = []
        self.leaves: list[bytes] = []
        self.durable = 0
        self.jobs: dict[str, _Job] = {}
        self.sessions: dict[str, str] = {}
        self.quotes: dict[tuple[str, str], Quote] = {}
        self.running: dict[tuple[str, str], int] = {}
        self.silent_on: tuple[type[link.HostCommand], ...] = ()
        self.refused: dict[type[link.HostCommand], str] = {}
        self.checkpoints = True
        self.sealed_vault = b"sealed by the first"
        self.unordered_index: int | None = None
        self._raw = b""
        self._configuration: Configuration | None = None
        self._receipt_key = ec.generate_private_key(ec.SECP256R1())
        self._sealing_key = X25519PrivateKey.generate()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving = False
        self._document = b""
        self._tree = CompactRange()
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

    def all_of(self, kind: type[Any]) -> list[Any]:
        """The commands of a kind, in order."""
        return [command for command in self.commands if isinstance(command, kind)]

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
        replies: Reply = [link.Refused(refusal, "as set")] if refusal else self._carry_out(call.command)
        for reply in replies:
            number = 0 if isinstance(reply, link.LeafAppended | link.CheckpointSigned) else call.id
            writer.write(frame(_encoder.encode(link.Answer(number, reply)), max_bytes=link.MAX_FRAME_BYTES))

    def _carry_out(self, command: link.HostCommand) -> Reply:
        name = "_on_" + type(command).__name__
        replies: Reply = getattr(self, name)(command)
        return replies

    # Boot

    def _on_Introduce(self, _command: link.Introduce) -> Reply:  # noqa: N802 - named after its command
        if not self._serving:
            return [link.Introduction("unconfigured", 0, 0)]
        pending: Reply = [link.LeafAppended(i, self.leaves[i]) for i in range(self.durable, len(self.leaves))]
        return [*pending, link.Introduction("serving", len(self.leaves), self.durable)]

    def _on_Configure(self, command: link.Configure) -> Reply:  # noqa: N802
        self._raw, self._configuration = command.configuration, parse_configuration(command.configuration)
        self.leaves = []
        return [link.Done()]

    def _on_OpenVault(self, _command: link.OpenVault) -> Reply:  # noqa: N802
        return [link.VaultOpened(self.sealed_vault)]

    def _on_Resume(self, command: link.Resume) -> Reply:  # noqa: N802
        self.leaves += command.leaves
        self.durable = len(self.leaves)
        return [link.Done()]

    def _on_FinishResume(self, _command: link.FinishResume) -> Reply:  # noqa: N802
        assert self._configuration is not None
        self._document = secrets.token_bytes(64)
        self._serving = True
        key = self._receipt_key
        epoch = EpochLeaf(
            attestation=base64.b64encode(self._document).decode(),
            manifest=self._manifest(),
            coordinator_signature="",
            index=len(self.leaves),
        )
        leaves = [self._append(sign_leaf(epoch, key))]
        if len(self.leaves) == 1:
            changed = ConfigurationLeaf(
                index=len(self.leaves), configuration=self._configuration, coordinator_signature=""
            )
            leaves.append(self._append(sign_leaf(changed, key)))
        return [*leaves, link.Done()]

    def _manifest(self) -> KeyManifest:
        assert self._configuration is not None
        public = CHECKPOINT_KEY.public_key().public_bytes_raw().hex()
        return KeyManifest(
            version=1,
            origin=self._configuration.origin,
            epoch=1,
            configuration=digest_of(self._raw),
            receipt_key=self._spki().hex(),
            sealing_key=self._sealing_key.public_key().public_bytes_raw().hex(),
            checkpoint_key=public,
            settlement_key=public,
        )

    def _spki(self) -> bytes:
        return self._receipt_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def _on_Attest(self, command: link.Attest) -> Reply:  # noqa: N802
        return [link.Attestation(b"document over " + command.nonce, encode(self._manifest()), self._raw)]

    # Nodes

    def _on_RequestChallenge(self, command: link.RequestChallenge) -> Reply:  # noqa: N802
        session = "ses_" + secrets.token_hex(16)
        self.sessions[session] = node_id_of(command.public_key)
        challenge = Challenge(
            session=session,
            node_id=self.sessions[session],
            challenge=secrets.token_hex(32),
            expires_ms=now_ms() + 60_000,
        )
        return [link.ChallengeIssued(session, sign_as_enclave("challenge", encode(challenge), self._receipt_key))]

    def _on_RegisterNode(self, command: link.RegisterNode) -> Reply:  # noqa: N802
        node_id = self.sessions[command.session]
        registered = Registered(session=command.session, node_id=node_id, registered_ms=now_ms())
        return [link.NodeRegistered(node_id, sign_as_enclave("registered", encode(registered), self._receipt_key))]

    def _on_PostSealedQuote(self, command: link.PostSealedQuote) -> Reply:  # noqa: N802
        signed = msgspec.msgpack.decode(open_sealed(command.sealed, self._sealing_key), type=Signed)
        quote = decode(signed.payload, Quote, check="quote")
        self.quotes[command.session, quote.model] = quote
        acknowledgement = QuoteAcknowledgement(
            session=quote.session,
            sequence=quote.sequence,
            node_id=quote.node_id,
            quote=digest_of(signed.payload),
            acknowledged_ms=now_ms(),
            expires_ms=quote.expires_ms,
        )
        signature = sign_as_enclave("quote-acknowledgement", encode(acknowledgement), self._receipt_key)
        return [link.QuotePosted(quote.model, signature)]

    def _on_WithdrawQuotes(self, command: link.WithdrawQuotes) -> Reply:  # noqa: N802
        for place in [one for one in self.quotes if one[0] == command.session]:
            if command.model in {"", place[1]}:
                del self.quotes[place]
        return [link.Done()]

    def _on_EndSession(self, command: link.EndSession) -> Reply:  # noqa: N802
        self.sessions.pop(command.session, None)
        for place in [one for one in self.quotes if one[0] == command.session]:
            del self.quotes[place]
        return [link.Done()]

    # Jobs

    def _on_OpenJob(self, command: link.OpenJob) -> Reply:  # noqa: N802
        assert self._configuration is not None
        if self._configuration.model(command.model) is None:
            return [link.JobRefused(command.request_id, "unknown_model")]
        offered = [quote for (_, model), quote in self.quotes.items() if model == command.model]
        if not offered:
            return [link.JobRefused(command.request_id, "no_node")]
        if command.request_bytes > 8 * max(quote.context_length for quote in offered):
            return [link.JobRefused(command.request_id, "context_length_exceeded")]
        quote = self._free(command.model, set())
        if quote is None:
            return [link.JobRefused(command.request_id, "no_free_slot")]
        return [self._award(command, quote, 1, set())]

    def _free(self, model: str, failed: set[str]) -> Quote | None:
        for (session, offered), quote in self.quotes.items():
            busy = self.running.get((session, model), 0) >= quote.slots
            if offered == model and not busy and quote.node_id not in failed:
                return quote
        return None

    def _award(self, request: link.OpenJob, quote: Quote, attempt: int, failed: set[str]) -> link.Awarded:
        assert self._configuration is not None
        jobs, terms = self._configuration.jobs, self._configuration.models[0]
        lot = Lot(
            request_id=request.request_id,
            attempt=attempt,
            model=request.model,
            prompt_tokens=max(1, request.request_bytes // 4),
            completion_tokens=terms.expected_completion_tokens,
            input_reserve_price=terms.input_reserve_price,
            output_reserve_price=terms.output_reserve_price,
        )
        bid = Bid(
            node_id=quote.node_id,
            operator="operator",
            quote=digest_of(encode(quote)),
            input_price=quote.input_price,
            output_price=quote.output_price,
            quality_bps=5000,
        )
        transcript = encode(run_auction(lot, [bid]))
        award = Award(
            request_id=request.request_id,
            attempt=attempt,
            node_id=quote.node_id,
            session=quote.session,
            model=quote.model,
            request_commitment=request.request_commitment,
            forwarded_commitment=request.forwarded_commitment,
            request_bytes=request.request_bytes,
            quote=bid.quote,
            transcript=digest_of(transcript),
            input_price=terms.input_reserve_price,
            output_price=terms.output_reserve_price,
            max_prompt_tokens=quote.context_length,
            max_completion_tokens=request.max_tokens or quote.context_length,
            payment_cap=10**9,
            awarded_ms=now_ms(),
            first_token_by_ms=now_ms() + jobs.first_token_ms,
            deadline_ms=now_ms() + jobs.duration_ms,
        )
        place = (quote.session, quote.model)
        self.running[place] = self.running.get(place, 0) + 1
        signed = sign_as_enclave("award", encode(award), self._receipt_key)
        self.jobs[request.request_id] = _Job(request, award, signed, transcript, failed=failed)
        return link.Awarded(request.request_id, quote.session, quote.node_id, attempt, signed, transcript)

    def _on_AcceptAward(self, command: link.AcceptAward) -> Reply:  # noqa: N802
        self.jobs[command.request_id].accepted = True
        return [link.AwardAccepted(command.request_id)]

    def _on_ReportFailure(self, command: link.ReportFailure) -> Reply:  # noqa: N802
        job = self.jobs[command.request_id]
        failed = job.failed | {job.award.node_id}
        quote = self._free(job.award.model, failed) if command.attempt < 3 else None
        if quote is None:
            nothing = link.Delivery(0, "")
            return self._settle(link.SettleJob(command.request_id, "failed", command.reason, nothing, None))
        self.running[job.award.session, job.award.model] -= 1
        return [self._award(job.request, quote, command.attempt + 1, failed)]

    def _on_SettleJob(self, command: link.SettleJob) -> Reply:  # noqa: N802
        if command.request_id not in self.jobs:
            return [link.Refused("unknown_subject", "no such open job")]
        return self._settle(command)

    def _settle(self, command: link.SettleJob) -> Reply:
        assert self._configuration is not None
        job = self.jobs.pop(command.request_id)
        self.running[job.award.session, job.award.model] -= 1
        outcome, reason, proof = _judge(command, job)
        paid = proof is not None and outcome != "failed" and command.delivery.delivered_bytes > 0
        tokens = (proof.prompt_tokens, proof.completion_tokens) if proof is not None and paid else (0, 0)
        payment = amount_owed(
            input_price=job.award.input_price,
            prompt_tokens=tokens[0],
            output_price=job.award.output_price,
            completion_tokens=tokens[1],
        )
        receipt = Receipt(
            version=1,
            request_id=command.request_id,
            account=job.request.account,
            node_id=job.award.node_id,
            model=job.award.model,
            timestamp=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            payment_amount=format_usdc(payment),
            charge_amount=format_usdc(payment + fee_on(payment, self._configuration.fee_bps)),
            failed_attempts=(),
            timing=ReceiptTiming(first_token_ms=1, duration_ms=2),
            outcome=outcome,
            reason=reason,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            request_commitment=job.award.request_commitment,
            response_commitment=command.delivery.response_commitment,
            auction=ReceiptAuction(
                rule="second-score-v1",
                bids=1,
                input_price=job.award.input_price,
                output_price=job.award.output_price,
                transcript=job.award.transcript,
            ),
            node_proof=digest_of(command.proof.payload) if command.proof else "",
            log=LogPosition(origin=self._configuration.origin, index=len(self.leaves)),
            coordinator_key=self._manifest().coordinator_key(),
            attestation=digest_of(self._document),
            coordinator_signature="",
        )
        raw = sign_receipt(receipt, self._receipt_key)
        charge = payment + fee_on(payment, self._configuration.fee_bps)
        leaf = self._append(raw)
        return [leaf, link.JobSettled(command.request_id, leaf.index, raw, charge)]

    def _on_AcknowledgeLeaves(self, command: link.AcknowledgeLeaves) -> Reply:  # noqa: N802
        assert self._configuration is not None
        if command.size > len(self.leaves):
            return [link.Refused("illegal_command", "there are not so many")]
        self.durable, tree = max(self.durable, command.size), self._tree
        for leaf in self.leaves[tree.size : self.durable]:
            tree.append(leaf_hash(leaf))
        note = sign_checkpoint(self._configuration.origin, tree.size, tree.root(), CHECKPOINT_KEY)
        return [link.CheckpointSigned(tree.size, note), link.Done()] if self.checkpoints else [link.Done()]

    def _append(self, leaf: bytes) -> link.LeafAppended:
        self.leaves.append(leaf)
        return link.LeafAppended(len(self.leaves) - 1, leaf)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _judge(command: link.SettleJob, job: _Job) -> tuple[Any, str, Proof | None]:
    proof = decode(command.proof.payload, Proof, check="proof") if command.proof else None
    if command.outcome == "completed" and (proof is None or not job.accepted):
        return "failed", "no_proof", None
    if command.outcome == "completed" and proof and proof.response_commitment != command.delivery.response_commitment:
        return "failed", "response_mismatch", proof
    return command.outcome, command.reason, proof
