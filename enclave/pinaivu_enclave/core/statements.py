"""Settlement statements: what each node is owed for a period, signed by the settlement key, with the receipts summed.

A statement covers receipts under a signed checkpoint only. Once witnesses are there, those that a quorum has cosigned.
"""

from typing import Final

from pinaivu_enclave.core.commands import Effect
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys
from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.unstated import PaidReceipt
from pinaivu_shared.leaves import MAX_STATEMENT_RECEIPTS, StatementLeaf, sign_leaf, sign_statement
from pinaivu_shared.ledger import payable_account

STATEMENTS_AT_ONCE: Final = 16
"""More wait for the next tick, so that no tick holds up the market."""


class StatementOffice:
    """Writes the statements that are due."""

    def __init__(self, keys: EpochKeys, state: MarketState, journal: Journal) -> None:
        self._keys, self._state, self._journal = keys, state, journal

    def state_due(self, now_ms: int) -> list[Effect]:
        """Statements over the periods that have ended, as leaves."""
        if self._journal.full:
            return []
        period_ms = self._state.terms.statement_period_ms
        end_ms = now_ms // period_ms * period_ms
        effects: list[Effect] = []
        unstated = self._state.unstated
        for node_id in sorted(unstated.nodes(), key=unstated.period_start_ms):  # whoever waits longest comes first
            receipts = unstated.due(
                node_id, before_ms=end_ms, durable=self._journal.durable, limit=MAX_STATEMENT_RECEIPTS
            )
            if receipts:
                effects.append(self._state_one(node_id, receipts, end_ms))
            if len(effects) == STATEMENTS_AT_ONCE:
                break
        return effects

    def _state_one(self, node_id: str, receipts: list[PaidReceipt], end_ms: int) -> Effect:
        amount = sum(receipt.amount for receipt in receipts)
        unstated = self._state.unstated
        leaf = StatementLeaf(
            index=self._journal.size,
            node_id=node_id,
            number=unstated.next_number(node_id),
            receipts=tuple(receipt.index for receipt in receipts),
            amount=amount,
            payable=self._state.ledger.balance(payable_account(node_id)) + amount,
            period_start_ms=unstated.period_start_ms(node_id),
            period_end_ms=end_ms,
            settlement_signature="",
            coordinator_signature="",
        )
        signed = sign_statement(leaf, self._keys.settlement)
        self._state.fold(signed)
        return self._journal.append(sign_leaf(signed, self._keys.receipt))
