"""Attempts to have the vault secret: which failures are tried again, which are somebody's to mend, and who is told."""

import msgspec
import pytest

from pinaivu_enclave.kms.vault import ATTEMPTS, KmsVault
from pinaivu_enclave.vault import VaultError
from pinaivu_shared.attestation.policy import CONFIGURATION_PCR
from pinaivu_shared.wire.kms import BridgeRefusal, SignedHeaders
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS

from .booted import CONFIGURATION, FIRST_SECRET, TOKEN, Booted
from .lab import ENDPOINT, aws_error, configuration, sign

pytestmark = pytest.mark.trio


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ThrottlingException"),
        (400, "KMSInternalException"),
        (400, "KeyUnavailableException"),
        (500, ""),
        (503, ""),
    ],
)
async def test_what_may_pass_is_asked_again_after_a_growing_random_delay(
    booted: Booted, status: int, code: str
) -> None:
    booted.script(*[lambda _: aws_error(status, code)] * (ATTEMPTS - 1))
    assert (await booted.open()).secret == FIRST_SECRET
    assert booted.delays == [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0)]
    assert booted.lines() == [
        *(
            {
                "event": "no vault secret from KMS",
                "operation": "GenerateDataKey",
                "attempt": attempt,
                "of": 5,
                "peer": "kms",
                "reason": "busy",
                "aws_code": code,
            }
            for attempt in range(1, ATTEMPTS)
        ),
        {"event": "vault opened", "operation": "GenerateDataKey", "attempt": ATTEMPTS},
    ]


async def test_after_five_attempts_the_last_reason_is_told(booted: Booted) -> None:
    booted.script(*[lambda _: aws_error(400, "ThrottlingException", "Rate exceeded")] * 4, lambda _: aws_error(503, ""))
    said = await booted.refused()
    assert said.startswith("no vault secret: GenerateDataKey, attempt 5 of 5: kms: cannot answer now (HTTP 503")
    assert len(booted.host.kms.calls) == ATTEMPTS
    await booted.works_again()


@pytest.mark.parametrize("position", [3, 400, 800, -2])
async def test_a_connection_that_breaks_costs_one_attempt(booted: Booted, position: int) -> None:
    await booted.open()
    whole = booted.host.wires[0].carried
    booted.host.cut_at = position % whole
    assert "connection to KMS broke" in await booted.refused()
    assert [line["reason"] for line in booted.lines()[1:]] == ["connection_broken"] * ATTEMPTS
    booted.host.cut_at = None
    await booted.works_again()


EXPIRED = "Signature expired: 20261120T214011Z is now earlier than 20261120T221011Z (20261120T221511Z - 5 min.)"
REFUSED = {
    "credentials expired": (
        "ExpiredTokenException",
        "",
        "credentials",
        "host: the host's AWS credentials have expired",
    ),
    "clock skewed": (
        "InvalidSignatureException",
        EXPIRED,
        "clock",
        "host: the host's clock is more than five minutes off",
    ),
    "signature wrong": ("InvalidSignatureException", "", "authorization", "host: the host's signature is wrong"),
    "credentials unknown": ("UnrecognizedClientException", "", "credentials", "host: AWS does not know the host's"),
    "sealed for another log": ("InvalidCiphertextException", "", "refused", "host: what the host stored is damaged"),
    "key gone": ("NotFoundException", "", "refused", "kms: the key of the configuration does not exist"),
}


@pytest.mark.parametrize(("code", "message", "reason", "said"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_somebody_has_to_mend_is_not_asked_again(
    booted: Booted, code: str, message: str, reason: str, said: str
) -> None:
    booted.script(lambda _: aws_error(400, code, message))
    assert said in await booted.refused()
    (line,) = booted.lines()
    assert (line["attempt"], line["reason"], line["aws_code"]) == (1, reason, code)
    await booted.works_again()


async def test_a_denied_access_names_our_own_measurements(booted: Booted) -> None:
    booted.script(
        lambda _: aws_error(400, "AccessDeniedException", "User: … is not authorized to perform: kms:Decrypt")
    )
    said = await booted.refused()
    configured = booted.nsm.describe_pcr(CONFIGURATION_PCR)[1]
    for index, value in {**SIMULATED_MEASUREMENTS, CONFIGURATION_PCR: configured}.items():
        assert f"PCR{index} {value.hex()}" in said
    await booted.works_again()


async def test_a_bridge_that_has_no_credentials_yet_is_asked_again(booted: Booted) -> None:
    booted.host.sign = lambda _: BridgeRefusal("no_credentials", "no role")
    assert "the bridge has no AWS credentials: give the host a role ('no role')" in await booted.refused()
    assert [line["reason"] for line in booted.lines()] == ["bridge_refused"] * ATTEMPTS
    booted.host.sign = sign
    await booted.works_again()


async def test_a_bridge_that_does_not_allow_the_endpoint_is_not(booted: Booted) -> None:
    booted.host.sign = lambda _: BridgeRefusal("endpoint_not_allowed", ENDPOINT)
    assert "does not allow the KMS endpoint" in await booted.refused()
    assert len(booted.host.asked) == 1
    booted.host.sign = sign
    await booted.works_again()


async def test_a_parent_that_does_not_listen_yet_is_asked_again(booted: Booted) -> None:
    booted.host.listens = False
    assert "nobody listens on port 5001" in await booted.refused()
    assert len(booted.delays) == ATTEMPTS - 1
    booted.host.listens = True
    await booted.works_again()


async def test_a_signature_for_something_else_is_not_sent_on(booted: Booted) -> None:
    def sign_for_another_service(_: object) -> SignedHeaders:
        signed = sign(booted.host.asked[-1], token=TOKEN)
        return msgspec.structs.replace(signed, authorization=signed.authorization.replace("/kms/", "/sts/"))

    booted.host.sign = sign_for_another_service
    assert "signed for service sts, not kms" in await booted.refused()
    assert booted.host.kms.calls == []
    booted.host.sign = sign
    await booted.works_again()


async def test_a_configuration_of_nitro_is_not_led_under_another_root(booted: Booted) -> None:
    """`parse_configuration` lets none through that names a root; the vault would not take it either."""
    vault = KmsVault(booted.nsm, booted.host)
    with pytest.raises(VaultError, match=r"nitro takes none but Amazon's"):
        await vault.open(msgspec.structs.replace(CONFIGURATION, platform="nitro"), b"")
    nitro = msgspec.structs.replace(configuration(root=""), platform="nitro")
    with pytest.raises(VaultError, match="certificate is not for"):
        await vault.open(nitro, b"")
    assert booted.host.kms.calls == []
