"""The simulated KMS: one request in, one answer out (AWS KMS API Reference; nitro.md D.1, D.4).

1. a scripted fault, if one is due          5. the recipient's attestation document
2. the caller's signature                   6. the key policy
3. the request's form                       7. the key store (moto)
4. the key that it names                    8. an envelope for the recipient

Of KMS there are GenerateDataKey and Decrypt, and those for a recipient only: no answer has a plaintext in it.
"""

import base64
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, assert_never

import msgspec

from pinaivu_shared.attestation.policy import WrongMeasurementError
from pinaivu_shared.errors import CallerError
from pinaivu_simulator.kms.envelope import EnvelopeForm, seal_for_recipient
from pinaivu_simulator.kms.fault import KmsFault
from pinaivu_simulator.kms.judge import Judge
from pinaivu_simulator.kms.policy import Decision, KeyPolicy, decide, request_facts
from pinaivu_simulator.kms.recipient import AttestedRecipient, Recipient, judge_recipient
from pinaivu_simulator.kms.sigv4 import Credentials, authenticate
from pinaivu_simulator.kms.store import KeyStore

logger = logging.getLogger(__name__)


class _KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal", kw_only=True):
    """What both requests have. Members of the API that are not here are refused, as we would not act on them."""

    key_id: str
    encryption_context: dict[str, str] = {}
    recipient: Recipient | None = None


class GenerateDataKey(_KeyRequest, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """A fresh data key of 32 bytes."""

    key_spec: Literal["AES_256"]


class Decrypt(_KeyRequest, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """What a ciphertext was made from."""

    ciphertext_blob: Annotated[bytes, msgspec.Meta(min_length=1, max_length=6144)]
    encryption_algorithm: Literal["SYMMETRIC_DEFAULT"] = "SYMMETRIC_DEFAULT"


_REQUESTS: Final[Mapping[str, type[GenerateDataKey | Decrypt]]] = {
    "TrentService.GenerateDataKey": GenerateDataKey,
    "TrentService.Decrypt": Decrypt,
}
_WHY: Final[Mapping[Decision, str]] = {
    "denied": "with an explicit deny in a resource-based policy",
    "not allowed": "because no resource-based policy allows the {action} action",
}


@dataclass(frozen=True)
class KmsAnswer:
    """HTTP status and JSON body."""

    status: int
    body: bytes


class KmsService:
    """KMS with one key.

    `policy` is asked anew for every request, as the key's owner may have put another in place. `faults` gives what
    the next requests are answered with instead, None where nothing is wrong; when it ends, nothing is wrong any more.
    """

    def __init__(  # noqa: PLR0913  the parts of a service, each replaced by some test
        self,
        *,
        key_arn: str,
        store: KeyStore,
        credentials: Mapping[str, Credentials],
        policy: Callable[[], KeyPolicy],
        judge: Judge,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        faults: Iterator[KmsFault | None] | None = None,
        form: EnvelopeForm = "constructed",
    ) -> None:
        self.key_arn, self._store, self._credentials = key_arn, store, credentials
        self._policy, self._judge, self._entropy = policy, judge, entropy
        self._faults, self._form = faults or iter(()), form

    def answer(self, headers: Mapping[str, str], body: bytes, now_ms: int) -> KmsAnswer:
        """Answer a `POST /`: header names in lowercase, `now_ms` Unix time in milliseconds."""
        target = headers.get("x-amz-target", "")
        try:
            made = self._answer(headers, target, body, now_ms)
        except KmsFault as fault:
            logger.warning("kms refused", extra={"kv": {"target": target, "code": fault.code, "why": fault.message}})
            return KmsAnswer(fault.status, fault.body)
        logger.info("kms answered", extra={"kv": {"target": target}})
        return KmsAnswer(200, msgspec.json.encode(made))

    def _answer(self, headers: Mapping[str, str], target: str, body: bytes, now_ms: int) -> dict[str, str]:
        fault = next(self._faults, None)
        if fault is not None:
            raise fault
        region = self.key_arn.split(":")[3]
        principal = authenticate(headers, body, known=self._credentials, region=region, now_ms=now_ms)
        request = _parsed(target, body)
        if request.key_id not in (self.key_arn, self.key_arn.rpartition("/")[2]):
            raise KmsFault("NotFoundException", f"Key '{request.key_id}' does not exist")
        recipient = self._authorised(principal, request, now_ms)
        match request:
            case GenerateDataKey():
                made = self._store.generate(request.encryption_context)
                envelope = self._sealed(made.plaintext, recipient)
                return {"CiphertextBlob": _base64(made.ciphertext), "KeyId": self.key_arn} | envelope
            case Decrypt():
                plaintext = self._store.decrypt(request.ciphertext_blob, request.encryption_context)
                envelope = self._sealed(plaintext, recipient)
                return {"KeyId": self.key_arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"} | envelope
            case _:
                assert_never(request)

    def _authorised(self, principal: str, request: GenerateDataKey | Decrypt, now_ms: int) -> AttestedRecipient:
        """The recipient, once the key policy lets it in. A request without one may do nothing here."""
        action = f"kms:{type(request).__name__}"
        try:
            asked = request.recipient
            recipient = None if asked is None else judge_recipient(asked, self._judge, now_ms=now_ms)
            facts = request_facts(recipient.attested.pcrs if recipient else {}, request.encryption_context)
            decision = decide(self._policy(), principal=principal, action=action, facts=facts)
        except WrongMeasurementError as error:
            logger.warning("image refused", extra={"kv": {"check": error.check, "detail": error.detail}})
            recipient, decision = None, "not allowed"
        except CallerError as error:
            logger.error("key policy unusable: it lets nobody in", extra={"kv": {"detail": str(error)}})  # noqa: TRY400
            recipient, decision = None, "not allowed"
        if decision != "allowed":
            why = _WHY[decision].format(action=action)
            message = f"User: {principal} is not authorized to perform: {action} on resource: {self.key_arn} {why}"
            raise KmsFault("AccessDeniedException", message)
        if recipient is None:
            raise KmsFault("ValidationException", "Recipient is missing, and this KMS gives plaintext to nobody")
        return recipient

    def _sealed(self, plaintext: bytes, recipient: AttestedRecipient) -> dict[str, str]:
        envelope = seal_for_recipient(plaintext, recipient.key, entropy=self._entropy, form=self._form)
        return {"CiphertextForRecipient": _base64(envelope)}


def _parsed(target: str, body: bytes) -> GenerateDataKey | Decrypt:
    shape: Any = _REQUESTS.get(target)
    if shape is None:
        raise KmsFault("UnknownOperationException")
    try:
        request: GenerateDataKey | Decrypt = msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise KmsFault("ValidationException", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KmsFault("SerializationException", str(error)) from error
    return request


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
