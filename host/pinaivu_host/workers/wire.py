"""What a worker and the host say to each other: msgpack in length-prefixed frames, one connection for each request.

The worker begins with `Submit`. The host answers with `Begin` and then `Pieces`, each of which the worker acknowledges
once its caller has taken them, and ends with `Complete` or `Fail`; or it fails at once. After that, or when the worker
says that its caller `Left`, comes `Over`, and nothing more. Both are of one version, started together.
"""

import asyncio
from typing import Any, Final

import msgspec

from pinaivu_host.gateway.departure import Reason
from pinaivu_host.gateway.error_table import TABLE
from pinaivu_host.gateway.errors import ApiError, Detail
from pinaivu_host.gateway.parameter_names import ParameterNames
from pinaivu_shared.errors import PeerError
from pinaivu_shared.framing import PREFIX_BYTES, announced_bytes, frame
from pinaivu_shared.wire.link import OpenJob
from pinaivu_shared.wire.node import Delta

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
Headers = tuple[tuple[str, str], ...]


class WorkerMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all messages on this connection."""


class Submit(WorkerMessage, frozen=True):
    """Worker: run this for the holder of the key with this digest; `once` is (idempotency key, digest of the body)."""

    key_sha256: bytes
    command: OpenJob
    forwarded: bytes
    salt: bytes
    created_s: int
    stream: bool
    choices: int
    keeps_logprobs: bool
    names: ParameterNames
    once: tuple[str, bytes] | None


class Begin(WorkerMessage, frozen=True):
    """Host: the job whose answer follows, another's where a request is repeated; headers of the answer."""

    request_id: str
    salt: bytes
    created_s: int
    headers: Headers


class Pieces(WorkerMessage, frozen=True):
    """Host: more of the answer. Answered by `Taken`."""

    deltas: tuple[Delta, ...]


class Taken(WorkerMessage, frozen=True):
    """Worker: the caller's connection has accepted what came last."""


class Left(WorkerMessage, frozen=True):
    """Worker: the answer is wanted no more."""

    reason: Reason


class Complete(WorkerMessage, frozen=True):
    """Host: the answer is whole and paid; the receipt's canonical bytes. Answered by `Taken`."""

    receipt: bytes


class Fail(WorkerMessage, frozen=True):
    """Host: an error, by its row in `error_table.TABLE`. Answered by `Taken`."""

    row: int
    message: str
    param: str | None
    headers: Headers
    detail: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, error: ApiError) -> "Fail":
        """The message for an error."""
        own = error.headers[len(error.kind.headers) :]
        detail = tuple([{"loc": list(one.loc), "msg": one.msg, "type": one.type} for one in error.detail])
        return cls(TABLE.index(error.kind), error.message, error.param, own, detail)

    def error(self) -> ApiError:
        """The error of the message."""
        detail = [Detail(**one) for one in self.detail]
        return ApiError(TABLE[self.row], self.message, param=self.param, detail=detail, headers=self.headers)


class Over(WorkerMessage, frozen=True):
    """Host: that was all."""


class Answered(WorkerMessage, frozen=True):
    """Worker, on a connection of its own: this request was answered here, for the host's counts."""

    route: str
    status: int
    duration_s: float


FromWorker = Submit | Taken | Left | Answered
FromHost = Begin | Pieces | Complete | Fail | Over

_encoder: Final = msgspec.msgpack.Encoder()
_from_worker: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)
FROM_HOST: Final[msgspec.msgpack.Decoder[FromHost]] = msgspec.msgpack.Decoder(FromHost)


def encode(message: WorkerMessage) -> bytes:
    """One frame."""
    return frame(_encoder.encode(message), max_bytes=MAX_FRAME_BYTES)


async def hear_worker(reader: asyncio.StreamReader) -> FromWorker | None:
    """The next message of a worker, None at the end; PeerError for what is none."""
    raw = await read_frame(reader)
    try:
        return None if raw is None else _from_worker.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerError("worker", f"sent what is no message: {error}") from error


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame's payload, None at the end; PeerError for a frame beyond the bound."""
    try:
        prefix = await reader.readexactly(PREFIX_BYTES)
        return await reader.readexactly(announced_bytes(prefix, peer="worker", max_bytes=MAX_FRAME_BYTES))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
