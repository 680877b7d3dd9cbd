"""The vault secret from AWS KMS: made at genesis, opened at every later boot, for this image and configuration only.

Each attempt attests to a fresh RSA key, so that an answer to any other attempt opens nothing. All log lines are read
by the host: they hold codes and counts.
"""

import itertools
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pinaivu_enclave.core.keys import VAULT_SECRET_BYTES
from pinaivu_enclave.kms.answers import read_decrypted, read_generated
from pinaivu_enclave.kms.connection import exchange
from pinaivu_enclave.kms.envelope import open_envelope
from pinaivu_enclave.kms.failure import AttemptError
from pinaivu_enclave.kms.refusals import explain, read_refusal
from pinaivu_enclave.kms.requests import KmsRequest, decrypt, generate_data_key
from pinaivu_enclave.kms.roots import tls_context
from pinaivu_enclave.nsm import NsmDevice
from pinaivu_enclave.parent import Parent
from pinaivu_enclave.vault import OpenedVault, VaultError
from pinaivu_shared.attestation.policy import CONFIGURATION_PCR, IMAGE_PCRS
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.wire.link_boot import MAX_SEALED_VAULT_BYTES

RECIPIENT_PURPOSE: Final = b"pinaivu/kms-recipient/v1"
"""`user_data` of the document for KMS. An epoch's has a SHA-256 there: neither can pass for the other."""

ATTEMPTS: Final = 5
FIRST_DELAY_SECONDS: Final = 0.5
MAX_DELAY_SECONDS: Final = 8.0

logger = logging.getLogger(__name__)
_uniform = random.SystemRandom().uniform


@dataclass(frozen=True, slots=True)
class Recipient:
    """The key of one attempt, what vouches for it, and the registers that KMS judges (index -> 48 bytes)."""

    key: rsa.RSAPrivateKey = field(repr=False)
    document: bytes = field(repr=False)
    measurements: Mapping[int, bytes] = field(repr=False)

    @classmethod
    def make(cls, nsm: NsmDevice) -> "Recipient":
        """A fresh RSA-2048 key and its attestation document. Blocks, on the module and on finding primes."""
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        document = nsm.attest(public_key=spki, user_data=RECIPIENT_PURPOSE, nonce=None)
        registers = (*IMAGE_PCRS, CONFIGURATION_PCR)
        return cls(key, document, {index: nsm.describe_pcr(index)[1] for index in registers})


class KmsVault:
    """Implements `Vault`. `draw(low, high)` is the chance in the delays between attempts, in seconds."""

    def __init__(self, nsm: NsmDevice, parent: Parent, *, draw: Callable[[float, float], float] = _uniform) -> None:
        self._nsm, self._parent, self._draw = nsm, parent, draw

    async def open(self, configuration: Configuration, sealed: bytes) -> OpenedVault:
        """See `Vault`. Up to ATTEMPTS attempts, with exponential back-off and full jitter where waiting may help."""
        if len(sealed) > MAX_SEALED_VAULT_BYTES:
            raise VaultError(
                f"host: the sealed secret has {len(sealed)} bytes, KMS makes at most {MAX_SEALED_VAULT_BYTES}"
            )
        context = tls_context(configuration)
        operation = "Decrypt" if sealed else "GenerateDataKey"
        for attempt in itertools.count(1):
            try:
                opened = await self._attempt(context, configuration, sealed)
            except AttemptError as error:
                _log_failure(operation, attempt, error)
                if not error.may_pass or attempt == ATTEMPTS:
                    raise VaultError(
                        f"no vault secret: {operation}, attempt {attempt} of {ATTEMPTS}: {error}"
                    ) from error
            else:
                logger.info("vault opened", extra={"kv": {"operation": operation, "attempt": attempt}})
                return opened
            await trio.sleep(self._draw(0.0, min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (attempt - 1))))
        raise AssertionError("counting does not end")

    async def _attempt(self, context: ssl.SSLContext, configuration: Configuration, sealed: bytes) -> OpenedVault:
        recipient = await trio.to_thread.run_sync(Recipient.make, self._nsm)
        key_arn = configuration.kms.key_arn
        if sealed:
            request = decrypt(configuration, sealed, recipient.document)
            envelope = read_decrypted(await self._ask(context, configuration, request, recipient), key_arn)
        else:
            request = generate_data_key(configuration, recipient.document)
            generated = read_generated(await self._ask(context, configuration, request, recipient), key_arn)
            envelope, sealed = generated.envelope, generated.sealed
        secret = open_envelope(envelope, recipient.key)
        if len(secret) != VAULT_SECRET_BYTES:
            raise AttemptError(
                "kms", "answer", f"the secret has {len(secret)} bytes instead of {VAULT_SECRET_BYTES}", may_pass=False
            )
        return OpenedVault(secret, sealed)

    async def _ask(
        self, context: ssl.SSLContext, configuration: Configuration, request: KmsRequest, recipient: Recipient
    ) -> bytes:
        """The body of an answer with status 200."""
        answer = await exchange(self._parent, context, configuration.kms, request)
        if answer.status != 200:
            raise explain(read_refusal(answer.status, answer.body), recipient.measurements)
        return answer.body


def _log_failure(operation: str, attempt: int, error: AttemptError) -> None:
    fields = {
        "operation": operation,
        "attempt": attempt,
        "of": ATTEMPTS,
        "peer": error.peer,
        "reason": error.reason,
        "aws_code": error.aws_code,
    }
    logger.warning("no vault secret from KMS", extra={"kv": fields})
