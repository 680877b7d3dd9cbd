"""Where the enclave listens: `unix:PATH`, or `vsock:CID:PORT` on a Nitro parent instance."""

import asyncio
import socket
from dataclasses import dataclass

from pinaivu_shared.errors import CallerError

CONNECT_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address family and what `connect` takes for it."""

    text: str
    family: int
    place: str | tuple[int, int]


def parse_address(text: str) -> LinkAddress:
    """Read an enclave address; CallerError for anything but the two forms."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return LinkAddress(text, socket.AF_UNIX, rest)
    context, _, port = rest.partition(":")
    if kind == "vsock" and context.isdecimal() and port.isdecimal():
        return LinkAddress(text, socket.AF_VSOCK, (int(context), int(port)))
    raise CallerError(f"{text[:100]!r} is no enclave address: unix:PATH or vsock:CID:PORT")


async def open_link(address: LinkAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect; OSError (TimeoutError included) when nobody listens.

    The event loops resolve vsock addresses as if they were internet ones, so the connect itself happens in a thread.
    """
    link = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        link.settimeout(CONNECT_LIMIT_S)
        await asyncio.to_thread(link.connect, address.place)
        link.settimeout(0)
        return await asyncio.open_connection(sock=link)
    except BaseException:
        link.close()
        raise
