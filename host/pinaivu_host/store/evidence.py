"""What the store gives out about one job: the exact receipt, and everything that proves it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, or_, select

from pinaivu_host.store.database import Database, insert_or_change
from pinaivu_host.store.schema import (
    CONFIGURATIONS,
    EPOCHS,
    LEAVES,
    NODE_PROOFS,
    RECEIPTS,
    TRANSCRIPTS,
    TREE_NODES,
)
from pinaivu_shared.ids import digest_of
from pinaivu_shared.log.proof import format_proof
from pinaivu_shared.log.tree import inclusion_nodes, inclusion_proof
from pinaivu_shared.signed import Signed


@dataclass(frozen=True, slots=True)
class Evidence:
    """Stored canonical bytes, unchanged. `node_proof` is None where the node gave none that counted.

    `salt` is None where the host died before the receipt came: it was only in memory.
    """

    receipt: bytes
    index: int
    salt: bytes | None
    document: bytes
    manifest: bytes
    configuration: bytes
    transcript: bytes
    node_proof: Signed | None


class EvidenceStore:
    """Receipts by request id, for their owners only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def receipt(self, request_id: str, *, account_id: str) -> bytes | None:
        """The exact bytes of this account's receipt; None for another account's as for one that does not exist."""
        query = (
            select(LEAVES.c.leaf)
            .join_from(RECEIPTS, LEAVES, RECEIPTS.c.leaf_index == LEAVES.c.leaf_index)
            .where(RECEIPTS.c.request_id == request_id, RECEIPTS.c.account_id == account_id)
        )
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def receipt_of_job(self, request_id: str) -> tuple[int, bytes] | None:
        """Index and bytes of a job's receipt, whoever owns it."""
        query = (
            select(LEAVES.c.leaf_index, LEAVES.c.leaf)
            .join_from(RECEIPTS, LEAVES, RECEIPTS.c.leaf_index == LEAVES.c.leaf_index)
            .where(RECEIPTS.c.request_id == request_id)
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else (row.leaf_index, row.leaf)

    async def transcript(self, digest: str) -> bytes | None:
        """An auction's transcript, by the digest that its receipt names; it is there once the receipt is."""
        query = select(TRANSCRIPTS.c.transcript).where(TRANSCRIPTS.c.digest == digest)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def evidence(self, request_id: str, *, account_id: str) -> Evidence | None:
        """Everything about this account's job but its log proof; None if there is no such receipt."""
        return await self._database.read(lambda connection: _evidence(connection, request_id, account_id))

    async def keep_proof(self, proof: Signed) -> None:
        """Keep a proof that the enclave verified, under the digest of its payload."""
        await self._database.write(lambda connection: _keep_proof(connection, proof))

    async def log_proof(self, index: int, *, size: int, checkpoint: str) -> str:
        """The leaf's tlog-proof under a checkpoint over `size` leaves."""
        nodes = await self._database.read(lambda connection: _tree_nodes(connection, index, size))
        return format_proof(index, inclusion_proof(index, size, lambda level, at: nodes[level, at]), checkpoint)


def _evidence(connection: Connection, request_id: str, account_id: str) -> Evidence | None:
    query = (
        select(RECEIPTS, LEAVES.c.leaf, EPOCHS.c.document, EPOCHS.c.manifest)
        .add_columns(CONFIGURATIONS.c.configuration, TRANSCRIPTS.c.transcript.label("transcript_content"))
        .join_from(RECEIPTS, LEAVES, RECEIPTS.c.leaf_index == LEAVES.c.leaf_index)
        .join(EPOCHS, EPOCHS.c.attestation == RECEIPTS.c.attestation)
        .join(CONFIGURATIONS, CONFIGURATIONS.c.digest == EPOCHS.c.configuration)
        .join(TRANSCRIPTS, TRANSCRIPTS.c.digest == RECEIPTS.c.transcript)
        .where(RECEIPTS.c.request_id == request_id, RECEIPTS.c.account_id == account_id)
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    proof = connection.execute(select(NODE_PROOFS).where(NODE_PROOFS.c.digest == row.node_proof)).first()
    return Evidence(
        receipt=row.leaf,
        index=row.leaf_index,
        salt=row.salt,
        document=row.document,
        manifest=row.manifest,
        configuration=row.configuration,
        transcript=row.transcript_content,
        node_proof=Signed(proof.payload, proof.signature) if proof else None,
    )


def _keep_proof(connection: Connection, proof: Signed) -> None:
    """What a node proved with a wrong signature first has this one from now on."""
    digest = digest_of(proof.payload)
    known = connection.execute(select(NODE_PROOFS.c.signature).where(NODE_PROOFS.c.digest == digest)).scalar()
    if known != proof.signature:
        row = {"digest": digest, "payload": proof.payload, "signature": proof.signature}
        insert_or_change(connection, NODE_PROOFS, [row], changed=("signature",))


def _tree_nodes(connection: Connection, index: int, size: int) -> Mapping[tuple[int, int], bytes]:
    places = inclusion_nodes(index, size)
    if not places:
        return {}
    wanted = or_(*(and_(TREE_NODES.c.level == level, TREE_NODES.c.node_index == at) for level, at in places))
    rows = connection.execute(select(TREE_NODES).where(wanted))
    return {(row.level, row.node_index): row.hash for row in rows}
