"""What happens on each new connection to the enclave, until it serves (wire.link, "Boot").

A fresh enclave is configured, opens its vault and is given every stored leaf again; one that has served this log all
along only pushes what it does not know to be durable. An earlier boot that broke off starts over.
"""

from typing import Protocol, TypeVar

from pinaivu_host.errors import CommandRefusedError, CoordinatorUnavailableError, VaultLostError
from pinaivu_host.link_connection import LinkConnection
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.vault import SealedVault
from pinaivu_shared.errors import PeerError
from pinaivu_shared.wire.link import LINK_PROTOCOL, Done, HostCommand, Refused
from pinaivu_shared.wire.link_boot import (
    MAX_SEALED_VAULT_BYTES,
    RESUME_BATCH_BYTES,
    Configure,
    FinishResume,
    Introduce,
    Introduction,
    OpenVault,
    Resume,
    VaultOpened,
)

_Result = TypeVar("_Result")


class Booting(Protocol):
    """Who introduces itself, with which configuration, out of which journal and vault."""

    @property
    def instance(self) -> str: ...  # noqa: D102 - see EnclaveLink
    @property
    def configuration(self) -> bytes: ...  # noqa: D102
    @property
    def journal(self) -> Journal: ...  # noqa: D102
    @property
    def vault(self) -> SealedVault: ...  # noqa: D102

    def start_acknowledging(self) -> None: ...  # noqa: D102
    def acknowledge_now(self) -> None: ...  # noqa: D102


async def boot(connection: LinkConnection, host: Booting) -> bool:
    """Bring the enclave behind `connection` to serving; whether it had to be configured, and so is a new one.

    Raises CommandRefusedError, CoordinatorUnavailableError or PeerError; VaultConflictError and VaultLostError are for
    a person to look at.
    """
    await host.journal.flush()  # what an earlier enclave pushed belongs to the history that the next one gets
    introduction = await _call(connection, Introduce(host.instance, LINK_PROTOCOL), Introduction)
    if introduction.phase == "serving":
        if introduction.durable > host.journal.size:
            raise PeerError("enclave", f"has {introduction.durable} durable leaves, stored are {host.journal.size}")
        if introduction.size < host.journal.size:
            raise PeerError("enclave", f"serves {introduction.size} leaves, stored are {host.journal.size}")
        host.start_acknowledging()
        host.acknowledge_now()
        return False
    await _call(connection, Configure(host.configuration), Done)
    await _open_vault(connection, host)
    await _resume(connection, host.journal)
    host.start_acknowledging()
    await _call(connection, FinishResume(await host.journal.last_checkpoint()), Done)
    return True


async def _open_vault(connection: LinkConnection, host: Booting) -> None:
    """The vault of the log, or a new one for a log that begins. It is on disk before any leaf can depend on it."""
    begins = host.journal.size == 0
    stored = b"" if begins else await host.vault.load()
    if not stored and not begins:
        raise VaultLostError(host.vault.origin, host.journal.size)
    opened = await _call(connection, OpenVault(stored), VaultOpened)
    if not 0 < len(opened.sealed) <= MAX_SEALED_VAULT_BYTES:
        raise PeerError("enclave", f"sealed its vault as {len(opened.sealed)} bytes")
    await (host.vault.begin(opened.sealed) if begins else host.vault.keep(opened.sealed))


async def _resume(connection: LinkConnection, journal: Journal) -> None:
    start, end = 0, journal.size
    while start < end:
        leaves = await journal.read_leaves(start, max_bytes=RESUME_BATCH_BYTES)
        if not leaves:
            raise CoordinatorUnavailableError(f"leaf {start} of {end} cannot be read")
        await _call(connection, Resume(tuple(leaves)), Done)
        start += len(leaves)


async def _call(connection: LinkConnection, command: HostCommand, expected: type[_Result]) -> _Result:
    result = await connection.ask(command)
    if isinstance(result, Refused):
        raise CommandRefusedError(result.code, result.detail)
    if not isinstance(result, expected):
        raise PeerError("enclave", f"answered {type(command).__name__} with {type(result).__name__}")
    return result
