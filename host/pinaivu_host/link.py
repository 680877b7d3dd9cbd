"""Client of the enclave link: one connection at a time, opened again for ever, bounded in every direction.

A call never waits for a link that is down; it fails with CoordinatorUnavailableError, and so does every call in flight
when the connection breaks. Leaves that the enclave pushes go to the journal, and what the journal made durable is
acknowledged. A leaf that contradicts the journal ends the link for good, as a vault does that is lost or not the stored
one: two histories are for a person to look at.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from typing import Final, TypeVar

from pinaivu_host.errors import (
    CommandRefusedError,
    CoordinatorUnavailableError,
    JournalConflictError,
    VaultConflictError,
    VaultLostError,
)
from pinaivu_host.link_address import LinkAddress, open_link
from pinaivu_host.link_boot import boot
from pinaivu_host.link_connection import LinkConnection
from pinaivu_host.store.journal import Journal
from pinaivu_host.store.vault import SealedVault
from pinaivu_shared.errors import PeerError, PinaivuError
from pinaivu_shared.wire.link import AcknowledgeLeaves, HostCommand, LeafAppended, Push, Refused, Result

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")

MAX_CALLS_IN_FLIGHT: Final = 1024
ACKNOWLEDGE_PAUSE_S: Final = 0.05
"""From one acknowledgement to the next: the enclave signs a checkpoint for each, and no answer waits for it."""
FIRST_DELAY_S: Final = 0.05
LONGEST_DELAY_S: Final = 2.0
_chance: Final = random.SystemRandom()


class EnclaveLink:
    """The coordinator, as the rest of the host sees it."""

    def __init__(
        self,
        address: LinkAddress,
        *,
        journal: Journal,
        vault: SealedVault,
        configuration: bytes,
        on_new_enclave: Callable[[], None],
    ) -> None:
        self.instance: Final = secrets.token_hex(16)
        self._address, self._configuration = address, configuration
        self._journal, self._vault = journal, vault
        self._on_new_enclave = on_new_enclave
        self._slots = asyncio.Semaphore(MAX_CALLS_IN_FLIGHT)
        self._opened: LinkConnection | None = None
        self._serving = asyncio.Event()
        self._acknowledging = False
        self._unacknowledged = asyncio.Event()
        self._conflict: JournalConflictError | VaultConflictError | VaultLostError | None = None
        journal.on_durable = self._unacknowledged.set
        journal.on_conflict = self._end

    @property
    def ready(self) -> bool:
        """Whether an enclave has booted and answers."""
        return self._serving.is_set()

    async def wait_ready(self) -> None:
        """Return once `ready`."""
        await self._serving.wait()

    async def ask(self, command: HostCommand) -> Result:
        """One command, one answer.

        Raises CommandRefusedError when the enclave refuses it, CoordinatorUnavailableError when there is no enclave.
        """
        async with self._slots:
            if self._opened is None or not self.ready:
                raise CoordinatorUnavailableError("the coordinator is not available")
            result = await self._opened.ask(command)
        if isinstance(result, Refused):
            raise CommandRefusedError(result.code, result.detail)
        return result

    async def call(self, command: HostCommand, expected: type[_Result]) -> _Result:
        """As `ask`, for commands that have one kind of answer; any other breaks the connection."""
        result = await self.ask(command)
        if not isinstance(result, expected):
            self._drop()
            raise CoordinatorUnavailableError(f"the coordinator answered with {type(result).__name__}")
        return result

    async def run(self) -> None:
        """Keep a connection open until cancelled; return only after a conflict."""
        delay_s = FIRST_DELAY_S
        while self._conflict is None:
            try:
                if await self._hold_connection():
                    delay_s = FIRST_DELAY_S
            except (VaultConflictError, VaultLostError) as error:
                logger.error(  # noqa: TRY400 - the text says it all
                    "vault conflict: the link has ended and nothing was overwritten",
                    extra={"kv": {"code": error.code, "error": str(error)}},
                )
                self._conflict = error
                return
            except (OSError, PinaivuError) as error:
                logger.warning("enclave link down", extra={"kv": {"address": self._address.text, "error": str(error)}})
            await asyncio.sleep(delay_s * _chance.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    async def _hold_connection(self) -> bool:
        """Connect, boot, serve until the end; whether it got as far as serving."""
        reader, writer = await open_link(self._address)
        connection = LinkConnection(
            reader, writer, on_push=self._store, room=self._journal.room, on_close=self._serving.clear
        )
        self._opened = connection
        tasks = [asyncio.create_task(connection.run()), asyncio.create_task(self._acknowledge(connection))]
        try:
            fresh = await boot(connection, self)
            self._serving.set()
            logger.info("enclave link up", extra={"kv": {"address": self._address.text, "fresh": fresh}})
            if fresh:
                self._on_new_enclave()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return True
        finally:
            self._serving.clear()
            self._acknowledging = False
            self._opened = None
            connection.close()
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    logger.warning("enclave link broke", extra={"kv": {"error": str(outcome)}})

    @property
    def configuration(self) -> bytes:
        """The canonical bytes that a new enclave is given."""
        return self._configuration

    @property
    def journal(self) -> Journal:
        """What is pushed goes here, and what a new enclave resumes from comes from here."""
        return self._journal

    @property
    def vault(self) -> SealedVault:
        """Where the sealed vault is kept."""
        return self._vault

    def start_acknowledging(self) -> None:
        """From now on the enclave at the other end knows every leaf of the journal."""
        self._acknowledging = True

    def acknowledge_now(self) -> None:
        """Say once more what is durable: an acknowledgement may have been lost with the last connection."""
        self._unacknowledged.set()

    def _store(self, push: Push) -> None:
        if isinstance(push, LeafAppended):
            self._journal.append(push.index, push.leaf)
        else:
            self._journal.keep_checkpoint(push.size, push.checkpoint)

    async def _acknowledge(self, connection: LinkConnection) -> None:
        """Tell the enclave what is durable, always the newest size: at once, or after the pause since the last time."""
        while True:
            await self._unacknowledged.wait()
            self._unacknowledged.clear()
            if self._acknowledging:
                answer = await connection.ask(AcknowledgeLeaves(self._journal.size))
                if isinstance(answer, Refused):
                    raise PeerError("enclave", f"refused an acknowledgement: {answer.code}")
                await asyncio.sleep(ACKNOWLEDGE_PAUSE_S)

    def _end(self, conflict: JournalConflictError) -> None:
        logger.error(
            "journal conflict: the link has ended and nothing was overwritten",
            extra={"kv": {"index": conflict.index, "stored": conflict.stored, "pushed": conflict.pushed}},
        )
        self._conflict = conflict
        self._drop()

    def _drop(self) -> None:
        if self._opened is not None:
            self._opened.close()
