"""One leaf's offline companion: that it stands in a signed and cosigned log (C2SP tlog-proof).

c2sp.org/tlog-proof@v1
extra <base64>          optional, and not authenticated by anything
index <decimal>
<base64 hash>           0 to 63 lines, from the leaf's sibling up to the root's child
<empty line>
<checkpoint with its signatures, to the end>
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.checkpoint import Cosignature, open_checkpoint
from pinaivu_shared.log.grammar import read_base64, read_decimal, read_hash, read_text, write_base64
from pinaivu_shared.log.keys import VerifierKey
from pinaivu_shared.log.merkle import INCLUSION_HASHES_MAX, check_inclusion, leaf_hash
from pinaivu_shared.log.note import NOTE_BYTES_MAX

PROOF_CHECK = "log proof"
EXTRA_BYTES_MAX = 16_384
# The head line, extra in base64, index, 63 hashes of 45 bytes each, the checkpoint.
PROOF_BYTES_MAX = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX

_HEAD = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class UnverifiedProof:
    """The parts of a well-formed proof. Nothing in it has been verified, its checkpoint has not been read."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None


@dataclass(frozen=True, slots=True)
class VerifiedInclusion:
    """Where a leaf stands, in a tree of which size and root, and which witnesses know that tree.

    Made by `verify_proof` only.
    """

    index: int
    size: int
    root: bytes
    cosigned_by: tuple[Cosignature, ...]


def format_proof(index: int, hashes: Sequence[bytes], checkpoint: str) -> str:
    """Text of a proof from the leaf's index, its inclusion proof and a whole signed checkpoint.

    Raises:
        VerificationError: "log proof" if there is no such proof.

    """
    text = "".join([f"{_HEAD}\nindex {index}\n", *(f"{write_base64(one)}\n" for one in hashes), f"\n{checkpoint}"])
    parse_proof(text)
    return text


def parse_proof(text: str | bytes) -> UnverifiedProof:
    """Read the framing of a proof; of the checkpoint in it only that it is there.

    Raises:
        VerificationError: "log proof".

    """
    whole = read_text(PROOF_CHECK, text, bytes_max=PROOF_BYTES_MAX)
    framing, gap, checkpoint = whole.partition("\n\n")  # the first one: the checkpoint has its own
    lines = framing.split("\n")
    if not gap or not checkpoint or lines.pop(0) != _HEAD:
        raise VerificationError(PROOF_CHECK, f"is not {_HEAD!r}, lines, an empty line and a checkpoint")
    extra = _read_extra(lines.pop(0)) if lines and lines[0].startswith("extra ") else None
    if not lines or not lines[0].startswith("index "):
        raise VerificationError(PROOF_CHECK, "has no index line where it belongs")
    if len(lines) > 1 + INCLUSION_HASHES_MAX:
        raise VerificationError(PROOF_CHECK, f"{len(lines) - 1} hashes, at most {INCLUSION_HASHES_MAX}")
    index = read_decimal(PROOF_CHECK, lines[0].removeprefix("index "))
    return UnverifiedProof(index, tuple(read_hash(PROOF_CHECK, one) for one in lines[1:]), checkpoint, extra)


def verify_proof(  # noqa: PLR0913 - whom to believe is for the caller to say, in full
    text: str | bytes,
    *,
    leaf: bytes,
    origin: str,
    log_keys: Sequence[VerifierKey],
    witnesses: Sequence[VerifierKey],
    quorum: int,
) -> VerifiedInclusion:
    """Verify that the log `origin` holds exactly these leaf bytes, under a checkpoint with a quorum of witnesses.

    What the leaf itself says of its origin and index is the caller's to compare with the answer.

    Raises:
        VerificationError: "log proof" (malformed), "inclusion proof", or a check of `open_checkpoint`.

    """
    proof = parse_proof(text)
    head = open_checkpoint(proof.checkpoint, origin, log_keys=log_keys, witnesses=witnesses, quorum=quorum)
    check_inclusion(proof.hashes, leaf_hash=leaf_hash(leaf), index=proof.index, size=head.size, root=head.root)
    return VerifiedInclusion(proof.index, head.size, head.root, head.cosigned_by)


def _read_extra(line: str) -> bytes:
    extra = read_base64(PROOF_CHECK, line.removeprefix("extra "))
    if not 0 < len(extra) <= EXTRA_BYTES_MAX:
        raise VerificationError(PROOF_CHECK, f"extra of {len(extra)} bytes, 1 to {EXTRA_BYTES_MAX} are accepted")
    return extra
