"""The trust file: whom a verifier believes, and nothing else (DESIGN section 10).

For platform `nitro` the root is AWS's pinned one: it may be left out, never replaced.
"""

from typing import Annotated, Final

import msgspec
from cryptography import x509

from pinaivu_shared.attestation.policy import MeasurementPolicy
from pinaivu_shared.attestation.roots import aws_nitro_root, load_root
from pinaivu_shared.canonical import convert, parse_json
from pinaivu_shared.configuration import Origin, Platform
from pinaivu_shared.errors import CallerError, UnreadableError, VerificationError
from pinaivu_shared.log.checkpoint import check_quorum
from pinaivu_shared.log.keys import VerifierKey, parse_vkey

MAX_TRUST_BYTES: Final = 256 * 1024
Measurement = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{96}\Z")]


class Measurements(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The expected PCR0, PCR1 and PCR2 as 96 lowercase hex digits; no value is optional."""

    pcr0: Measurement = msgspec.field(name="0")
    pcr1: Measurement = msgspec.field(name="1")
    pcr2: Measurement = msgspec.field(name="2")


class _TrustText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    platform: Platform
    pcrs: Measurements
    origin: Origin
    log_keys: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=32)]
    witnesses: Annotated[tuple[str, ...], msgspec.Meta(max_length=32)]
    quorum: Annotated[int, msgspec.Meta(ge=0, le=32)]
    root: str | None = None


class TrustFile(msgspec.Struct, frozen=True, kw_only=True):
    """A trust file that was read and makes sense: root certificate, image policy, log keys and witness quorum."""

    platform: Platform
    root: x509.Certificate
    policy: MeasurementPolicy
    origin: str
    log_keys: tuple[VerifierKey, ...]
    witnesses: tuple[VerifierKey, ...]
    quorum: int


def parse_trust(raw: bytes) -> TrustFile:
    """Read a trust file; UnreadableError says what is wrong with it. A bad trust file is never half believed."""
    if len(raw) > MAX_TRUST_BYTES:
        raise UnreadableError(f"trust file: {len(raw)} bytes, at most {MAX_TRUST_BYTES} are allowed")
    try:
        text = convert(parse_json(raw), _TrustText, check="trust file")
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"trust file: not JSON: {error}") from error
    except VerificationError as error:
        raise UnreadableError(str(error)) from error
    try:
        return _resolve(text)
    except (ValueError, VerificationError, CallerError) as error:
        raise UnreadableError(f"trust file: {error}") from error


def _resolve(text: _TrustText) -> TrustFile:
    witnesses = tuple(parse_vkey(vkey) for vkey in text.witnesses)
    check_quorum(text.quorum, witnesses)
    pcrs = {0: text.pcrs.pcr0, 1: text.pcrs.pcr1, 2: text.pcrs.pcr2}
    return TrustFile(
        platform=text.platform,
        root=_root(text),
        policy=MeasurementPolicy.exactly({index: bytes.fromhex(value) for index, value in pcrs.items()}),
        origin=text.origin,
        log_keys=tuple(parse_vkey(vkey) for vkey in text.log_keys),
        witnesses=witnesses,
        quorum=text.quorum,
    )


def _root(text: _TrustText) -> x509.Certificate:
    if text.root is None and text.platform != "nitro":
        raise VerificationError("root", f"platform {text.platform} needs its root certificate in PEM")
    root = aws_nitro_root() if text.root is None else load_root(text.root)
    if (root == aws_nitro_root()) != (text.platform == "nitro"):
        raise VerificationError("root", "the AWS root belongs to platform nitro, and no other root does")
    return root
