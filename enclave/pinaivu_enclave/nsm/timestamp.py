"""The time inside an attestation document that our own module has just given us.

Nothing is verified: the document did not leave the enclave, and whoever could forge it here is the platform itself.
Hence QEMU's documents, which are not signed, are read as well. Verification is `pinaivu_shared.attestation.verify`.
"""

from collections.abc import Mapping
from typing import Final

from pinaivu_enclave.nsm import InvalidResponseError, NsmDevice
from pinaivu_shared.attestation.cbor import CborValue, decode, decode_map
from pinaivu_shared.attestation.document import MAX_DOCUMENT_BYTES, MAX_TIMESTAMP_MS
from pinaivu_shared.errors import VerificationError

CLOCK_PURPOSE: Final = b"pinaivu/clock/v1"
"""`user_data` of a document that is asked for its timestamp only, so that it passes for no other."""


def ask_timestamp_ms(nsm: NsmDevice) -> int:
    """Have the module make a document, and read the time in it. Blocks on the module; InvalidResponseError as below."""
    return read_timestamp_ms(nsm.attest(public_key=None, user_data=CLOCK_PURPOSE, nonce=None))


def read_timestamp_ms(document: bytes) -> int:
    """Unix time in milliseconds at which the module made the document; malformed ones raise InvalidResponseError."""
    timestamp = read_own_payload(document).get("timestamp")
    if not isinstance(timestamp, int) or not 0 < timestamp < MAX_TIMESTAMP_MS:
        raise InvalidResponseError("attestation document: timestamp is absent or no time")
    return timestamp


def read_own_payload(document: bytes) -> Mapping[int | str, CborValue]:
    """The payload map of a COSE_Sign1 (RFC 9052 4.2), of definite or indefinite length; or InvalidResponseError."""
    if len(document) > MAX_DOCUMENT_BYTES:
        raise InvalidResponseError(f"attestation document of {len(document)} bytes, at most {MAX_DOCUMENT_BYTES}")
    try:
        match decode(document):
            case [bytes(), dict(), bytes(payload), bytes()]:
                return decode_map(payload)
            case _:
                raise InvalidResponseError("attestation document: not an untagged COSE_Sign1")
    except VerificationError as error:
        raise InvalidResponseError(str(error)) from error
