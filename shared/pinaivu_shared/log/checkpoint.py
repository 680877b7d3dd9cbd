"""A tree head that its log signed and its witnesses cosigned (C2SP tlog-checkpoint, tlog-cosignature).

The text of a checkpoint is three lines: origin, size, base64 of the root. Extension lines are allowed by the
format and refused here: nobody can audit them. Whom to believe is always the caller's to say, never the log's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.grammar import read_decimal, read_hash, read_text, write_base64
from pinaivu_shared.log.keys import Algorithm, VerifierKey
from pinaivu_shared.log.note import NOTE_BYTES_MAX, SignedNote, cosign, format_note, open_note, sign

CHECKPOINT_CHECK = "checkpoint"
SIGNATURE_CHECK = "checkpoint signature"
ORIGIN_CHECK = "checkpoint origin"
QUORUM_CHECK = "witness quorum"
POLICY_CHECK = "witness policy"

# Origins of ours are key names as well, and fit a 0x06 cosignature's one byte of length.
_OWN_ORIGIN = re.compile(r"[!-*,-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says: the first `size` leaves of the log `origin` have this root. Proves nothing by itself."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's verified statement that it had seen no larger tree at `time_s` POSIX seconds."""

    witness: VerifierKey
    time_s: int


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint(Checkpoint):
    """A checkpoint whose log signature and quorum held. Made by `open_checkpoint` only."""

    cosigned_by: tuple[Cosignature, ...]  # distinct witnesses, all that are known, quorum or more


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Text of a checkpoint, the part that is signed (C2SP tlog-checkpoint, Note text).

    Raises:
        VerificationError: "checkpoint" if it has none.

    """
    text = f"{checkpoint.origin}\n{checkpoint.size}\n{write_base64(checkpoint.root)}\n"
    parse_checkpoint(text)
    return text


def parse_checkpoint(text: str | bytes) -> Checkpoint:
    """Read the text of a checkpoint, without signatures.

    Raises:
        VerificationError: "checkpoint".

    """
    lines = read_text(CHECKPOINT_CHECK, text, bytes_max=NOTE_BYTES_MAX).split("\n")
    if len(lines) < 4 or lines[-1] or not lines[0]:
        raise VerificationError(CHECKPOINT_CHECK, "is not origin, size and root, each ending in a newline")
    if len(lines) > 4:
        raise VerificationError(CHECKPOINT_CHECK, f"extension line {lines[3][:64]!r} is not accepted")
    origin, size, root, _ = lines
    return Checkpoint(origin, read_decimal(CHECKPOINT_CHECK, size), read_hash(CHECKPOINT_CHECK, root))


def unverified_origin(note: str | bytes) -> str:
    """First line of what may be a checkpoint: enough to look up whose keys to open it with.

    Raises:
        VerificationError: "checkpoint" if there is no such line.

    """
    origin, newline, _ = read_text(CHECKPOINT_CHECK, note, bytes_max=NOTE_BYTES_MAX).partition("\n")
    if not origin or not newline:
        raise VerificationError(CHECKPOINT_CHECK, "has no origin")
    return origin


def sign_checkpoint(origin: str, size: int, root: bytes, key: Ed25519PrivateKey) -> str:
    """Checkpoint of a log of ours, signed under its origin as key name (type 0x01).

    Args:
        origin: 1 to 255 visible ASCII characters without plus.
        size: leaves, 0 to 2**63-1.
        root: 32 bytes.
        key: the log's.

    Raises:
        VerificationError: "checkpoint".

    """
    if not _OWN_ORIGIN.fullmatch(origin):
        raise VerificationError(CHECKPOINT_CHECK, f"{origin[:64]!r} is no origin for a log of ours")
    text = format_checkpoint(Checkpoint(origin, size, root))
    return format_note(text, [sign(text, name=origin, key=key)])


def cosign_checkpoint(checkpoint: VerifiedCheckpoint, *, name: str, key: Ed25519PrivateKey, time_s: int) -> str:
    """Cosignature line of the witness `name` (type 0x04), newline included. Consistency is the caller's to check.

    What is signed is written anew from what was read, so that a difference between readers fails safe.

    Raises:
        VerificationError: "checkpoint" for a log that has the witness's own name; else as `note.cosign`.

    """
    if checkpoint.origin == name:
        raise VerificationError(CHECKPOINT_CHECK, f"the log has the name of its witness, {name[:64]!r}")
    return cosign(format_checkpoint(checkpoint), name=name, key=key, time_s=time_s)


def check_quorum(quorum: int, witnesses: Sequence[VerifierKey]) -> None:
    """Refuse a policy under which two different trees could both find a quorum of honest witnesses.

    A `quorum` of 0 stands for none and demands nothing. Any other k of n needs n >= k and 2k > n.

    Raises:
        VerificationError: "witness policy", also for a key of another type than 0x04 or one that is listed twice, under
            whatever name.

    """
    if any(one.algorithm is not Algorithm.COSIGNATURE_V1 for one in witnesses):
        raise VerificationError(POLICY_CHECK, "a witness key is not of type 0x04")
    if len({one.public_key for one in witnesses}) != len(witnesses):
        raise VerificationError(POLICY_CHECK, "a witness key is listed twice")
    if quorum != 0 and not len(witnesses) < 2 * quorum <= 2 * len(witnesses):
        raise VerificationError(POLICY_CHECK, f"{quorum} of {len(witnesses)} witnesses is no quorum")


def open_checkpoint(
    note: str | bytes,
    origin: str,
    *,
    log_keys: Sequence[VerifierKey],
    witnesses: Sequence[VerifierKey],
    quorum: int,
) -> VerifiedCheckpoint:
    """Verify a checkpoint: signed by a key of the log `origin` and by at least `quorum` distinct witnesses.

    1. the policy is one, 2. every line of a known key holds, 3. the log signed, 4. the text is a checkpoint of this
    log, 5. the quorum is there. With `quorum` 0 the cosignatures found are verified and reported all the same.

    Raises:
        VerificationError: "witness policy", "checkpoint" (malformed), "checkpoint signature", "checkpoint origin",
            "witness quorum"; "verifier key" if two keys share name and id.

    """
    check_quorum(quorum, witnesses)
    _check_log_keys(log_keys, witnesses)
    signed = open_note(note, [*log_keys, *witnesses], what=CHECKPOINT_CHECK)
    if not any(one.key in log_keys for one in signed.signatures):
        raise VerificationError(SIGNATURE_CHECK, f"no key of the log {origin[:64]!r} signed")
    stated = parse_checkpoint(signed.text)
    if stated.origin != origin:
        raise VerificationError(ORIGIN_CHECK, f"is of {stated.origin[:64]!r}, expected {origin[:64]!r}")
    cosigned_by = _cosignatures(signed)
    if len(cosigned_by) < quorum:
        raise VerificationError(QUORUM_CHECK, f"{len(cosigned_by)} of {quorum} needed witnesses cosigned")
    return VerifiedCheckpoint(stated.origin, stated.size, stated.root, cosigned_by)


def _check_log_keys(log_keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey]) -> None:
    if any(one.algorithm is not Algorithm.ED25519 for one in log_keys):
        raise VerificationError(POLICY_CHECK, "a log key is not of type 0x01")
    if {one.public_key for one in log_keys} & {one.public_key for one in witnesses}:
        raise VerificationError(POLICY_CHECK, "a log key is a witness key as well")


def _cosignatures(signed: SignedNote) -> tuple[Cosignature, ...]:
    """Times come with witness keys only, and `check_quorum` saw that no two of those are one witness."""
    return tuple(Cosignature(one.key, one.time_s) for one in signed.signatures if one.time_s is not None)
