"""Where the enclave listens: `unix:PATH`, `vsock:CID:PORT` on a Nitro parent instance, or `hybrid:PATH:PORT`.

Behind the last is a multiplexer (Firecracker, vhost-device-vsock): one Unix socket for all ports of a guest, on which
the host says `CONNECT <port>` and is told `OK <n>`. While nobody listens in the guest the connection just closes.
"""

import asyncio
import re
import socket
from dataclasses import dataclass
from typing import Final

from pinaivu_host.streams import Stream, open_stream
from pinaivu_shared.errors import CallerError

CONNECT_LIMIT_S: Final = 5.0
GREETING_BYTES_MAX: Final = 32
VSOCK_NUMBER_MAX: Final = 2**32 - 2
"""The last number of 32 bits means "any"."""

_GREETING: Final = re.compile(rb"OK [0-9]{1,10}\n")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address family and what `connect` takes for it; `guest_port` is asked of a multiplexer behind it."""

    text: str
    family: int
    place: str | tuple[int, int]
    guest_port: int | None = None

    @property
    def cid(self) -> int | None:
        """The enclave's number on vsock, None where the address does not say it."""
        return self.place[0] if isinstance(self.place, tuple) else None


def parse_address(text: str) -> LinkAddress:
    """Read an enclave address; CallerError for anything but the three forms."""
    kind, _, rest = text.partition(":")
    place, _, port_text = rest.rpartition(":")
    port = vsock_number(port_text)
    match kind:
        case "unix" if rest:
            return LinkAddress(text, socket.AF_UNIX, rest)
        case "vsock" if port is not None and (cid := vsock_number(place)) is not None:
            return LinkAddress(text, socket.AF_VSOCK, (cid, port))
        case "hybrid" if port is not None and place:
            return LinkAddress(text, socket.AF_UNIX, place, port)
        case _:
            raise CallerError(f"{text[:100]!r} is no enclave address: unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT")


def vsock_number(text: str) -> int | None:
    """A CID or port; None for anything else."""
    if _NUMBER.fullmatch(text) is None or int(text) > VSOCK_NUMBER_MAX:
        return None
    return int(text)


async def open_link(address: LinkAddress) -> Stream:
    """Connect; OSError (TimeoutError included) when nobody listens.

    The event loops resolve vsock addresses as if they were internet ones, so the connect itself happens in a thread.
    """
    link = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        link.settimeout(CONNECT_LIMIT_S)
        await asyncio.to_thread(_connect, link, address)
        return await open_stream(link)
    except BaseException:
        link.close()
        raise


def _connect(link: socket.socket, address: LinkAddress) -> None:
    link.connect(address.place)
    if address.guest_port is None:
        return
    link.sendall(b"CONNECT %d\n" % address.guest_port)
    greeting = b""
    while not greeting.endswith(b"\n") and len(greeting) < GREETING_BYTES_MAX:
        received = link.recv(1)  # what follows the newline belongs to the enclave
        if not received:
            raise ConnectionRefusedError(f"nobody listens on port {address.guest_port} of the enclave")
        greeting += received
    if _GREETING.fullmatch(greeting) is None:
        raise ConnectionAbortedError(f"the multiplexer answered {greeting!r} to CONNECT")
