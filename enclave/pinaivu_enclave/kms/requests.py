"""The two requests that the enclave makes of KMS, as bytes (AWS KMS API Reference, JSON 1.1).

Both name the key of the measured configuration, bind the secret to the log by its encryption context, and carry the
attestation document to whose key alone KMS may answer. The host signs the hash of the body and never sees it.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pinaivu_shared.configuration import Configuration, KmsTerms
from pinaivu_shared.wire.kms import SignRequest, Target


class _Recipient(msgspec.Struct, frozen=True, rename="pascal"):
    attestation_document: bytes
    key_encryption_algorithm: Literal["RSAES_OAEP_SHA_256"] = "RSAES_OAEP_SHA_256"


class _GenerateDataKey(msgspec.Struct, frozen=True, rename="pascal"):
    key_id: str
    encryption_context: dict[str, str]
    recipient: _Recipient
    key_spec: Literal["AES_256"] = "AES_256"


class _Decrypt(msgspec.Struct, frozen=True, rename="pascal"):
    key_id: str
    ciphertext_blob: bytes
    encryption_context: dict[str, str]
    recipient: _Recipient


@dataclass(frozen=True, slots=True)
class KmsRequest:
    """A POST to `/` of the KMS endpoint."""

    target: Target
    body: bytes = field(repr=False)

    @property
    def operation(self) -> str:
        """Its name in AWS's documentation."""
        return self.target.removeprefix("TrentService.")

    def to_sign(self, terms: KmsTerms) -> SignRequest:
        """What the host has to sign for it."""
        return SignRequest(terms.endpoint, terms.region, self.target, hashlib.sha256(self.body).hexdigest())


def generate_data_key(configuration: Configuration, document: bytes) -> KmsRequest:
    """Genesis: make a secret of 32 bytes and give it to the key that the attestation document vouches for."""
    request = _GenerateDataKey(configuration.kms.key_arn, _context(configuration), _Recipient(document))
    return KmsRequest("TrentService.GenerateDataKey", msgspec.json.encode(request))


def decrypt(configuration: Configuration, sealed: bytes, document: bytes) -> KmsRequest:
    """Any later boot: give the secret in `sealed`, made under this key and context, to the attested key."""
    request = _Decrypt(configuration.kms.key_arn, sealed, _context(configuration), _Recipient(document))
    return KmsRequest("TrentService.Decrypt", msgspec.json.encode(request))


def _context(configuration: Configuration) -> dict[str, str]:
    """The host keeps the ciphertext and could hand back that of another log: KMS refuses to open it under this one."""
    return {"pinaivu:origin": configuration.origin, "pinaivu:purpose": "vault"}
