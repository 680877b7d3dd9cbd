"""Starting workers, and starting again those that end by themselves."""

import asyncio
import contextlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from pinaivu_host.host import log_end
from pinaivu_host.workers.settings import WorkerSettings

logger = logging.getLogger(__name__)
AGAIN_S: Final = 1.0
"""How long a worker that ended by itself is waited for before the next one, so that a broken one costs little."""
END_LIMIT_S: Final = 15.0
"""How long a worker may take to end once nothing runs any more."""


class WorkerPool:
    """So many processes that serve on one inherited socket."""

    def __init__(self, count: int, settings: WorkerSettings) -> None:
        self._count, self._settings = count, settings
        self._ending = False
        self._processes: set[asyncio.subprocess.Process] = set()
        self._keepers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start them all."""
        self._keepers = [asyncio.create_task(self._keep(), name="a worker's keeper") for _ in range(self._count)]
        for keeper in self._keepers:
            keeper.add_done_callback(log_end)

    def signal(self, number: int) -> None:
        """Pass a signal on to each."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def end(self, number: int) -> None:
        """Have them end with this signal, now that nothing runs; after END_LIMIT_S they are killed."""
        self._ending = True
        self.signal(number)
        if self._keepers:
            _, slow = await asyncio.wait(self._keepers, timeout=END_LIMIT_S)
            for process in self._processes if slow else ():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self) -> None:
        while not self._ending:
            process = await self._spawn()
            code = await process.wait()
            self._processes.discard(process)
            if not self._ending:
                logger.error("a worker has ended, another is started", extra={"kv": {"code": code}})
                await asyncio.sleep(AGAIN_S)

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pinaivu_host.workers.worker",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(self._settings.listener,),
        )
        self._processes.add(process)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self._settings) + b"\n")
        return process


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for sockets that only this user can open."""
    return tempfile.TemporaryDirectory(prefix="pinaivu-host-")


def sockets_in(folder: str) -> tuple[Path, Path]:
    """The sockets of jobs and of HTTP."""
    return Path(folder) / "jobs.sock", Path(folder) / "http.sock"
