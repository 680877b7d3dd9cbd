"""The coordinator: `apply(command, now) -> effects`. All decisions of the market are made here, one command at a time.

Pure: time and entropy arrive as values, messages leave as values, signatures are deterministic. The same commands in
the same order give the same bytes. A refused command raises before anything has changed.
"""

from typing import assert_never

import msgspec

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
from pinaivu_enclave.core.metering import judged_decline, read_proof
from pinaivu_enclave.core.orders import OrderOffice
from pinaivu_enclave.core.quote_book import Ineligible, QuoteBook
from pinaivu_enclave.core.registration import RegistrationOffice
from pinaivu_enclave.core.reports import ReportOffice
from pinaivu_enclave.core.sessions import Sessions
from pinaivu_enclave.core.settlement import SettlementOffice, reason_of_host
from pinaivu_enclave.core.statements import StatementOffice
from pinaivu_enclave.core.suspension import SuspensionOffice
from pinaivu_enclave.core.tallies import Tallies
from pinaivu_shared.canonical import decode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import CallerError, VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.signed import load_node_key, verify_node
from pinaivu_shared.terms import Acceptance, is_canonical
from pinaivu_shared.wire import link, link_boot


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
        self._configuration = configuration
        self._state, self._journal, self._instance = state, journal, instance
        self._sessions = Sessions(max_nodes=configuration.max_nodes)
        self._book = QuoteBook(configuration, state.quality)
        self._jobs = Jobs()
        tallies = Tallies()
        self._registrations = RegistrationOffice(keys, state, journal, self._book, self._sessions)
        self._reports = ReportOffice(keys, state, self._book, tallies)
        self._orders = OrderOffice(keys, state, journal)
        self._awards = AwardOffice(configuration, keys, self._book, state, tallies)
        self._settlements = SettlementOffice(configuration, keys, attestation, state, journal)
        self._suspensions = SuspensionOffice(keys, state, journal)
        self._statements = StatementOffice(keys, state, journal)

    def apply(self, command: Command, now_ms: int) -> list[Effect]:  # noqa: C901, PLR0911, PLR0912 - one line per command
        """Carry out one command; raises PinaivuError, with nothing changed, when it is refused."""
        match command:
            case link_boot.Introduce():
                return self._introduce(command, now_ms)
            case IssueChallenge():
                return self._registrations.issue_challenge(command, now_ms)
            case link.RegisterNode():
                return self._registrations.register(command, now_ms)
            case link.PostSealedQuote():
                return self._registrations.post_quote(command, now_ms)
            case link.WithdrawQuotes():
                self._book.withdraw(self._sessions.get(command.session).node_id, command.model)
                return [link.Done()]
            case link.EndSession():
                self._registrations.end_session(command.session)
                return [link.Done()]
            case link.ReadNodeReport():
                return self._reports.report(self._sessions.get(command.session), now_ms)
            case link.RecordOrder():
                return self._orders.record(command.order, now_ms)
            case link.OpenJob():
                return self._open_job(command, now_ms)
            case link.AcceptAward():
                return self._accept(command)
            case link.ReportFirstToken():
                return self._report_first_token(command, now_ms)
            case link.ReportFailure():
                return self._report_failure(command, now_ms)
            case link.SettleJob():
                return self._settle(self._jobs.check(command), command, now_ms)
            case link.ReportProof():
                return self._report_proof(command, now_ms)
            case link.AcknowledgeLeaves():
                return [*self._journal.acknowledge(command.size), link.Done()]
            case Tick():
                return self._tick(now_ms)
            case _:
                assert_never(command)

    def _introduce(self, command: link_boot.Introduce, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        if command.instance != self._instance:
            for session in self._sessions.all():
                self._registrations.end_session(session)
            for job in self._jobs.all():
                self._fail(job, "host_restarted", now_ms)
            self._instance = command.instance
        effects += self._journal.unacknowledged()
        effects.append(link_boot.Introduction("serving", self._journal.size, self._journal.durable))
        return effects

    def _open_job(self, command: link.OpenJob, now_ms: int) -> list[Effect]:
        if not is_canonical(command.needs):
            raise CallerError("the needs of a job are sorted, and each is named once")
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

    def _report_first_token(self, command: link.ReportFirstToken, now_ms: int) -> list[Effect]:
        job = self._jobs.check(command)
        _require_attempt(job, command.attempt)
        self._jobs.advance(job, command)
        job.first_token_ms = max(1, now_ms - job.award.awarded_ms)
        return [link.Done()]

    def _report_failure(self, command: link.ReportFailure, now_ms: int) -> list[Effect]:
        job = self._jobs.check(command)
        _require_attempt(job, command.attempt)
        reason = judged_decline(job, reason_of_host(command.reason) or "node_failed", self._configuration.metering)
        again = self._awards.award_again(job, reason, now_ms)
        if again is None:
            return self._fail(job, reason, now_ms)
        self._jobs.advance(job, command)
        return [_awarded(again)]

    def _settle(self, job: Job, command: link.SettleJob, now_ms: int) -> list[Effect]:
        settled = self._settlements.settle(job, command, now_ms)
        self._book.free_slot(job.award.node_id, job.award.model)
        self._jobs.advance(job, command)
        self._jobs.remember(settled.remembered)
        if not settled.absurd:
            return [settled.leaf, settled.answer]
        suspension = self._suspensions.suspend(
            job.award.node_id,
            "usage_absurd",
            request_id=command.request_id,
            evidence=(settled.remembered.proof,),
            now_ms=now_ms,
        )
        return [settled.leaf, suspension, settled.answer]

    def _report_proof(self, command: link.ReportProof, now_ms: int) -> list[Effect]:
        """The first proof that holds is remembered, however late; one that says something else convicts its node."""
        settled = self._jobs.settled(command.request_id)
        read_proof(command.proof, settled.terms)
        second = digest_of(command.proof.payload)
        if not settled.proof:
            self._jobs.remember(msgspec.structs.replace(settled, proof=second))
        if settled.proof in {"", second}:
            return [link.Done()]
        self._jobs.forget(settled)
        suspension = self._suspensions.suspend(
            settled.terms.node_id,
            "conflicting_proofs",
            request_id=command.request_id,
            evidence=(settled.proof, second),
            now_ms=now_ms,
        )
        return [suspension, link.Done()]

    def _fail(self, job: Job, reason: str, now_ms: int) -> list[Effect]:
        nothing = link.Delivery(0, "")
        return self._settle(job, link.SettleJob(job.request.request_id, "failed", reason, nothing, None), now_ms)

    def _tick(self, now_ms: int) -> list[Effect]:
        self._sessions.expire(now_ms)
        effects: list[Effect] = []
        for job in self._jobs.overdue(now_ms):
            effects += [one for one in self._fail(job, "deadline", now_ms) if isinstance(one, link.LeafAppended)]
        return [*effects, *self._statements.state_due(now_ms)]


def _require_attempt(job: Job, attempt: int) -> None:
    if attempt != job.award.attempt:
        raise DuplicateRequestError(f"award {attempt} is not in force, number {job.award.attempt} is")


def _awarded(job: Job) -> link.Awarded:
    return link.Awarded(
        job.request.request_id,
        job.award.session,
        job.award.node_id,
        job.award.attempt,
        job.signed_award,
        job.transcript,
    )
