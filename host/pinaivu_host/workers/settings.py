"""What the host tells its workers as it starts them, over their standard input: an argument would show passwords."""

from pathlib import Path

import msgspec

from pinaivu_host.certificate import ServerCertificate
from pinaivu_host.edge import EdgeSettings


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`listener` is the number of the socket that a worker inherits; `jobs` and `http` are the host's own sockets."""

    listener: int
    jobs: str
    http: str
    database_url: str
    configuration: bytes
    max_body_bytes: int
    queue_ms: int
    cors_origins: tuple[str, ...]
    certificate: tuple[str, str] | None
    trusted_proxies: tuple[str, ...]
    connections_max: int
    log_level: str

    def edge(self) -> EdgeSettings:
        """The edge of one worker; CallerError for a certificate that cannot be used."""
        files = None if self.certificate is None else ServerCertificate(*map(Path, self.certificate))
        return EdgeSettings(
            certificate=files, trusted_proxies=self.trusted_proxies, connections_max=self.connections_max
        )
