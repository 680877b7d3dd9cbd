"""One transaction's worth of leaves, turned into rows: the leaf, the tree it completes, and the projections of it.

What the fold needs of everything before it is little: the size, the right edge of the tree, the fee in force.
"""

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from pinaivu_host.errors import JournalConflictError
from pinaivu_host.store.database import insert_missing
from pinaivu_host.store.schema import (
    ACCOUNTS,
    CONFIGURATIONS,
    EPOCHS,
    LEAVES,
    NODE_PROOFS,
    RECEIPTS,
    TRANSCRIPTS,
    TREE_NODES,
)
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import parse_configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of, request_time_ms
from pinaivu_shared.leaves import ConfigurationLeaf, EpochLeaf, RegistrationLeaf, parse_leaf
from pinaivu_shared.log.merkle import leaf_hash, node_hash
from pinaivu_shared.log.tree import CompactRange, edge_nodes
from pinaivu_shared.money import fee_on, parse_usdc
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.signed import Signed

logger = logging.getLogger(__name__)
Rows = dict[str, Any]

# Made once: the journal executes them for every commit.
_INSERT: Final = {LEAVES: insert(LEAVES), TREE_NODES: insert(TREE_NODES)}
_CHARGE: Final = (
    update(ACCOUNTS)
    .where(ACCOUNTS.c.id == bindparam("account"))
    .values(spent_micro_usdc=ACCOUNTS.c.spent_micro_usdc + bindparam("charge"))
)


@dataclass(slots=True)
class JobRecord:
    """What the gateway knows about a job and the log does not: whose it is, its salt, transcripts, the node's proof."""

    account_id: str
    salt: bytes
    transcripts: list[bytes] = field(default_factory=list)
    proof: Signed | None = None


@dataclass(slots=True)
class JournalState:
    """Where the stored log ends."""

    tree: CompactRange
    fee_bps: int

    @property
    def size(self) -> int:
        """How many leaves are stored."""
        return self.tree.size

    def copy(self) -> "JournalState":
        """A state of its own, to be thrown away if the transaction fails."""
        return JournalState(self.tree.copy(), self.fee_bps)


def load_state(connection: Connection) -> JournalState:
    """The state after everything that is stored."""
    last = connection.execute(select(func.max(LEAVES.c.leaf_index))).scalar()
    size = 0 if last is None else last + 1
    edge = [_node(connection, level, index) for level, index in edge_nodes(size)]
    tree = CompactRange.restore(size=size, edge=edge, root=_root(edge)) if edge else CompactRange()
    query = select(CONFIGURATIONS.c.configuration).order_by(CONFIGURATIONS.c.leaf_index.desc()).limit(1)
    configuration = connection.execute(query).scalar()
    return JournalState(tree, parse_configuration(configuration).fee_bps if configuration else 0)


def _node(connection: Connection, level: int, index: int) -> bytes:
    place = (TREE_NODES.c.level == level) & (TREE_NODES.c.node_index == index)
    found: bytes = connection.execute(select(TREE_NODES.c.hash).where(place)).scalar_one()
    return found


def _root(edge: list[bytes]) -> bytes:
    root = edge[-1]
    for left in reversed(edge[:-1]):
        root = node_hash(left, root)
    return root


class Transaction:
    """Rows of the leaves added so far; `write` inserts them all. `state` is what holds after it commits."""

    def __init__(self, state: JournalState, record_of: Callable[[str], JobRecord | None]) -> None:
        self.state: Final = state.copy()
        self._record_of = record_of
        self._rows: dict[Table, list[Rows]] = {}
        self._spent: dict[str, int] = {}
        self._pushed: dict[int, bytes] = {}

    def add(self, connection: Connection, index: int, leaf: bytes) -> None:
        """Take the next leaf, or an identical one again; JournalConflictError for any other."""
        if index != self.state.size:
            self._compare(connection, index, leaf)
            return
        self._pushed[index] = leaf
        self._put(LEAVES, leaf_index=index, leaf=leaf)
        for level, node_index, subtree in self.state.tree.append(leaf_hash(leaf)):
            self._put(TREE_NODES, level=level, node_index=node_index, hash=subtree)
        try:
            self._project(index, leaf)
        except (VerificationError, ValueError) as error:
            # The log is kept whole all the same: a later version may know this kind of leaf.
            logger.warning("a leaf cannot be read", extra={"kv": {"index": index, "error": str(error)}})

    def write(self, connection: Connection) -> None:
        """Insert everything, one statement per table."""
        for table, rows in self._rows.items():
            if table in _INSERT:
                connection.execute(_INSERT[table], rows)
            else:
                insert_missing(connection, table, rows)
        if self._spent:
            connection.execute(_CHARGE, [{"account": one, "charge": sum_} for one, sum_ in self._spent.items()])

    def _compare(self, connection: Connection, index: int, leaf: bytes) -> None:
        stored = self._pushed.get(index)
        if stored is None:
            stored = connection.execute(select(LEAVES.c.leaf).where(LEAVES.c.leaf_index == index)).scalar()
        if stored != leaf:
            found = "nothing yet" if stored is None else digest_of(stored)
            raise JournalConflictError(index, stored=found, pushed=digest_of(leaf))

    def _put(self, table: Table, **row: object) -> None:
        self._rows.setdefault(table, []).append(row)

    def _project(self, index: int, raw: bytes) -> None:
        match parse_leaf(raw):
            case Receipt() as receipt:
                self._project_receipt(index, receipt)
            case ConfigurationLeaf(configuration=configuration):
                content = encode(configuration)
                self.state.fee_bps = configuration.fee_bps
                self._put(CONFIGURATIONS, digest=digest_of(content), leaf_index=index, configuration=content)
            case EpochLeaf() as epoch:
                document = base64.b64decode(epoch.attestation)
                self._put(
                    EPOCHS,
                    attestation=digest_of(document),
                    leaf_index=index,
                    document=document,
                    manifest=encode(epoch.manifest),
                    configuration=epoch.manifest.configuration,
                )
            case RegistrationLeaf():
                pass

    def _project_receipt(self, index: int, receipt: Receipt) -> None:
        payment = parse_usdc(receipt.payment_amount)
        charge = payment + fee_on(payment, self.state.fee_bps)
        record = self._record_of(receipt.request_id)
        self._put(
            RECEIPTS,
            request_id=receipt.request_id,
            leaf_index=index,
            account_id=record.account_id if record else None,
            salt=record.salt if record else None,
            charge_micro_usdc=charge,
            model=receipt.model,
            node_id=receipt.node_id,
            outcome=receipt.outcome,
            reason=receipt.reason,
            prompt_tokens=receipt.prompt_tokens,
            completion_tokens=receipt.completion_tokens,
            transcript=receipt.auction.transcript,
            node_proof=receipt.node_proof,
            attestation=receipt.attestation,
            created_ms=request_time_ms(receipt.request_id),
        )
        if record is not None:
            self._keep_evidence(record, charge)

    def _keep_evidence(self, record: JobRecord, charge: int) -> None:
        self._spent[record.account_id] = self._spent.get(record.account_id, 0) + charge
        for transcript in record.transcripts:
            self._put(TRANSCRIPTS, digest=digest_of(transcript), transcript=transcript)
        if record.proof is not None:
            digest = digest_of(record.proof.payload)
            self._put(NODE_PROOFS, digest=digest, payload=record.proof.payload, signature=record.proof.signature)
