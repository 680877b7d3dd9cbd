"""A simulated KMS without a wire, and calls of it."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from tests.attestation.forge import NOW_MS, PKI
from tests.simulator.kms_bench import KEY_ARN, KEY_ID, KNOWN, document, policy_document, signed

from pinaivu_simulator.kms.fault import KmsFault
from pinaivu_simulator.kms.judge import Judge, PlatformJudge
from pinaivu_simulator.kms.policy import KeyPolicy, parse_policy
from pinaivu_simulator.kms.service import KmsService
from pinaivu_simulator.kms.store import MotoKeyStore, StoredKey

GENERATE, DECRYPT = "TrentService.GenerateDataKey", "TrentService.Decrypt"
CONTEXT = {"pinaivu:origin": "market.example"}
STORE = MotoKeyStore(StoredKey(id=KEY_ID, material=bytes(range(32))))


def service(
    policy: bytes | None = None,
    *,
    judge: Judge | None = None,
    faults: Iterator[KmsFault | None] | None = None,
) -> KmsService:
    played = policy_document() if policy is None else policy

    def current() -> KeyPolicy:
        return parse_policy(played)

    return KmsService(
        key_arn=KEY_ARN,
        store=STORE,
        credentials=KNOWN,
        policy=current,
        judge=judge or PlatformJudge(PKI.trust_root, current),
        faults=faults,
    )


SERVICE = service()


def recipient(raw: bytes | None = None) -> dict[str, str]:
    return {
        "AttestationDocument": base64.b64encode(document() if raw is None else raw).decode(),
        "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
    }


RECIPIENT_FIELD = recipient()


def generate(**changes: Any) -> dict[str, Any]:
    """A good request for a data key, with changes; a change to `...` leaves a member out."""
    made = {"KeyId": KEY_ARN, "KeySpec": "AES_256", "EncryptionContext": CONTEXT, "Recipient": RECIPIENT_FIELD}
    return {name: value for name, value in (made | changes).items() if value is not ...}


def call(kms: KmsService, request: Any, target: str = GENERATE, *, now_ms: int = NOW_MS) -> tuple[int, Any]:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    answer = kms.answer(signed(body, target, at_ms=now_ms), body, now_ms)
    assert b"Plaintext" not in answer.body
    return answer.status, json.loads(answer.body)


def refused(kms: KmsService, request: Any, target: str = GENERATE, *, now_ms: int = NOW_MS) -> str:
    status, said = call(kms, request, target, now_ms=now_ms)
    assert status == 400
    return str(said["__type"])


def decrypt_request(generated: dict[str, str], **changes: Any) -> dict[str, Any]:
    return generate(**{"KeySpec": ..., "CiphertextBlob": generated["CiphertextBlob"]} | changes)
