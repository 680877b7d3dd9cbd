"""Where the host listens for what the enclave dials: `vsock:PORT`, or `unix:PATH` behind a multiplexer."""

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinaivu_host.link_address import vsock_number
from pinaivu_shared.errors import CallerError

BACKLOG: Final = 64


@dataclass(frozen=True, slots=True)
class ListeningAddress:
    """An address family and what `bind` takes for it."""

    text: str
    family: int
    place: str | tuple[int, int]


def parse_listening_address(text: str) -> ListeningAddress:
    """Read an address to listen at; CallerError for anything but the two forms."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return ListeningAddress(text, socket.AF_UNIX, rest)
    port = vsock_number(rest)
    if kind == "vsock" and port is not None:
        return ListeningAddress(text, socket.AF_VSOCK, (socket.VMADDR_CID_ANY, port))
    raise CallerError(f"{text[:100]!r} is no address to listen at: unix:PATH or vsock:PORT")


def listen_at(address: ListeningAddress) -> socket.socket:
    """A listening socket that does not block; a Unix socket is for this user only, and replaces one left behind.

    CallerError when somebody else listens there or this machine has no such sockets.
    """
    try:
        listener = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:
        raise CallerError(f"cannot listen at {address.text}: {error.strerror}") from error
    try:
        _bind(listener, address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CallerError(f"cannot listen at {address.text}: {error.strerror or error}") from error
    listener.setblocking(False)  # noqa: FBT003 - its name says it
    return listener


def stop_listening(listener: socket.socket, address: ListeningAddress) -> None:
    """Close the listener and take its Unix socket away."""
    listener.close()
    if isinstance(address.place, str):
        Path(address.place).unlink(missing_ok=True)


def _bind(listener: socket.socket, address: ListeningAddress) -> None:
    if isinstance(address.place, str):
        _clear(Path(address.place))
    listener.bind(address.place)
    if isinstance(address.place, str):
        os.chmod(address.place, stat.S_IRUSR | stat.S_IWUSR)  # noqa: PTH101 - next to bind; nobody connects before listen


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on any more."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
