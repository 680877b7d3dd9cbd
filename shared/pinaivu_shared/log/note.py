"""Text signed by one or more keys (C2SP signed-note, tlog-cosignature).

<text, ends in newline>
<empty line>
— <key name> <base64 of key id and signature>
…
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.grammar import read_loose_base64, read_text, write_base64
from pinaivu_shared.log.keys import KEY_CHECK, KEY_ID_BYTES, Algorithm, VerifierKey, is_key_name
from pinaivu_shared.log.merkle import SIZE_MAX

NOTE_BYTES_MAX = 65_536
SIGNATURES_MAX = 100  # as Go; the specification wants 16 at least
TIME_S_MAX = SIZE_MAX

_DASH = "\u2014 "
_TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that holds, and the line that carries it (with its newline)."""

    key: VerifierKey
    time_s: int | None  # POSIX seconds that a cosignature states, none for a plain signature
    line: str


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text and who signed it, each known key once. Made by `open_note` only."""

    text: str
    signatures: tuple[VerifiedSignature, ...]


class _Line(NamedTuple):
    name: str
    key_id: bytes
    signature: bytes
    written: str

    @property
    def canonical(self) -> bool:
        return self.written == _format_line(self.name, self.key_id, self.signature)


def sign(text: str, *, name: str, key: Ed25519PrivateKey) -> str:
    """Signature line over a note's text (type 0x01), newline included.

    Raises:
        VerificationError: "note" if no note can have this text, "verifier key" if the name is none.

    """
    signer = VerifierKey(name, Algorithm.ED25519, key.public_key().public_bytes_raw())
    return _format_line(name, signer.key_id, key.sign(_check_text(text)))


def cosign(text: str, *, name: str, key: Ed25519PrivateKey, time_s: int) -> str:
    """Cosignature line over a checkpoint's text (cosignature/v1, type 0x04), newline included.

    It claims that the text is the largest consistent tree this cosigner has seen at `time_s` POSIX seconds.

    Raises:
        VerificationError: "note" if no note can have this text or no time is `time_s`, "verifier key" for the name.

    """
    signer = VerifierKey(name, Algorithm.COSIGNATURE_V1, key.public_key().public_bytes_raw())
    if not 0 < time_s <= TIME_S_MAX:
        raise VerificationError("note", f"{time_s} is not a time to cosign at")
    signature = key.sign(_cosigned_message(time_s, _check_text(text)))
    return _format_line(name, signer.key_id, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def format_note(text: str, lines: Iterable[str]) -> str:
    """Put a text and its signature lines together.

    Raises:
        VerificationError: "note" if the result is none.

    """
    note = text + "\n" + "".join(lines)
    if split_note(note)[0] != text:
        raise VerificationError("note", "the lines are not signature lines")
    return note


def open_note(note: str | bytes, keys: Iterable[VerifierKey], *, what: str = "note") -> SignedNote:
    """Verify a note: every line of a known key must hold, and one at least must be there.

    Lines of unknown keys are ignored. Of several lines by one key each is verified and the latest counts.

    Args:
        note: at most 64 KiB with at most 100 signature lines.
        keys: whom to believe; no two different ones may share name and id.
        what: the name of the note in errors.

    Raises:
        VerificationError: "<what>" if it is malformed, "<what> signature" if a known key's line fails or no known
            key signed, "verifier key" if `keys` are ambiguous.

    """
    known = _by_reference(keys)
    text, lines = _read_note(note, what)
    verified: dict[VerifierKey, VerifiedSignature] = {}
    for line in lines:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        found = _verify(key, text.encode(), line, f"{what} signature")
        kept = verified.get(key)
        if kept is None or (found.time_s or 0) > (kept.time_s or 0):
            verified[key] = found
    if not verified:
        raise VerificationError(f"{what} signature", "no signature by a known key")
    return SignedNote(text, tuple(verified.values()))


def split_note(note: str | bytes) -> tuple[str, tuple[str, ...]]:
    """Text and signature lines (each with its newline) of a well-formed note. Nothing is verified.

    Raises:
        VerificationError: "note".

    """
    text, lines = _read_note(note, "note")
    return text, tuple(line.written for line in lines)


def add_signature(note: str | bytes, answer: str | bytes, key: VerifierKey) -> str:
    """Add the line by `key` from a witness's answer (signature lines only) to the note, in place of an older one.

    What else the answer holds is left out: unverified lines, once stored, can make a note impossible to open.

    Raises:
        VerificationError: "note" if either is malformed, "note signature" if a line by `key` does not hold or there
            is none in the answer.

    """
    text, lines = _read_note(note, "note")
    added = open_note(text + "\n" + read_text("note", answer, bytes_max=NOTE_BYTES_MAX), [key])
    if added.text != text:
        raise VerificationError("note", "the answer is more than signature lines")
    others = [line.written for line in lines if (line.name, line.key_id) != (key.name, key.key_id)]
    return format_note(text, [*others, *(one.line for one in added.signatures)])


def _verify(key: VerifierKey, text: bytes, line: _Line, check: str) -> VerifiedSignature:
    time_s, signature, message = None, line.signature, text
    if key.algorithm is Algorithm.COSIGNATURE_V1:
        time_s = int.from_bytes(signature[:_TIME_BYTES], "big")
        signature, message = signature[_TIME_BYTES:], _cosigned_message(time_s, text)
    if (time_s or 0) > TIME_S_MAX or not line.canonical:
        raise VerificationError(check, f"the signature line of {key.name[:64]!r} is not in its only form")
    key.check_signature(check, signature=signature, message=message)
    return VerifiedSignature(key, time_s, line.written)


def _cosigned_message(time_s: int, text: bytes) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n".encode() + text


def _read_note(note: str | bytes, what: str) -> tuple[str, list[_Line]]:
    whole = read_text(what, note, bytes_max=NOTE_BYTES_MAX)
    end = whole.rfind("\n\n")  # the text may have empty lines of its own
    if end < 0 or not whole.endswith("\n"):
        raise VerificationError(what, "has no text, empty line and signature lines, each ending in a newline")
    written = whole[end + 2 : -1].split("\n")  # splitlines would also split at U+2028, U+0085 and others
    if len(written) > SIGNATURES_MAX:
        raise VerificationError(what, f"{len(written)} signature lines, at most {SIGNATURES_MAX}")
    return whole[: end + 1], [_read_line(line, what) for line in written]


def _read_line(line: str, what: str) -> _Line:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not is_key_name(name):
        raise VerificationError(what, f"{line[:64]!r} is not a signature line")
    # Bits that base64 leaves over are judged only in a known key's line: others are not ours to refuse.
    blob = read_loose_base64(what, encoded)
    if len(blob) <= KEY_ID_BYTES:
        raise VerificationError(what, f"a signature line of {name[:64]!r} is too short")
    return _Line(name, blob[:KEY_ID_BYTES], blob[KEY_ID_BYTES:], line + "\n")


def _format_line(name: str, key_id: bytes, signature: bytes) -> str:
    return f"{_DASH}{name} {write_base64(key_id + signature)}\n"


def _check_text(text: str) -> bytes:
    checked = read_text("note", text, bytes_max=NOTE_BYTES_MAX)
    if not checked.endswith("\n"):
        raise VerificationError("note", "the text does not end in a newline")
    return checked.encode()


def _by_reference(keys: Iterable[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise VerificationError(KEY_CHECK, f"two keys share the name and id of {key.name[:64]!r}")
    return known
