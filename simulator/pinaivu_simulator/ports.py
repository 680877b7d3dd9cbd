"""TCP ports of this machine."""

import socket
from typing import Final

PORT_MAX: Final = 65_535


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
