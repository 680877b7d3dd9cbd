"""The simulated KMS gives a data key to the enclaves that the key policy lets in, and to nobody else."""

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.attestation.forge import NOW_MS, PKI
from tests.simulator.kms_bench import (
    KEY_ARN,
    KEY_ID,
    KNOWN,
    document,
    open_envelope,
    signed,
    statement,
)
from tests.simulator.kms_call import (
    CONTEXT,
    DECRYPT,
    RECIPIENT_FIELD,
    SERVICE,
    STORE,
    call,
    decrypt_request,
    generate,
    recipient,
    refused,
    service,
)

from pinaivu_host.kms_policy import key_policy
from pinaivu_shared.attestation.policy import IMAGE_PCRS
from pinaivu_shared.configuration import KmsTerms
from pinaivu_shared.errors import CallerError
from pinaivu_simulator.kms.fault import KmsFault, dependency_timeout, internal, throttled
from pinaivu_simulator.kms.judge import PlatformJudge
from pinaivu_simulator.kms.policy import KeyPolicy
from pinaivu_simulator.kms.service import KmsService
from pinaivu_simulator.market import market_configuration
from pinaivu_simulator.nsm import ROLE, SIMULATED_MEASUREMENTS


def test_decrypt_gives_the_data_key_again() -> None:
    status, made = call(SERVICE, generate())
    assert (status, set(made)) == (200, {"CiphertextBlob", "CiphertextForRecipient", "KeyId"})
    secret = open_envelope(base64.b64decode(made["CiphertextForRecipient"]))
    assert len(secret) == 32
    status, found = call(SERVICE, decrypt_request(made), DECRYPT)
    assert (status, set(found)) == (200, {"CiphertextForRecipient", "KeyId", "EncryptionAlgorithm"})
    assert open_envelope(base64.b64decode(found["CiphertextForRecipient"])) == secret
    assert made["KeyId"] == found["KeyId"] == KEY_ARN
    assert secret.hex() not in json.dumps([made, found])
    assert base64.b64encode(secret).decode() not in json.dumps([made, found])


def test_the_key_may_be_named_by_its_id() -> None:
    assert call(SERVICE, generate(KeyId=KEY_ID))[1]["KeyId"] == KEY_ARN


def test_another_context_is_refused() -> None:
    _, made = call(SERVICE, generate())
    for context in ({}, {"pinaivu:origin": "another.example"}, CONTEXT | {"more": ""}, ...):
        assert refused(SERVICE, decrypt_request(made, EncryptionContext=context), DECRYPT) == (
            "InvalidCiphertextException"
        )


@pytest.mark.parametrize(
    "change",
    [
        {"configuration": b"the configuration of another market"},
        {"measurements": {**SIMULATED_MEASUREMENTS, 0: b"\xab" * 48}},
        {"measurements": {**SIMULATED_MEASUREMENTS, 1: b"\xab" * 48}},
        {"measurements": {**SIMULATED_MEASUREMENTS, 2: b"\xab" * 48}},
        {"measurements": dict.fromkeys(IMAGE_PCRS, bytes(48))},
    ],
)
def test_another_image_or_configuration_is_not_authorised(change: dict[str, Any]) -> None:
    _, made = call(SERVICE, generate())
    field = recipient(document(**change))
    assert refused(SERVICE, generate(Recipient=field)) == "AccessDeniedException"
    assert refused(SERVICE, decrypt_request(made, Recipient=field), DECRYPT) == "AccessDeniedException"


def test_a_refusal_by_policy_reads_as_awss_and_tells_no_register() -> None:
    status, said = call(SERVICE, generate(Recipient=recipient(document(configuration=b"another"))))
    assert status == 400
    assert said == {
        "__type": "AccessDeniedException",
        "Message": f"User: {ROLE} is not authorized to perform: kms:GenerateDataKey on resource: {KEY_ARN} "
        "because no resource-based policy allows the kms:GenerateDataKey action",
    }


def test_without_a_recipient_nothing_is_given() -> None:
    _, made = call(SERVICE, generate())
    status, said = call(SERVICE, generate(Recipient=...))
    assert (status, said["__type"]) == (400, "AccessDeniedException")
    assert said["Message"].endswith("with an explicit deny in a resource-based policy")
    for nothing in (..., None):
        assert refused(SERVICE, decrypt_request(made, Recipient=nothing), DECRYPT) == "AccessDeniedException"


