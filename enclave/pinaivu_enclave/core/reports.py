"""Reports: what the enclave tells a node about itself, signed, so that no host can tell it otherwise."""

from pinaivu_enclave.core.commands import Effect
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.quote_book import QuoteBook
from pinaivu_enclave.core.sessions import Session
from pinaivu_enclave.core.tallies import Tallies
from pinaivu_shared.canonical import encode
from pinaivu_shared.ledger import node_account, payable_account
from pinaivu_shared.signed import sign_as_enclave
from pinaivu_shared.terms import NodeReport, ReportedQuote
from pinaivu_shared.wire.link import NodeReported


class ReportOffice:
    """Writes reports; changes nothing."""

    def __init__(self, keys: EpochKeys, state: MarketState, book: QuoteBook, tallies: Tallies) -> None:
        self._keys, self._state, self._book, self._tallies = keys, state, book, tallies

    def report(self, session: Session, now_ms: int) -> list[Effect]:
        """How the node of this session stands."""
        node_id, state = session.node_id, self._state
        standing, tally = state.quality.standing(node_id, state.terms), self._tallies.of(node_id)
        report = NodeReport(
            node_id=node_id,
            session=session.session,
            reported_ms=now_ms,
            quality_bps=standing.quality_bps,
            slots=standing.slots,
            suspended_until_ms=standing.suspended_until_ms if standing.suspended_until_ms > now_ms else 0,
            changes=standing.changes,
            quotes=self._quotes(node_id, now_ms),
            wins=tally.wins,
            losses=tally.losses,
            loss_margin_bps=tally.margins_bps // tally.losses if tally.losses else 0,
            earned=state.ledger.balance(node_account(node_id)),
            payable=state.ledger.balance(payable_account(node_id)),
            paid_out=state.paid_out.get(node_id, 0),
        )
        return [NodeReported(sign_as_enclave("node-report", encode(report), self._keys.receipt))]

    def _quotes(self, node_id: str, now_ms: int) -> tuple[ReportedQuote, ...]:
        return tuple(
            ReportedQuote(
                model=quote.model,
                input_price=quote.input_price,
                output_price=quote.output_price,
                slots=quote.slots,
                context_length=self._book.context_length(quote),
                running=self._book.running(node_id, quote.model),
                expires_ms=quote.expires_ms,
            )
            for quote in self._book.quotes_of(node_id)
            if quote.expires_ms > now_ms
        )
