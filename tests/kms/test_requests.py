"""What the enclave asks of KMS is fixed by its measured configuration; the host signs it unseen."""

import base64
import hashlib
import json

from pinaivu_enclave.kms.requests import decrypt, generate_data_key

from .lab import ENDPOINT, KEY_ARN, ORIGIN, configuration

CONTEXT = {"pinaivu:origin": ORIGIN, "pinaivu:purpose": "vault"}
DOCUMENT = bytes(range(256)) * 20
RECIPIENT = {
    "AttestationDocument": base64.b64encode(DOCUMENT).decode(),
    "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
}


def test_genesis_asks_for_a_data_key_of_32_bytes_under_the_configured_key() -> None:
    request = generate_data_key(configuration(), DOCUMENT)
    assert (request.target, request.operation) == ("TrentService.GenerateDataKey", "GenerateDataKey")
    assert json.loads(request.body) == {
        "KeyId": KEY_ARN,
        "KeySpec": "AES_256",
        "EncryptionContext": CONTEXT,
        "Recipient": RECIPIENT,
    }


def test_a_later_boot_asks_to_decrypt_and_names_the_key() -> None:
    request = decrypt(configuration(), b"\xffsealed", DOCUMENT)
    assert (request.target, request.operation) == ("TrentService.Decrypt", "Decrypt")
    assert json.loads(request.body) == {
        "KeyId": KEY_ARN,
        "CiphertextBlob": base64.b64encode(b"\xffsealed").decode(),
        "EncryptionContext": CONTEXT,
        "Recipient": RECIPIENT,
    }


def test_the_host_learns_the_hash_of_the_body_and_not_the_body() -> None:
    request = generate_data_key(configuration(), DOCUMENT)
    asked = request.to_sign(configuration().kms)
    assert (asked.endpoint, asked.region, asked.target) == (ENDPOINT, "eu-central-1", request.target)
    assert asked.body_sha256 == hashlib.sha256(request.body).hexdigest()
    assert "AttestationDocument" not in repr(request)
