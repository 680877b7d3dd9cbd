"""The vault secret comes from KMS to this enclave alone, or does not come; the host reads all that is said."""

import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pinaivu_enclave.kms.vault import RECIPIENT_PURPOSE
from pinaivu_enclave.vault import OpenedVault
from pinaivu_shared.attestation.policy import CONFIGURATION_PCR

from .authority import Authority
from .booted import FIRST_SECRET, Booted
from .envelopes import seal_envelope
from .lab import (
    ENDPOINT,
    KEY_ARN,
    TRUSTED,
    Answer,
    Call,
    aws_error,
    http,
)

pytestmark = pytest.mark.trio
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048).public_key()


async def test_genesis_gives_a_secret_and_every_later_boot_the_same(booted: Booted) -> None:
    made = await booted.open()
    assert made == OpenedVault(FIRST_SECRET, b"sealed by KMS 0")
    assert await booted.open(made.sealed) == made
    assert (await booted.open()).secret == b"\x02" * 32
    assert [call.operation for call in booted.host.kms.calls] == ["GenerateDataKey", "Decrypt", "GenerateDataKey"]
    assert booted.lines() == [
        {"event": "vault opened", "operation": operation, "attempt": 1}
        for operation in ("GenerateDataKey", "Decrypt", "GenerateDataKey")
    ]


async def test_each_attempt_attests_to_a_fresh_rsa_2048_key_for_this_purpose_alone(booted: Booted) -> None:
    booted.script(*[lambda _: aws_error(500, "")] * 2)
    await booted.open()
    documents = [call.document for call in booted.host.kms.calls]
    assert len({document.public_key for document in documents}) == 3
    for document, call in zip(documents, booted.host.kms.calls, strict=True):
        assert (document.user_data, document.nonce) == (RECIPIENT_PURPOSE, None)
        assert document.pcrs[CONFIGURATION_PCR] == booted.nsm.describe_pcr(CONFIGURATION_PCR)[1]
        assert (call.recipient.key_size, call.recipient.public_numbers().e) == (2048, 65_537)


async def test_a_secret_that_is_opened_shows_in_no_repr_and_no_log_line(booted: Booted) -> None:
    opened = await booted.open()
    shown = repr(opened) + json.dumps(booted.lines())
    assert repr(opened.secret)[2:-1] not in shown
    assert opened.secret.hex() not in shown


def right(booted: Booted, **changes: str | None) -> Answer:
    """The right answer with some fields changed, None removing one."""
    return lambda call: http(200, booted.host.kms.body(call, changes=changes))


def of_size(booted: Booted, size: int) -> Answer:
    return lambda call: http(200, booted.host.kms.body(call, secret=bytes(size)))


def for_another_key(booted: Booted) -> Answer:
    envelope = base64.b64encode(seal_envelope(bytes(32), OTHER_KEY)).decode()
    return right(booted, CiphertextForRecipient=envelope)


def cut_short(booted: Booted) -> Answer:
    """Fewer bytes are announced than the answer has."""

    def answer(call: Call) -> bytes:
        body = booted.host.kms.body(call)
        return http(200, body, length=len(body) - 1)

    return answer


PLAIN = base64.b64encode(FIRST_SECRET).decode()
WRONG_ANSWERS: dict[str, tuple[Callable[[Booted], Answer], str]] = {
    "an envelope for another key": (for_another_key, "kms: CiphertextForRecipient does not open"),
    "an envelope of nothing": (lambda booted: right(booted, CiphertextForRecipient="AAAA"), "does not open"),
    "plaintext beside": (lambda booted: right(booted, Plaintext=PLAIN), "KMS sent the secret in the clear"),
    "plaintext instead": (
        lambda booted: right(booted, Plaintext=PLAIN, CiphertextForRecipient=None),
        "KMS sent the secret in the clear",
    ),
    "another key's name": (lambda booted: right(booted, KeyId=KEY_ARN[:-1] + "0"), "answered for another key"),
    "no envelope": (lambda booted: right(booted, CiphertextForRecipient=None), "no CiphertextForRecipient"),
    "a secret of 16 bytes": (lambda booted: of_size(booted, 16), "the secret has 16 bytes instead of 32"),
    "a secret of 31 bytes": (lambda booted: of_size(booted, 31), "the secret has 31 bytes instead of 32"),
    "a secret of 33 bytes": (lambda booted: of_size(booted, 33), "the secret has 33 bytes instead of 32"),
    "content length too small": (cut_short, "what is no answer"),
    "no JSON": (lambda _: lambda _: http(200, b"<html>"), "what is no answer"),
    "a redirection": (lambda _: lambda _: http(302, b""), "HTTP 302"),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS.keys())
@pytest.mark.parametrize("later", [False, True], ids=["at genesis", "later"])
async def test_a_wrong_answer_is_refused_at_once_and_says_which(
    booted: Booted, wrong: Callable[[Booted], Answer], said: str, *, later: bool
) -> None:
    sealed = (await booted.open()).sealed if later else b""
    booted.script(wrong(booted))
    assert said in await booted.refused(sealed)
    assert len(booted.host.kms.calls) == 1 + later
    assert booted.delays == []
    await booted.works_again()


async def test_genesis_without_a_ciphertext_to_keep_is_refused(booted: Booted) -> None:
    booted.script(right(booted, CiphertextBlob=None))
    assert "no CiphertextBlob" in await booted.refused()
    await booted.works_again()


@pytest.mark.parametrize("later", [False, True], ids=["at genesis", "later"])
async def test_an_old_answer_opens_for_no_later_attempt(booted: Booted, *, later: bool) -> None:
    sealed = (await booted.open()).sealed
    if later:
        await booted.open(sealed)
    old = booted.host.kms.answers[-1]
    booted.script(lambda _: old)
    assert "does not open" in await booted.refused(sealed if later else b"")
    await booted.works_again()


async def test_a_sealed_secret_longer_than_any_is_not_sent(booted: Booted) -> None:
    assert "6145 bytes" in await booted.refused(bytes(6145))
    assert booted.host.asked == []


async def test_the_hosts_own_envelope_for_the_attested_key_is_stopped_by_tls(booted: Booted) -> None:
    """It can make one: the key is in the document. It cannot say so under the endpoint's name."""
    booted.host.kms.tls = Authority("Mallory").endpoint(ENDPOINT)
    assert f"certificate is not for {ENDPOINT}" in await booted.refused()
    assert booted.host.kms.calls == []
    booted.host.kms.tls = TRUSTED.endpoint(ENDPOINT)
    await booted.works_again()


async def test_another_regions_endpoint_is_stopped_by_its_certificate(booted: Booted) -> None:
    booted.host.kms.tls = TRUSTED.endpoint("kms.us-east-1.amazonaws.com")
    assert "Hostname mismatch" in await booted.refused()
    booted.host.kms.tls = TRUSTED.endpoint(ENDPOINT)
    await booted.works_again()
