"""The folder of a node that runs or ran here, and what its operator's commands take from it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pinaivu_node.keys import KEY_FILE, load_identity, make_folder
from pinaivu_node.settings import default_data_dir
from pinaivu_node.status import NodeStatus, read_status
from pinaivu_shared.errors import CallerError

LOCK_FILE: Final = "lock"


class NodeFolder:
    """What `--data-dir` names, or where a node keeps its key unless told otherwise."""

    def __init__(self, data_dir: str, *, gateway: str = "") -> None:
        """`data_dir` and `gateway` as they were given, empty where not."""
        self.path = Path(data_dir) if data_dir else default_data_dir()
        self._gateway = gateway

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other nodes off this folder, which is made where it is not there; CallerError when one is on it.

        Two with one key would end each other's sessions.
        """
        make_folder(self.path)
        try:
            lock = (self.path / LOCK_FILE).open("wb")
        except OSError as error:
            raise CallerError(f"{self.path / LOCK_FILE}: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CallerError(
                    f"another node runs on {self.path}: stop it, or give this one a --data-dir of its own"
                ) from None
            yield

    def status(self) -> NodeStatus | None:
        """What the node wrote last, None where none ever did; UnreadableError for a file that is no status."""
        return read_status(self.path)

    def node_id(self) -> str:
        """Whose folder it is; CallerError where it has no key, which only running a node makes."""
        if not (self.path / KEY_FILE).exists():
            raise CallerError(f"{self.path}: no node has run on this folder; is it the right --data-dir?")
        return load_identity(self.path).node_id

    def gateway(self) -> str:
        """The gateway that was named, or else the one the node connected to last; CallerError where there is none."""
        status = None if self._gateway else self.status()
        if not self._gateway and status is None:
            raise CallerError("--gateway: name it, for no node has run on this folder that would say")
        return self._gateway or (status.gateway if status else "")
