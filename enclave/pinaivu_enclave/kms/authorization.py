"""The host's signature for a request (AWS Signature Version 4): judged, then put between headers of our own.

The host chooses the credentials and the date, and nothing else. What it answers is taken apart and put together again
from parts of known shape, so that no header of its making reaches the encrypted connection.
"""

import re
from typing import Final, NoReturn, assert_never

import msgspec

from pinaivu_enclave.kms.failure import AttemptError
from pinaivu_shared.wire.kms import (
    KMS_CONTENT_TYPE,
    KMS_SERVICE,
    SIGNED_HEADERS,
    BridgeAnswer,
    BridgeRefusal,
    SignedHeaders,
    SignRequest,
)

Header = tuple[bytes, bytes]

_ALGORITHM: Final = "AWS4-HMAC-SHA256 "
_PARTS: Final = re.compile(
    r"Credential=(?P<access_key>[A-Za-z0-9_-]{1,128})"
    r"/(?P<date>[0-9]{8})/(?P<region>[a-z0-9-]{1,64})/(?P<service>[a-z0-9-]{1,64})/aws4_request, "
    r"SignedHeaders=(?P<headers>[a-z0-9;-]{1,512}), "
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_decoder: msgspec.msgpack.Decoder[BridgeAnswer] = msgspec.msgpack.Decoder(BridgeAnswer)


def judge_answer(payload: bytes, asked: SignRequest) -> list[Header]:
    """The bridge's answer frame to `asked`, as the headers to send but for those of HTTP's own framing.

    AttemptError, by the host: "bridge_refused", "bridge_protocol" for other bytes, "authorization" where the signature
    is not one over `asked`.
    """
    try:
        answer = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AttemptError(
            "host", "bridge_protocol", f"not an answer of the bridge: {error}", may_pass=False
        ) from error
    if isinstance(answer, BridgeRefusal):
        raise _refused(answer)
    headers = {
        "content-type": KMS_CONTENT_TYPE,
        "host": asked.endpoint,
        "x-amz-content-sha256": asked.body_sha256,
        "x-amz-date": answer.amz_date,
        "x-amz-target": asked.target,
    }
    assert tuple(headers) == SIGNED_HEADERS
    if answer.security_token:
        headers["x-amz-security-token"] = answer.security_token
    headers["authorization"] = _authorization(answer, asked, signed=";".join(sorted(headers)))
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _authorization(answer: SignedHeaders, asked: SignRequest, *, signed: str) -> str:
    if not answer.authorization.startswith(_ALGORITHM):
        _refuse(f"the algorithm is not {_ALGORITHM.strip()}")
    parts = _PARTS.fullmatch(answer.authorization, len(_ALGORITHM))
    if parts is None:
        _refuse("not of the form Credential=…/date/region/service/aws4_request, SignedHeaders=…, Signature=…")
    if parts["date"] != answer.amz_date[:8]:
        _refuse("the credential's date is not that of x-amz-date")
    if parts["region"] != asked.region:
        _refuse(f"signed for region {parts['region']}, not {asked.region}")
    if parts["service"] != KMS_SERVICE:
        _refuse(f"signed for service {parts['service']}, not {KMS_SERVICE}")
    if parts["headers"] != signed:
        _refuse(f"signed the headers {parts['headers']}, not exactly {signed}, which are those that are sent")
    scope = f"{parts['date']}/{asked.region}/{KMS_SERVICE}/aws4_request"
    return (
        f"{_ALGORITHM}Credential={parts['access_key']}/{scope}, SignedHeaders={signed}, Signature={parts['signature']}"
    )


def _refused(answer: BridgeRefusal) -> AttemptError:
    match answer.code:
        case "no_credentials":
            detail = "the bridge has no AWS credentials: give the host a role"
        case "endpoint_unreachable":
            detail = "the bridge cannot reach the KMS endpoint"
        case "endpoint_not_allowed":
            detail = "the bridge does not allow the KMS endpoint of the configuration"
        case _:
            assert_never(answer.code)
    passing = answer.code != "endpoint_not_allowed"
    return AttemptError("host", "bridge_refused", f"{detail} ({answer.detail!a})", may_pass=passing)


def _refuse(detail: str) -> NoReturn:
    raise AttemptError("host", "authorization", f"no signature of the request: {detail}", may_pass=False)
