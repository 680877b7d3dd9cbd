"""What a node says about itself in `status.json` of its data directory, for `pinaivu node status` and for monitoring.

The file is written whole under another name first, so that no reader finds half of it, and readable by its owner only.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from pinaivu_shared.canonical import Hex32
from pinaivu_shared.errors import UnreadableError
from pinaivu_shared.evidence_files import read_file
from pinaivu_shared.ids import NodeId
from pinaivu_shared.terms import NodeReport

FILE: Final = "status.json"
MAX_STATUS_BYTES: Final = 4 * 1024 * 1024
WRITE_SECONDS: Final = 10
"""So often it is written at least, while the node runs."""
PAUSE_SECONDS: Final = 1
"""Between two writings, and between two reports: by then the enclave has settled the job that was the occasion."""
STALE_MS: Final = 3 * WRITE_SECONDS * 1000

State = Literal["connecting", "connected", "waiting", "draining", "stopped"]
logger = logging.getLogger(__name__)


class EngineStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine: what it is, the models that it has ready, none while it is not, and why some are not quoted.

    `capabilities` is what each ready model can do.
    """

    engine: str
    ready: tuple[str, ...]
    unquoted: Mapping[str, str] = {}
    capabilities: Mapping[str, tuple[str, ...]] = {}


class HeardReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last report of the enclave that the node verified.

    `signature` (hex of DER) is over `pinaivu/node-report/v1` NUL and the report's canonical bytes, by the receipt key
    whose SHA-256 is `coordinator_key`.
    """

    report: NodeReport
    signature: str
    coordinator_key: Hex32
    heard_ms: int


class NodeStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the node is at `written_ms` of its own clock. `detail` says why it waits, `since_ms` since when it does.

    `session` is empty while there is none.
    """

    version: Literal[1] = 1
    node_id: NodeId
    operator: str
    gateway: str
    agent: str
    written_ms: int
    state: State
    since_ms: int
    detail: str
    session: Annotated[str, msgspec.Meta(pattern=r"\A(ses_[0-9a-f]{32})?\Z")]
    jobs_running: Annotated[int, msgspec.Meta(ge=0)]
    engines: tuple[EngineStatus, ...]
    heard: HeardReport | None

    def is_stale(self, now_ms: int) -> bool:
        """Whether a node that still ran would have written again."""
        return self.state != "stopped" and now_ms - self.written_ms > STALE_MS


def beginning(*, node_id: str, operator: str, gateway: str, agent: str, now_ms: int) -> NodeStatus:
    """The status of a node that has just been started."""
    return NodeStatus(
        node_id=node_id,
        operator=operator,
        gateway=gateway,
        agent=agent,
        written_ms=now_ms,
        state="connecting",
        since_ms=now_ms,
        detail="",
        session="",
        jobs_running=0,
        engines=(),
        heard=None,
    )


class StatusFile:
    """Writes the file. A full disk costs the status, never the node."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE

    def write(self, status: NodeStatus) -> None:
        """Replace what was there."""
        fresh = self._path.with_name(f"{FILE}.{os.getpid()}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(status) + b"\n")
            fresh.replace(self._path)
        except OSError as error:
            logger.warning("status not written", extra={"kv": {"detail": str(error)}})


def read_status(data_dir: Path) -> NodeStatus | None:
    """What the node wrote last, None where none ever did; UnreadableError for a file that is no status."""
    path = data_dir / FILE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_file(path, MAX_STATUS_BYTES), type=NodeStatus)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"{path}: no status of this version: {error}") from error
