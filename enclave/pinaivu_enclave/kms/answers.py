"""What KMS answers to the two requests. It has proved who it is by TLS, and is held to its word all the same."""

from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from pinaivu_enclave.kms.envelope import MAX_ENVELOPE_BYTES
from pinaivu_enclave.kms.failure import AttemptError
from pinaivu_shared.wire.link_boot import MAX_SEALED_VAULT_BYTES


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    """AWS adds fields as it likes; those that matter are missing only through a fault, which gets its own words."""

    key_id: str | None = None
    ciphertext_for_recipient: Annotated[bytes, msgspec.Meta(max_length=MAX_ENVELOPE_BYTES)] | None = None
    ciphertext_blob: Annotated[bytes, msgspec.Meta(max_length=MAX_SEALED_VAULT_BYTES)] | None = None
    plaintext: object = None


@dataclass(frozen=True, slots=True)
class GeneratedSecret:
    """Answer to GenerateDataKey: the secret for this enclave, and for the host to keep (1 to 6144 bytes)."""

    envelope: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


_decoder = msgspec.json.Decoder(_Answer)


def read_generated(body: bytes, key_arn: str) -> GeneratedSecret:
    """The answer to GenerateDataKey under this key; AttemptError("answer") for anything else."""
    answer = _read(body)
    envelope = _envelope(answer, key_arn)
    if not answer.ciphertext_blob:
        raise _refusal("sent no CiphertextBlob, without which the secret would be lost at the next start")
    return GeneratedSecret(envelope, answer.ciphertext_blob)


def read_decrypted(body: bytes, key_arn: str) -> bytes:
    """The envelope in the answer to Decrypt under this key; AttemptError("answer") for anything else."""
    return _envelope(_read(body), key_arn)


def _read(body: bytes) -> _Answer:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(f"answered what is no answer: {error}") from error


def _envelope(answer: _Answer, key_arn: str) -> bytes:
    if answer.plaintext is not None:
        raise _refusal("KMS sent the secret in the clear, as it does for callers that are no enclave")
    if answer.key_id != key_arn:
        raise _refusal(f"answered for another key than {key_arn}")
    if not answer.ciphertext_for_recipient:
        raise _refusal("sent no CiphertextForRecipient")
    return answer.ciphertext_for_recipient


def _refusal(detail: str) -> AttemptError:
    return AttemptError("kms", "answer", detail, may_pass=False)
