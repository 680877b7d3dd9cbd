"""What the operator decides of the gateway's edge to the internet, and the reading of it from flags."""

import ipaddress
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinaivu_host.certificate import ServerCertificate
from pinaivu_shared.errors import CallerError

CONNECTIONS_MAX: Final = 4096
HEAD_S: Final = 10.0
OTHER_FILES: Final = 256
"""Open files that are no connections of callers and nodes: the database's, the enclave's, the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """Without a certificate HTTP is served; headers of proxies are believed of the `trusted_proxies` only.

    `head_s` is how long a request's head may take, from its first byte, or from the start of the connection.
    """

    certificate: ServerCertificate | None = None
    trusted_proxies: tuple[str, ...] = ()
    connections_max: int = CONNECTIONS_MAX
    head_s: float = HEAD_S


def read_certificate(certificate: str, key: str) -> ServerCertificate | None:
    """The pair in two files, None without both flags; CallerError for one without the other, and for no pair."""
    if bool(certificate) != bool(key):
        raise CallerError("give both of --tls-certificate and --tls-key, or neither")
    return ServerCertificate(Path(certificate), Path(key)) if certificate else None


def parse_proxies(text: str) -> tuple[str, ...]:
    """Addresses and networks between commas; CallerError for anything else, such as a host's name or `*`."""
    return tuple(_network(item.strip()) for item in text.split(",")) if text else ()


def allow_connections(count: int) -> int:
    """Let this process open so many, which it returns; CallerError where the system does not let it."""
    needed = count + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count < 1:
        raise CallerError("--connections-max must be at least 1")
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise CallerError(
            f"--connections-max {count} takes {needed} open files, and this process may have {hard}: "
            "raise its limit (LimitNOFILE= in a unit, `ulimit -n` in a shell) or lower the flag"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return count


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise CallerError(f"--trusted-proxies: {text[:60]!r} is no address and no network such as 10.0.0.0/8") from None
