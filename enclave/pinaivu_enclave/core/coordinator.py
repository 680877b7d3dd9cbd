"""The coordinator: `apply(command, now) -> effects`. All decisions of the market are made here, one command at a time.

Pure: time and entropy arrive as values, messages leave as values, signatures are deterministic. The same commands in
the same order give the same bytes. A refused command raises before anything has changed.
"""

from typing import assert_never

import msgspec

from pinaivu_enclave.core.auction import Ineligible, QuoteBook, StandingQuote
from pinaivu_enclave.core.award import AwardOffice
from pinaivu_enclave.core.commands import (
    Command,
    DuplicateRequestError,
    Effect,
    IssueChallenge,
    MarketFullError,
    Tick,
)
from pinaivu_enclave.core.jobs import Job, Jobs
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.nodes import Session, Sessions
from pinaivu_enclave.core.settlement import SettlementOffice
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import RegistrationLeaf, sign_leaf
from pinaivu_shared.sealing import open_sealed
from pinaivu_shared.signed import Signed, load_node_key, sign_as_enclave, verify_node
from pinaivu_shared.terms import Acceptance, Quote, QuoteAcknowledgement, Registered
from pinaivu_shared.wire import link

_signed_decoder = msgspec.msgpack.Decoder(Signed)


class Coordinator:
    """One epoch of the market, from its first command to the end of the enclave."""

    def __init__(  # noqa: PLR0913 - the parts of an epoch
        self,
        *,
        configuration: Configuration,
        keys: EpochKeys,
        attestation: str,
        state: MarketState,
        journal: Journal,
        instance: str,
    ) -> None:
        self._configuration, self._keys = configuration, keys
        self._state, self._journal = state, journal
        self._sessions = Sessions(max_nodes=configuration.max_nodes)
        self._book = QuoteBook(configuration)
        self._jobs = Jobs()
        self._awards = AwardOffice(configuration, keys, self._book, state)
        self._settlements = SettlementOffice(configuration, keys, attestation, state, journal)
        self._instance = instance

    def apply(self, command: Command, now_ms: int) -> list[Effect]:  # noqa: C901, PLR0911, PLR0912 - one line per command
        """Carry out one command; raises PinaivuError, with nothing changed, when it is refused."""
        match command:
            case link.Introduce():
                return self._introduce(command, now_ms)
            case IssueChallenge():
                return self._issue_challenge(command, now_ms)
            case link.RegisterNode():
                return self._register(command, now_ms)
            case link.PostSealedQuote():
                return self._post_quote(command, now_ms)
            case link.WithdrawQuotes():
                self._book.withdraw(self._sessions.get(command.session).node_id, command.model)
                return [link.Done()]
            case link.EndSession():
                self._end_session(command.session)
                return [link.Done()]
            case link.OpenJob():
                return self._open_job(command, now_ms)
            case link.AcceptAward():
                return self._accept(command)
            case link.ReportFailure():
                return self._report_failure(command, now_ms)
            case link.SettleJob():
                return self._settle(self._jobs.check(command), command, now_ms)
            case link.AcknowledgeLeaves():
                return [*self._journal.acknowledge(command.size), link.Done()]
            case Tick():
                return self._tick(now_ms)
            case _:
                assert_never(command)

    def _introduce(self, command: link.Introduce, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        if command.instance != self._instance:
            for session in self._sessions.all():
                self._end_session(session)
            for job in self._jobs.all():
                self._fail(job, "host_restarted", now_ms)
            self._instance = command.instance
        effects += self._journal.unacknowledged()
        effects.append(link.Introduction("serving", self._journal.size, self._journal.durable))
        return effects

    def _issue_challenge(self, command: IssueChallenge, now_ms: int) -> list[Effect]:
        challenge = self._sessions.challenge(command.public_key, command.entropy, now_ms)
        signed = sign_as_enclave("challenge", encode(challenge), self._keys.receipt)
        return [link.ChallengeIssued(challenge.session, signed)]

    def _register(self, command: link.RegisterNode, now_ms: int) -> list[Effect]:
        if self._journal.full:
            raise MarketFullError("too many leaves wait to be stored")
        session, older = self._sessions.register(command.session, command.registration, now_ms)
        if older is not None:
            self._book.forget_session(older)
        effects: list[Effect] = self._record_node(session, now_ms)
        registered = Registered(session=session.session, node_id=session.node_id, registered_ms=now_ms)
        signed = sign_as_enclave("registered", encode(registered), self._keys.receipt)
        return [*effects, link.NodeRegistered(session.node_id, signed)]

    def _record_node(self, session: Session, now_ms: int) -> list[Effect]:
        known = self._state.nodes.get(session.node_id)
        public_key = session.public_key.public_bytes_raw()
        if known is not None and known.public_key != public_key:
            raise VerificationError("registration", "another key has this node id")
        if known is not None and known.operator == session.operator:
            return []
        leaf = RegistrationLeaf(
            node_id=session.node_id,
            public_key=public_key.hex(),
            operator=session.operator,
            registered_ms=now_ms if known is None else max(now_ms, known.registered_ms + 1),
            coordinator_signature="",
        )
        self._state.fold(leaf)
        return [self._journal.append(sign_leaf(leaf, self._keys.receipt))]

    def _post_quote(self, command: link.PostSealedQuote, now_ms: int) -> list[Effect]:
        session = self._sessions.get(command.session)
        quote, digest = _open_quote(command.sealed, session, self._keys)
        self._book.post(StandingQuote(quote, digest, session.operator), now_ms)
        acknowledgement = QuoteAcknowledgement(
            session=quote.session,
            sequence=quote.sequence,
            node_id=quote.node_id,
            quote=digest,
            acknowledged_ms=now_ms,
            expires_ms=quote.expires_ms,
        )
        signed = sign_as_enclave("quote-acknowledgement", encode(acknowledgement), self._keys.receipt)
        return [link.QuotePosted(quote.model, signed)]

    def _end_session(self, session: str) -> None:
        self._sessions.end(session)
        self._book.forget_session(session)

    def _open_job(self, command: link.OpenJob, now_ms: int) -> list[Effect]:
        if self._configuration.model(command.model) is None:
            return [link.JobRefused(command.request_id, "unknown_model")]
        if not self._state.is_fresh_request(command.request_id, now_ms):
            raise DuplicateRequestError(f"{command.request_id} was used before or is not of this time")
        if len(self._jobs) >= self._configuration.max_open_jobs or self._journal.full:
            raise MarketFullError("too many open jobs, or leaves waiting to be stored")
        job = self._awards.award(command, now_ms)
        if isinstance(job, Ineligible):
            return [link.JobRefused(command.request_id, job.reason)]
        self._jobs.open(job)
        self._state.remember_request(command.request_id)
        return [_awarded(job)]

    def _accept(self, command: link.AcceptAward) -> list[Effect]:
        job = self._jobs.check(command)
        payload = verify_node("acceptance", command.acceptance, load_node_key(job.public_key))
        acceptance = decode(payload, Acceptance, check="acceptance")
        named = (acceptance.request_id, acceptance.node_id, acceptance.session, acceptance.award)
        if named != (command.request_id, job.award.node_id, job.award.session, job.award_digest):
            raise VerificationError("acceptance", "is for another award, node or session")
        self._jobs.advance(job, command)
        return [link.AwardAccepted(command.request_id)]

    def _report_failure(self, command: link.ReportFailure, now_ms: int) -> list[Effect]:
        job = self._jobs.check(command)
        if command.attempt != job.award.attempt:
            raise DuplicateRequestError(f"award {command.attempt} is not in force, number {job.award.attempt} is")
        again = self._awards.award_again(job, now_ms)
        if again is None:
            return self._fail(job, command.reason or "node_failed", now_ms)
        self._jobs.advance(job, command)
        return [_awarded(again)]

    def _settle(self, job: Job, command: link.SettleJob, now_ms: int) -> list[Effect]:
        settled = self._settlements.settle(job, command, now_ms)
        self._book.free_slot(job.award.node_id, job.award.model)
        self._jobs.advance(job, command)
        return settled

    def _fail(self, job: Job, reason: str, now_ms: int) -> list[Effect]:
        nothing = link.Delivery(0, "")
        return self._settle(job, link.SettleJob(job.request.request_id, "failed", reason, nothing, None), now_ms)

    def _tick(self, now_ms: int) -> list[Effect]:
        self._sessions.expire(now_ms)
        effects: list[Effect] = []
        for job in self._jobs.overdue(now_ms):
            effects += [one for one in self._fail(job, "deadline", now_ms) if isinstance(one, link.LeafAppended)]
        return effects


def _awarded(job: Job) -> link.Awarded:
    return link.Awarded(
        job.request.request_id,
        job.award.session,
        job.award.node_id,
        job.award.attempt,
        job.signed_award,
        job.transcript,
    )


def _open_quote(sealed: bytes, session: Session, keys: EpochKeys) -> tuple[Quote, str]:
    try:
        signed = _signed_decoder.decode(open_sealed(sealed, keys.sealing))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VerificationError("quote", f"not of the expected shape: {error}") from None
    quote = decode(verify_node("quote", signed, session.public_key), Quote, check="quote")
    if (quote.session, quote.node_id) != (session.session, session.node_id):
        raise VerificationError("quote", "is of another session or node")
    return quote, digest_of(signed.payload)
