"""What tests of the simulated KMS have in hand: enclaves, a key policy, a signer written by hand, an opener."""

import hashlib
import hmac
import json
import random
import time
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.attestation.forge import NOW_MS, PKI

from pinaivu_simulator.kms.envelope import OAEP
from pinaivu_simulator.kms.policy import KeyPolicy, parse_policy
from pinaivu_simulator.kms.sigv4 import Credentials
from pinaivu_simulator.nsm import ROLE, SIMULATED_MEASUREMENTS, SimulatedNsm
from pinaivu_simulator.pki import SimulatedPki

KEY_ID: Final = "0b1e7a3c-1111-4222-8333-123456789abc"
KEY_ARN: Final = f"arn:aws:kms:local-1:000000000000:key/{KEY_ID}"
HOST: Final = "kms.local-1.amazonaws.com"
ACCESS_KEY: Final = "AKIDEXAMPLE"
SECRET: Final = "the caller's secret"
KNOWN: Final = {ACCESS_KEY: Credentials(principal=ROLE, secret=SECRET)}
CONFIGURATION: Final = b"the configuration of this market"
RECIPIENT: Final = rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def spki(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def enclave(
    configuration: bytes = CONFIGURATION,
    *,
    pki: SimulatedPki = PKI,
    now_ms: int = NOW_MS,
    measurements: Mapping[int, bytes] = SIMULATED_MEASUREMENTS,
) -> SimulatedNsm:
    """An enclave that has booted with this configuration."""
    entropy = random.Random("kms").randbytes
    nsm = SimulatedNsm(pki, now_ms=lambda: now_ms, entropy=entropy, measurements=measurements)
    nsm.extend_pcr(16, hashlib.sha384(configuration).digest())
    nsm.lock_pcrs(32)
    return nsm


def document(public_key: bytes | None = None, **changes: Any) -> bytes:
    """A document of such an enclave that names RECIPIENT, or another key."""
    return enclave(**changes).attest(public_key=public_key or spki(RECIPIENT), user_data=None, nonce=None)


def pcr16(configuration: bytes = CONFIGURATION) -> str:
    return hashlib.sha384(bytes(48) + hashlib.sha384(configuration).digest()).hexdigest()


def statement(effect: str = "Allow", **changes: Any) -> dict[str, Any]:
    made = {"Effect": effect, "Principal": {"AWS": "*"}, "Action": "kms:Decrypt", "Resource": "*"} | changes
    return {name: value for name, value in made.items() if value is not ...}


def attested(**changes: str) -> dict[str, dict[str, str]]:
    """The condition that names an image and its configuration, as `pinaivu host kms-policy` writes it."""
    values = {f"PCR{index}": SIMULATED_MEASUREMENTS[index].hex() for index in (1, 2)}
    values |= {"ImageSha384": SIMULATED_MEASUREMENTS[0].hex(), "PCR16": pcr16()} | changes
    return {"StringEqualsIgnoreCase": {f"kms:RecipientAttestation:{name}": value for name, value in values.items()}}


def policy_document(*more: dict[str, Any], **changes: str) -> bytes:
    """Only this image with this configuration, and never without a document."""
    actions = ["kms:Decrypt", "kms:GenerateDataKey"]
    allow = statement("Allow", Action=actions, Principal={"AWS": ROLE}, Condition=attested(**changes))
    deny = statement("Deny", Action=actions, Condition={"Null": {"kms:RecipientAttestation:PCR0": "true"}})
    return json.dumps({"Version": "2012-10-17", "Statement": [allow, deny, *more]}).encode()


def key_policy(*statements: dict[str, Any]) -> KeyPolicy:
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": statements}).encode())


def signed(
    body: bytes,
    target: str = "TrentService.GenerateDataKey",
    *,
    at_ms: int = NOW_MS,
    secret: str = SECRET,
    access_key: str = ACCESS_KEY,
    region: str = "local-1",
    service: str = "kms",
    token: str | None = None,
    unsigned: tuple[str, ...] = (),
) -> dict[str, str]:
    """Headers of a signed request, by Signature Version 4 as AWS's guide writes it down: no code of botocore."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at_ms // 1000))
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": HOST,
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-amz-date": stamp,
        "x-amz-target": target,
    } | ({"x-amz-security-token": token} if token else {})
    names = [name for name in sorted(headers) if name not in unsigned]
    lines = [f"{name}:{headers[name]}" for name in names]
    canonical = "\n".join(["POST", "/", "", *lines, "", ";".join(names), headers["x-amz-content-sha256"]])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}".encode(), "sha256").hex()
    value = f"Credential={access_key}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return headers | {"authorization": f"AWS4-HMAC-SHA256 {value}"}


def open_envelope(raw: bytes, key: rsa.RSAPrivateKey = RECIPIENT) -> bytes:
    """The content of an envelope, taken from the offsets at which AWS's vectors have it."""
    content_key = key.decrypt(raw[131:387], OAEP)
    iv = raw[415:431]
    encrypted = raw[435 : 435 + raw[434]] if raw[431:433] == b"\xa0\x80" else raw[433 : 433 + raw[432]]
    decryptor = Cipher(algorithms.AES256(content_key), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(encrypted) + decryptor.finalize()) + unpadder.finalize()
