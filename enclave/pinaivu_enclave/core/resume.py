"""Resume: read the stored leaves again and believe none that this log's enclaves did not sign.

Each leaf must be signed by the receipt key of its epoch, and each epoch must be attested by our own platform and image.
The last checkpoint must lead to the same root, so a host cannot hand over fewer leaves than it had acknowledged there.
That an even newer checkpoint is withheld is for witnesses to notice (DESIGN section 6), which are not there yet.
"""

import base64
import binascii

from cryptography import x509

from pinaivu_enclave.core.market_state import MarketState
from pinaivu_enclave.core.orders import check_order
from pinaivu_shared.attestation.binding import require_public_key, require_user_data
from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.attestation.verify import verify_archived
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import CallerError, VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import (
    ConfigurationLeaf,
    EpochLeaf,
    Leaf,
    OrderLeaf,
    RegistrationLeaf,
    SignedLeaf,
    StatementLeaf,
    SuspensionLeaf,
    index_of,
    parse_leaf,
    verify_leaf,
    verify_statement_signature,
)
from pinaivu_shared.ledger import customer_account, payable_account
from pinaivu_shared.log.checkpoint import open_checkpoint
from pinaivu_shared.log.keys import VerifierKey
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.tree import CompactRange
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.receipt import Receipt, verify_receipt


class Resumption:
    """Folds stored leaves into a market state, one by one. After a VerificationError nothing of it may be used."""

    def __init__(self, *, root: x509.Certificate, policy: MeasurementPolicy, log_key: VerifierKey) -> None:
        self._root, self._policy, self._log_key = root, policy, log_key
        self._origin = log_key.name
        self._hashes: list[bytes] = []
        self._manifest: KeyManifest | None = None
        self.state = MarketState()

    @property
    def size(self) -> int:
        """How many leaves were taken so far."""
        return len(self._hashes)

    def take(self, raw: bytes) -> None:
        """Verify and fold the next leaf."""
        self.state.fold(self._verified(raw))
        self._hashes.append(leaf_hash(raw))

    def finish(self, checkpoint: str) -> CompactRange:
        """The tree over all leaves, once the last checkpoint (empty: there was none) agrees with it."""
        if checkpoint:
            head = open_checkpoint(checkpoint, self._origin, log_keys=[self._log_key], witnesses=(), quorum=0)
            if head.size > self.size:
                raise VerificationError("checkpoint", f"covers {head.size} leaves, only {self.size} were handed over")
            if self._tree(head.size).root() != head.root:
                raise VerificationError("checkpoint", "its root is not that of the leaves handed over")
        return self._tree(self.size)

    def _tree(self, size: int) -> CompactRange:
        tree = CompactRange()
        for one in self._hashes[:size]:
            tree.append(one)
        return tree

    def _verified(self, raw: bytes) -> Leaf:
        leaf = parse_leaf(raw)
        if index_of(leaf) != self.size:
            raise VerificationError("leaf", f"leaf {self.size} says that it is leaf {index_of(leaf)}")
        if isinstance(leaf, EpochLeaf):
            self._enter(leaf)
            return leaf
        if self._manifest is None:
            raise VerificationError("leaf", "the log does not begin with an epoch")
        key = self._manifest.receipt_public_key()
        if isinstance(leaf, ConfigurationLeaf):
            self._check_configuration(leaf)
        elif self._manifest.configuration != _digest(self.state.configuration):
            raise VerificationError("configuration", "the epoch's own is missing before its first leaf")
        if isinstance(leaf, Receipt):
            self._check_receipt(leaf)
            return verify_receipt(raw, key)
        verify_leaf(leaf, key)
        self._check(leaf)
        return leaf

    def _check(self, leaf: SignedLeaf) -> None:
        """What a signature alone does not say: that the leaf is possible after those before it."""
        match leaf:
            case RegistrationLeaf():
                self._check_registration(leaf)
            case OrderLeaf():
                try:
                    check_order(leaf, self.state, origin=self._origin)
                except CallerError as error:
                    raise VerificationError("order", str(error)) from error
            case StatementLeaf():
                assert self._manifest is not None
                verify_statement_signature(leaf, bytes.fromhex(self._manifest.settlement_key))
                self.state.unstated.check_statement(leaf)
                payable = self.state.ledger.balance(payable_account(leaf.node_id)) + leaf.amount
                if leaf.payable != payable:
                    raise VerificationError(
                        "statement", f"payable is {leaf.payable}, by the leaves before it {payable}"
                    )
            case SuspensionLeaf():
                if leaf.node_id not in self.state.nodes:
                    raise VerificationError("suspension", f"of the unknown {leaf.node_id}")
            case ConfigurationLeaf() | EpochLeaf():
                pass

    def _check_receipt(self, receipt: Receipt) -> None:
        if receipt.log.origin != self._origin:
            raise VerificationError("leaf", f"a receipt of the log {receipt.log.origin}")
        credit = self.state.ledger.balance(customer_account(receipt.account))
        if parse_usdc(receipt.charge_amount) > credit:
            raise VerificationError("ledger", f"leaf {self.size} charges {receipt.account} more than its credit")

    def _enter(self, leaf: EpochLeaf) -> None:
        manifest = leaf.manifest
        try:
            raw = base64.b64decode(leaf.attestation, validate=True)
        except binascii.Error as error:
            raise VerificationError("epoch", f"its attestation is not base64: {error}") from None
        document = verify_archived(raw, root=self._root, policy=self._policy)
        require_user_data(document, manifest.user_data())
        require_public_key(document, bytes.fromhex(manifest.receipt_key))
        verify_leaf(leaf, manifest.receipt_public_key())
        if manifest.epoch != self.state.epoch + 1:
            raise VerificationError("epoch", f"epoch {manifest.epoch} follows epoch {self.state.epoch}")
        if manifest.origin != self._origin or bytes.fromhex(manifest.checkpoint_key) != self._log_key.public_key:
            raise VerificationError("epoch", "belongs to another log, or to another vault secret")
        self._manifest = manifest

    def _check_configuration(self, leaf: ConfigurationLeaf) -> None:
        """A leaf that changes nothing was never written: it could only pad a log that lost others."""
        assert self._manifest is not None
        if _digest(leaf.configuration) != self._manifest.configuration:
            raise VerificationError("configuration", "the leaf is not the configuration of its epoch")
        if leaf.configuration == self.state.configuration:
            raise VerificationError("configuration", "the leaf repeats the one in force")

    def _check_registration(self, leaf: RegistrationLeaf) -> None:
        known = self.state.nodes.get(leaf.node_id)
        if known is None:
            return
        if known.operator == leaf.operator or known.public_key.hex() != leaf.public_key:
            raise VerificationError("leaf", f"a registration of {leaf.node_id} that changes nothing, or its key")


def _digest(configuration: Configuration | None) -> str:
    return "" if configuration is None else digest_of(encode(configuration))
