"""An error as a caller gets it, in one JSON shape.

`{"error": {"message", "type", "param", "code"}, "request_id"}`, and `detail` beside `error` on 422. `message` is for
people; what else there is, and what each means, is in `error_table`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pinaivu_host.gateway.error_table import COORDINATOR_UNAVAILABLE, SHUTTING_DOWN, ErrorKind, Header

_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Detail:
    """One fault of a body: where (`loc` starts with "body"), what, and its stable type."""

    loc: Sequence[str | int]
    msg: str
    type: str


class ApiError(Exception):
    """An answer that is an error; `param` names the parameter at fault, `detail` goes with 422."""

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        param: str | None = None,
        detail: Sequence[Detail] = (),
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.param, self.detail = kind, message, param, detail
        self.headers = (*kind.headers, *headers)

    def body(self, request_id: str) -> bytes:
        """The JSON of an error response, and of an error event inside a stream."""
        shape: dict[str, Any] = {
            "error": {"message": self.message, "type": self.kind.type, "param": self.param, "code": self.kind.code},
            "request_id": request_id,
        }
        if self.kind.status == 422:
            shape["detail"] = self.detail or [Detail(("body",), self.message, self.kind.code)]
        return _encoder.encode(shape)


def shutting_down() -> ApiError:
    """For a request that comes, or is cut short, while this process ends."""
    return ApiError(SHUTTING_DOWN, "this gateway is shutting down, try again")


def coordinator_unavailable() -> ApiError:
    """For a request that needs the enclave, or the host's process, while there is none."""
    return ApiError(COORDINATOR_UNAVAILABLE, "the coordinator is not available right now, try again")
