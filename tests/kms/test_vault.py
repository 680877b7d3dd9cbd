"""The vault secret comes from KMS to this enclave alone, or does not come; the host reads all that is said."""

import base64
import datetime as dt
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from pinaivu_enclave.kms.vault import ATTEMPTS, RECIPIENT_PURPOSE, KmsVault
from pinaivu_enclave.vault import OpenedVault, VaultError
from pinaivu_shared.attestation.policy import CONFIGURATION_PCR
from pinaivu_shared.wire.kms import BridgeRefusal, SignedHeaders
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS, SimulatedNsm
from pinaivu_simulator.pki import SimulatedPki

from .authority import Authority
from .envelopes import seal_envelope
from .lab import (
    ENDPOINT,
    KEY_ARN,
    TRUSTED,
    Answer,
    Call,
    Host,
    aws_error,
    configuration,
    everything_in,
    http,
    running_host,
    sign,
)

pytestmark = pytest.mark.trio

CONFIGURATION = configuration()
START_MS = 1_795_000_000_000
PKI = SimulatedPki.create(now=dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC), entropy=random.Random(1).randbytes)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048).public_key()
TOKEN = "session-token-of-the-host"
FIRST_SECRET = b"\x01" * 32


@dataclass
class Booted:
    """A vault in an enclave whose configuration is measured, its host, and the delays that chance was asked for."""

    host: Host
    nsm: SimulatedNsm
    log: pytest.LogCaptureFixture
    delays: list[tuple[float, float]] = field(default_factory=list)

    async def open(self, sealed: bytes = b"") -> OpenedVault:
        return await KmsVault(self.nsm, self.host, draw=self._draw).open(CONFIGURATION, sealed)

    async def refused(self, sealed: bytes = b"") -> str:
        """What the host is told. Neither that nor the log holds a secret, a token or a signature."""
        with pytest.raises(VaultError) as caught:
            await self.open(sealed)
        told = " ".join([*everything_in(caught.value), *(json.dumps(kv) for kv in self.lines())])
        for secret in self.host.kms.secrets.values():
            for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
                assert form not in told
        assert TOKEN not in told
        assert "Signature=" not in told
        return str(caught.value)

    def lines(self) -> list[dict[str, object]]:
        """The keys and values of every line logged."""
        return [{"event": record.getMessage(), **record.__dict__["kv"]} for record in self.log.records]

    def script(self, *answers: Answer) -> None:
        self.host.kms.script[:] = answers

    async def works_again(self) -> None:
        """The vault is none the worse for what happened."""
        self.host.kms.script.clear()
        opened = await self.open()
        assert opened.secret == self.host.kms.secrets[opened.sealed]

    def _draw(self, low: float, high: float) -> float:
        self.delays.append((low, high))
        return 0.0


@pytest.fixture
async def booted(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Booted]:
    nsm = SimulatedNsm(PKI, now_ms=lambda: START_MS, entropy=random.Random(2).randbytes)
    nsm.extend_pcr(CONFIGURATION_PCR, bytes(48))
    nsm.lock_pcrs(32)
    caplog.set_level(logging.DEBUG, logger="pinaivu_enclave")
    async with running_host() as host:
        host.sign = lambda asked: sign(asked, token=TOKEN)
        yield Booted(host, nsm, caplog)


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