def test_a_policy_that_would_let_everybody_in_gives_no_plaintext_either() -> None:
    open_door = json.dumps({"Version": "2012-10-17", "Statement": statement(Action="kms:*")}).encode()
    assert refused(service(open_door), generate(Recipient=...)) == "ValidationException"
    assert refused(service(open_door), generate()) == "AccessDeniedException"  # no image to measure by


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"KeyId": KEY_ARN.replace("local-1", "us-east-1")}, "NotFoundException"),
        ({"KeyId": "alias/vault"}, "NotFoundException"),
        ({"KeyId": ""}, "NotFoundException"),
        ({"KeyId": ...}, "ValidationException"),
        ({"KeyId": None}, "ValidationException"),
        ({"KeySpec": "AES_128"}, "ValidationException"),
        ({"KeySpec": ...}, "ValidationException"),
        ({"NumberOfBytes": 32}, "ValidationException"),
        ({"DryRun": True}, "ValidationException"),
        ({"GrantTokens": ["x"]}, "ValidationException"),
        ({"EncryptionContext": {"a": 1}}, "ValidationException"),
        ({"EncryptionContext": None}, "ValidationException"),
        ({"Recipient": {}}, "ValidationException"),
        ({"Recipient": RECIPIENT_FIELD | {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_1"}}, "ValidationException"),
        ({"Recipient": RECIPIENT_FIELD | {"AttestationDocument": ""}}, "ValidationException"),
        ({"Recipient": RECIPIENT_FIELD | {"AttestationDocument": "not base64!"}}, "ValidationException"),
        ({"Recipient": RECIPIENT_FIELD | {"More": 1}}, "ValidationException"),
    ],
)
def test_a_request_that_is_not_the_apis_is_refused(change: dict[str, Any], code: str) -> None:
    assert refused(SERVICE, generate(**change)) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"CiphertextBlob": ""}, "ValidationException"),
        ({"CiphertextBlob": ...}, "ValidationException"),
        ({"CiphertextBlob": base64.b64encode(bytes(6145)).decode()}, "ValidationException"),
        ({"CiphertextBlob": base64.b64encode(bytes(100)).decode()}, "InvalidCiphertextException"),
        ({"EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, "ValidationException"),
        ({"KeyId": "0b1e7a3c-2222-4222-8333-123456789abc"}, "NotFoundException"),
    ],
)
def test_a_ciphertext_that_is_not_the_keys_is_refused(change: dict[str, Any], code: str) -> None:
    _, made = call(SERVICE, generate())
    assert refused(SERVICE, decrypt_request(made, **change), DECRYPT) == code


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"KeyId": "\xff"}'])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    assert refused(SERVICE, body) in ("SerializationException", "ValidationException")


@pytest.mark.parametrize("target", ["TrentService.Encrypt", "TrentService.PutKeyPolicy", "GenerateDataKey", "x"])
def test_there_is_no_other_operation(target: str) -> None:
    assert refused(SERVICE, generate(), target) == "UnknownOperationException"


@given(st.binary(max_size=200))
def test_any_body_gets_an_answer(body: bytes) -> None:
    assert call(SERVICE, body)[0] == 400


def test_nobody_gets_past_the_signature() -> None:
    body = json.dumps(generate()).encode()
    answer = SERVICE.answer(signed(body, secret="wrong"), body, NOW_MS)
    assert (answer.status, json.loads(answer.body)["__type"]) == (400, "InvalidSignatureException")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (throttled(), 400, "ThrottlingException"),
        (internal(), 500, "KMSInternalException"),
        (dependency_timeout(), 503, "DependencyTimeoutException"),
        (KmsFault("DisabledException", f"{KEY_ARN} is disabled."), 400, "DisabledException"),
    ],
)
def test_scripted_faults_come_in_their_order_and_end(fault: KmsFault, status: int, code: str) -> None:
    kms = service(faults=iter([fault, None, fault]))
    answers = [call(kms, generate()) for _ in range(4)]
    assert [found for found, _ in answers] == [status, 200, status, 200]
    assert [said.get("__type") for _, said in answers] == [code, None, code, None]


def test_throttling_may_last_forever() -> None:
    kms = service(faults=itertools.repeat(throttled()))
    assert [call(kms, generate())[0] for _ in range(3)] == [400] * 3


def test_a_policy_that_cannot_be_used_lets_nobody_in() -> None:
    def unusable() -> KeyPolicy:
        raise CallerError("key policy: not there")

    kms = KmsService(
        key_arn=KEY_ARN,
        store=STORE,
        credentials=KNOWN,
        policy=unusable,
        judge=PlatformJudge(PKI.trust_root, unusable),
    )
    assert refused(kms, generate()) == refused(kms, generate(Recipient=...)) == "AccessDeniedException"


def test_the_policy_that_the_host_writes_lets_in_its_enclave_and_no_other() -> None:
    origin = "market.example"
    terms = KmsTerms(key_arn=KEY_ARN, tls_root="00")
    configuration = market_configuration(origin, ["model"], kms=terms)
    written = key_policy(SIMULATED_MEASUREMENTS, configuration, role=ROLE, administrator=None)
    kms = service(json.dumps(written).encode())
    field = recipient(document(configuration=configuration))
    assert call(kms, generate(Recipient=field))[0] == 200
    for change in (
        {"EncryptionContext": {"pinaivu:origin": "another"}},
        {"EncryptionContext": ...},
        {"Recipient": ...},
    ):
        assert refused(kms, generate(**{"Recipient": field} | change)) == "AccessDeniedException"
    other = market_configuration(origin, ["another model"], kms=terms)
    assert refused(kms, generate(Recipient=recipient(document(configuration=other)))) == "AccessDeniedException"
