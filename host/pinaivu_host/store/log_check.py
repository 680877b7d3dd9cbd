"""Whether a stored log is whole: every leaf is there, and the tree over them has the root that the enclave signed.

Whose signature the checkpoint carries is not looked at: whoever uses the log verifies that with keys of their own.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.exc import NoResultFound

from pinaivu_host.store.projection import load_tree
from pinaivu_host.store.schema import CHECKPOINTS, LEAVES
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.checkpoint import Checkpoint, parse_checkpoint
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.tree import CompactRange

CHECK = "stored log"
BATCH_LEAVES = 1000


@dataclass(frozen=True, slots=True)
class CheckedLog:
    """How many leaves there are, and how many of them a checkpoint covers; None where no checkpoint was stored yet."""

    size: int
    checkpoint_size: int | None


def check_log(connection: Connection) -> CheckedLog:
    """Read the whole log; VerificationError "stored log" or "checkpoint" if anything is missing or altered."""
    checkpoint = _newest_checkpoint(connection)
    tree = CompactRange()
    _compare(checkpoint, tree)
    query = select(LEAVES).order_by(LEAVES.c.leaf_index).execution_options(yield_per=BATCH_LEAVES)
    with connection.execute(query) as leaves:
        for index, leaf in leaves:
            if index != tree.size:
                raise VerificationError(CHECK, f"leaf {tree.size} is missing")
            tree.append(leaf_hash(leaf))
            _compare(checkpoint, tree)
    if checkpoint is not None and checkpoint.size > tree.size:
        raise VerificationError(CHECK, f"has {tree.size} leaves, its checkpoint covers {checkpoint.size}")
    if _stored_root(connection) != tree.root():
        raise VerificationError(CHECK, "the table tree_nodes is not that of the leaves")
    return CheckedLog(tree.size, checkpoint.size if checkpoint else None)


def _newest_checkpoint(connection: Connection) -> Checkpoint | None:
    newest = select(CHECKPOINTS.c.note).order_by(CHECKPOINTS.c.size.desc()).limit(1)
    note: str | None = connection.execute(newest).scalar()
    return None if note is None else parse_checkpoint(note.partition("\n\n")[0] + "\n")


def _compare(checkpoint: Checkpoint | None, tree: CompactRange) -> None:
    if checkpoint is not None and checkpoint.size == tree.size and checkpoint.root != tree.root():
        raise VerificationError(CHECK, f"the first {tree.size} leaves have another root than their checkpoint says")


def _stored_root(connection: Connection) -> bytes:
    try:
        return load_tree(connection).root()
    except NoResultFound as error:
        raise VerificationError(CHECK, "the table tree_nodes has gaps") from error
