"""First contact with a service: a trust file, out of PCRs that one computed oneself and a fresh attestation.

The image's registers and the platform's root are the writer's own knowledge. Origin and log key are the service's word,
and can be taken from it because an enclave of that very image said them, under a nonce of the writer's.
"""

import json
from typing import Annotated

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pinaivu_shared.attestation.policy import IMAGE_PCRS, MeasurementPolicy
from pinaivu_shared.configuration import Platform
from pinaivu_shared.epoch import verify_epoch_at_first_sight
from pinaivu_shared.error_body import service_error
from pinaivu_shared.errors import UnreadableError
from pinaivu_shared.log.keys import format_vkey

Register = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-fA-F]{96}\Z")]


class _Registers(msgspec.Struct, frozen=True):
    pcr0: Register = msgspec.field(name="PCR0")
    pcr1: Register = msgspec.field(name="PCR1")
    pcr2: Register = msgspec.field(name="PCR2")


class _Described(msgspec.Struct, frozen=True):
    measurements: _Registers = msgspec.field(name="Measurements")


class Answer(msgspec.Struct, frozen=True):
    """What `GET /v1/attestation` answers, `document` in base64 there; nothing of it is verified."""

    document: bytes
    manifest: msgspec.Raw
    configuration: msgspec.Raw


def read_measurements(raw: bytes) -> dict[int, bytes]:
    """PCR0, 1 and 2 of an image, as `pinaivu image pcrs --json` or `nitro-cli describe-eif` prints them.

    UnreadableError for anything else.
    """
    try:
        found = msgspec.json.decode(raw, type=_Described).measurements
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"measurements: not what `pinaivu image pcrs --json` prints: {error}") from error
    values = (found.pcr0, found.pcr1, found.pcr2)
    return {index: bytes.fromhex(value) for index, value in zip(IMAGE_PCRS, values, strict=True)}


def read_answer(raw: bytes) -> Answer:
    """The gateway's answer; UnreadableError for anything else, its error body among it."""
    if refusal := service_error(raw):
        raise UnreadableError(f"attestation: this is the service's error: {refusal}")
    try:
        return msgspec.json.decode(raw, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"attestation: not the gateway's answer: {error}") from error


def enrol(  # noqa: PLR0913 - the service's word, and what it is judged by
    answer: Answer,
    *,
    platform: Platform,
    root: x509.Certificate,
    policy: MeasurementPolicy,
    nonce: bytes,
    now_ms: int,
) -> bytes:
    """The trust file for this service (JSON), or VerificationError."""
    epoch = verify_epoch_at_first_sight(
        answer.document,
        bytes(answer.manifest),
        bytes(answer.configuration),
        platform=platform,
        root=root,
        policy=policy,
        nonce=nonce,
        now_ms=now_ms,
    )
    trust: dict[str, object] = {"platform": platform}
    if platform != "nitro":
        trust["root"] = root.public_bytes(Encoding.PEM).decode()
    trust |= {
        "pcrs": {str(index): next(iter(policy.pcrs[index])).hex() for index in IMAGE_PCRS},
        "origin": epoch.manifest.origin,
        "log_keys": [format_vkey(epoch.log_key)],
        "witnesses": list(epoch.configuration.witnesses),
        "quorum": epoch.configuration.quorum,
    }
    return json.dumps(trust, indent=2).encode() + b"\n"
