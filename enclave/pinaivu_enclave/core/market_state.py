"""What outlives an epoch: everything here is a fold over log leaves, and nothing else may change it.

The running coordinator folds each leaf it makes, a resuming one folds the leaves it is given: same leaves, same state.
"""

from typing import Final

import msgspec

from pinaivu_enclave.core.ledger import Ledger
from pinaivu_enclave.core.quality_book import QualityBook
from pinaivu_enclave.core.unstated import Unstated
from pinaivu_shared.configuration import Configuration, NodeTerms
from pinaivu_shared.ids import request_time_ms
from pinaivu_shared.leaves import (
    ConfigurationLeaf,
    EpochLeaf,
    Leaf,
    OrderLeaf,
    RegistrationLeaf,
    StatementLeaf,
    SuspensionLeaf,
)
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import Payout

AVERAGE_WEIGHT: Final = 16
REQUEST_WINDOW_MS: Final = 300_000


class NodeRecord(msgspec.Struct, frozen=True):
    """A node the market knows: its whole public key (raw, 32 bytes), and who says to operate it."""

    node_id: str
    public_key: bytes
    operator: str


class MarketState:
    """Node records and their quality, balances, running averages, and what must not be used twice."""

    def __init__(self) -> None:
        self.epoch = 0
        self.configuration: Configuration | None = None
        self.nodes: dict[str, NodeRecord] = {}
        self.ledger = Ledger()
        self.quality = QualityBook()
        self.unstated = Unstated()
        self.references: set[str] = set()
        self.paid_out: dict[str, int] = {}
        self._averages: dict[str, int] = {}
        self._recent: dict[str, int] = {}

    @property
    def terms(self) -> NodeTerms:
        """How nodes are judged under the configuration in force."""
        assert self.configuration is not None
        return self.configuration.nodes

    def fold(self, leaf: Leaf) -> None:
        """Take one more leaf into account. The caller has verified it or made it."""
        self.ledger.post(leaf)
        match leaf:
            case Receipt():
                self._fold_receipt(leaf)
            case RegistrationLeaf():
                public_key = bytes.fromhex(leaf.public_key)
                self.nodes[leaf.node_id] = NodeRecord(leaf.node_id, public_key, leaf.operator)
            case ConfigurationLeaf():
                self.configuration = leaf.configuration
            case EpochLeaf():
                self.epoch = leaf.manifest.epoch
            case OrderLeaf():
                self._fold_order(leaf)
            case SuspensionLeaf():
                self.quality.fold_suspension(leaf, self.terms)
            case StatementLeaf():
                self.unstated.fold_statement(leaf)

    def expected_completion_tokens(self, model: str, default: int) -> int:
        """The model's running average of completion tokens, or the configured default before any was seen."""
        scaled = self._averages.get(model)
        return default if scaled is None else max(1, scaled // AVERAGE_WEIGHT)

    def remember_request(self, request_id: str) -> None:
        """Mark an id as used: it is refused while its time is still acceptable."""
        self._recent[request_id] = request_time_ms(request_id)

    def is_fresh_request(self, request_id: str, now_ms: int) -> bool:
        """Whether the id's own time is within five minutes of now and it was not used before."""
        self._forget_before(now_ms - 2 * REQUEST_WINDOW_MS)
        return abs(request_time_ms(request_id) - now_ms) <= REQUEST_WINDOW_MS and request_id not in self._recent

    def _fold_receipt(self, receipt: Receipt) -> None:
        self.unstated.fold_receipt(receipt)
        self.quality.fold_receipt(receipt, self.terms)
        if receipt.outcome == "completed" and receipt.completion_tokens:
            self._average_in(receipt.model, receipt.completion_tokens)
        self.remember_request(receipt.request_id)

    def _fold_order(self, leaf: OrderLeaf) -> None:
        self.references.add(leaf.order.reference)
        if isinstance(leaf.order, Payout):
            node_id = leaf.order.node_id
            self.paid_out[node_id] = self.paid_out.get(node_id, 0) + leaf.order.amount

    def _average_in(self, model: str, tokens: int) -> None:
        scaled = self._averages.get(model, tokens * AVERAGE_WEIGHT)
        self._averages[model] = scaled - scaled // AVERAGE_WEIGHT + tokens

    def _forget_before(self, time_ms: int) -> None:
        while self._recent:
            oldest = next(iter(self._recent))
            if self._recent[oldest] >= time_ms:
                return
            del self._recent[oldest]
