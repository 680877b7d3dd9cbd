"""Who calls: AWS Signature Version 4 of a request to KMS, checked as AWS checks it (nitro.md D.5).

The signature is computed again by botocore, AWS's own signer. Stricter than AWS in one point: what must be signed is
all of `wire.kms.SIGNED_HEADERS`, since that is what our enclave compares.
"""

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from botocore import credentials as botocore_credentials
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from pinaivu_shared.wire.kms import KMS_SERVICE, SIGNED_HEADERS
from pinaivu_simulator.kms.fault import KmsFault

SKEW: Final = dt.timedelta(minutes=5)
TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<access_key>[^/, ]+)/(?P<day>[0-9]{8})/(?P<region>[^/, ]+)/(?P<service>[^/, ]+)"
    r"/aws4_request, ?SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_TIME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What AWS knows of an access key: whose it is, its secret, and of a session its token and end (Unix, ms)."""

    principal: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at_ms: int | None = None


def authenticate(
    headers: Mapping[str, str], body: bytes, *, known: Mapping[str, Credentials], region: str, now_ms: int
) -> str:
    """The principal that signed this `POST /`; KmsFault with AWS's code where nobody did, or not well.

    `headers` has lowercase names, `known` access key ids.
    """
    authorization = _authorization(headers)
    access_key, signed = authorization["access_key"], authorization["signed"].split(";")
    caller = _known_caller(access_key, headers, known, now_ms)
    if (authorization["region"], authorization["service"]) != (region, KMS_SERVICE):
        _invalid("Credential should be scoped to a valid region and to service kms.")
    _require_time(headers["x-amz-date"], authorization["day"], now_ms)
    _require_signed(signed, headers)
    expected = _signature({name: headers[name] for name in signed}, access_key, caller, region)
    intact = hmac.compare_digest(headers["x-amz-content-sha256"].encode(), hashlib.sha256(body).hexdigest().encode())
    if not hmac.compare_digest(expected, authorization["signature"]) or not intact:
        _invalid(_MISMATCH)
    return caller.principal


def _authorization(headers: Mapping[str, str]) -> re.Match[str]:
    if "authorization" not in headers:
        raise KmsFault("MissingAuthenticationTokenException", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(headers["authorization"])
    if found is None:
        detail = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters."
        raise KmsFault("IncompleteSignatureException", detail)
    if not _TIME.fullmatch(headers.get("x-amz-date", "")):
        detail = "Authorization header requires existence of a 'X-Amz-Date' header in ISO-8601 basic format."
        raise KmsFault("IncompleteSignatureException", detail)
    return found


def _known_caller(
    access_key: str, headers: Mapping[str, str], known: Mapping[str, Credentials], now_ms: int
) -> Credentials:
    caller = known.get(access_key)
    token = headers.get("x-amz-security-token", "")
    if caller is None or not hmac.compare_digest(token.encode(), (caller.session_token or "").encode()):
        raise KmsFault("UnrecognizedClientException", "The security token included in the request is invalid.")
    if caller.expires_at_ms is not None and now_ms >= caller.expires_at_ms:
        raise KmsFault("ExpiredTokenException", "The security token included in the request is expired")
    return caller


def _require_time(stamp: str, day: str, now_ms: int) -> None:
    try:
        signed_at = dt.datetime.strptime(stamp, TIME_FORMAT).replace(tzinfo=dt.UTC)
    except ValueError:
        _invalid(f"{stamp} is no date")
    if not stamp.startswith(day):
        _invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    earliest, latest = now - SKEW, now + SKEW
    if signed_at < earliest:
        shown = f"{earliest:{TIME_FORMAT}} ({now:{TIME_FORMAT}} - 5 min.)"
        _invalid(f"Signature expired: {stamp} is now earlier than {shown}")
    if signed_at > latest:
        shown = f"{latest:{TIME_FORMAT}} ({now:{TIME_FORMAT}} + 5 min.)"
        _invalid(f"Signature not yet current: {stamp} is still later than {shown}")


def _require_signed(signed: list[str], headers: Mapping[str, str]) -> None:
    """Every header that decides something is signed, each signed one is there, and their list is sorted."""
    for name in (*SIGNED_HEADERS, *(name for name in headers if name.startswith("x-amz-"))):
        if name not in signed:
            _invalid(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
    if signed != sorted(set(signed)) or not headers.keys() >= set(signed):
        _invalid(_MISMATCH)


def _signature(signed: Mapping[str, str], access_key: str, caller: Credentials, region: str) -> str:
    signer = SigV4Auth(botocore_credentials.Credentials(access_key, caller.secret), KMS_SERVICE, region)
    request = AWSRequest(method="POST", url="https://kms/", headers=dict(signed))  # `host` is one of the signed headers
    request.context["timestamp"] = signed["x-amz-date"]
    signature: str = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return signature


def _invalid(message: str) -> NoReturn:
    raise KmsFault("InvalidSignatureException", message)
