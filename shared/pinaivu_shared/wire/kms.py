"""The KMS bridge: how an enclave reaches KMS through a parent that must not be able to choose its secret.

The enclave connects to the parent's KMS_PORT, once for each request. It sends one frame, `SignRequest`; the parent
answers with one frame, `SignedHeaders` or `BridgeRefusal`. After `SignedHeaders` the connection is a pipe of bytes to
the regional KMS endpoint, through which the enclave speaks TLS; the parent sees neither request nor answer. Frames are
a 4-byte big-endian length and that many bytes of msgpack, at most MAX_BRIDGE_FRAME_BYTES.
"""

from typing import Annotated, Final, Literal

import msgspec

MAX_BRIDGE_FRAME_BYTES: Final = 16 * 1024
KMS_CONTENT_TYPE: Final = "application/x-amz-json-1.1"
KMS_SERVICE: Final = "kms"
SIGNED_HEADERS: Final = ("content-type", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-target")
"""What every signature must cover, and `x-amz-security-token` where there is one (AWS Signature Version 4)."""

Target = Literal["TrentService.GenerateDataKey", "TrentService.Decrypt"]
RefusalCode = Literal["no_credentials", "endpoint_unreachable", "endpoint_not_allowed"]


class SignRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Enclave: sign a POST to `/` of this endpoint for service kms.

    Headers are those of SIGNED_HEADERS: `content-type` KMS_CONTENT_TYPE, `host` the endpoint, `x-amz-target` the
    target, `x-amz-content-sha256` the body's SHA-256 in lowercase hex, `x-amz-date` as the parent chooses.
    """

    endpoint: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9.-]{1,253}\Z")]
    region: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,64}\Z")]
    target: Target
    body_sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class SignedHeaders(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Parent: values of the headers that it chose. `security_token` is empty for credentials without one."""

    authorization: Annotated[str, msgspec.Meta(pattern=r"\A[!-~]([ -~]{0,2046}[!-~])?\Z")]
    amz_date: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{8}T[0-9]{6}Z\Z")]
    security_token: Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{0,8192}\Z")]


class BridgeRefusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Parent: no pipe. `no_credentials` and `endpoint_unreachable` may pass, `endpoint_not_allowed` will not."""

    code: RefusalCode
    detail: Annotated[str, msgspec.Meta(max_length=1024)]


BridgeAnswer = SignedHeaders | BridgeRefusal
