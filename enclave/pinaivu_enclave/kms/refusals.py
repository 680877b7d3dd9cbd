"""What KMS says when it refuses, and what that means to the person who has to mend it.

Codes are those of the AWS KMS API Reference and its common errors. Where KMS does not say what was wrong, we add what
we know: our own measurements, and whose clock or credentials a signature comes from.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from pinaivu_enclave.kms.failure import AttemptError, Peer, Reason

MAX_MESSAGE_CHARACTERS: Final = 512

_PASSING: Final = frozenset(
    ("DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "ThrottlingException")
)
_CODE: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")
_CLOCK_WORDS: Final = ("expired", "not yet current")  # "Signature expired: … is now earlier than …"

_MEANINGS: Final[Mapping[str, tuple[Peer, Reason, str]]] = {
    "ExpiredToken": ("host", "credentials", "the host's AWS credentials have expired: it must fetch new ones"),
    "UnrecognizedClient": ("host", "credentials", "AWS does not know the host's credentials, or its session token"),
    "InvalidClientTokenId": ("host", "credentials", "AWS does not know the host's credentials"),
    "IncompleteSignature": ("host", "authorization", "the host's signature is incomplete"),
    "MissingAuthenticationToken": ("host", "authorization", "the host's signature is missing"),
    "InvalidSignature": ("host", "authorization", "the host's signature is wrong: a wrong secret key, or another bug"),
    "RequestExpired": ("host", "clock", "the host's clock is more than five minutes off"),
    "AccessDenied": (
        "kms",
        "access_denied",
        "the key policy does not allow this enclave, or not the host's role; KMS does not say which. This enclave has",
    ),
    "InvalidCiphertext": ("host", "refused", "what the host stored is damaged, or the vault of another log"),
    "IncorrectKey": ("host", "refused", "what the host stored was sealed under another key"),
    "NotFound": ("kms", "refused", "the key of the configuration does not exist"),
    "Disabled": ("kms", "refused", "the key of the configuration is disabled"),
    "KMSInvalidState": ("kms", "refused", "the key of the configuration is pending deletion or import"),
    "InvalidKeyUsage": ("kms", "refused", "the key of the configuration is not for ENCRYPT_DECRYPT"),
}
"""Codes without "Exception", which AWS writes after some of them: who is to act, and what happened."""


class _Body(msgspec.Struct, frozen=True):
    code: str | None = msgspec.field(name="__type", default=None)
    message: str | None = None
    capital_message: str | None = msgspec.field(name="Message", default=None)


@dataclass(frozen=True, slots=True)
class AwsRefusal:
    """An answer with another status than 200. `code` is empty where the body gives none; `message` is printable."""

    status: int
    code: str
    message: str

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later (AWS KMS API Reference, errors of both operations)."""
        return self.status >= 500 or self.code in _PASSING


_decoder = msgspec.json.Decoder(_Body)


def read_refusal(status: int, body: bytes) -> AwsRefusal:
    """The refusal in an answer with this status. Any bytes give one: a broken refusal still is one."""
    try:
        read = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        read = _Body()
    code = (read.code or "").rpartition("#")[2]
    message = _UNPRINTABLE.sub(" ", read.message or read.capital_message or "")
    return AwsRefusal(status, code if _CODE.fullmatch(code) else "", message[:MAX_MESSAGE_CHARACTERS])


def explain(refusal: AwsRefusal, measurements: Mapping[int, bytes]) -> AttemptError:
    """The failed attempt that this refusal makes. `measurements` are our own PCRs, index -> 48 bytes."""
    said = f"HTTP {refusal.status}, {refusal.code or 'no code'}: {refusal.message or 'no message'}"
    if refusal.may_pass:
        return AttemptError("kms", "busy", f"cannot answer now ({said})", may_pass=True, aws_code=refusal.code)
    peer, reason, meaning = _meaning(refusal)
    if reason == "access_denied":
        meaning += "".join(f" PCR{index} {value.hex()}" for index, value in sorted(measurements.items()))
    return AttemptError(peer, reason, f"{meaning} ({said})", may_pass=False, aws_code=refusal.code)


def _meaning(refusal: AwsRefusal) -> tuple[Peer, Reason, str]:
    code = refusal.code.removesuffix("Exception")
    if code == "InvalidSignature" and any(words in refusal.message for words in _CLOCK_WORDS):
        code = "RequestExpired"
    return _MEANINGS.get(code, ("kms", "refused" if refusal.code else "http", "refused the request"))
