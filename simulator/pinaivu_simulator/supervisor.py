"""Keeps the parts of a network running: starts them, starts again what died, ends them in order."""

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

RESTART_SECONDS_MIN: Final = 0.2
RESTART_SECONDS_MAX: Final = 5.0
HEALTHY_SECONDS: Final = 10.0

logger = logging.getLogger(__name__)


class Part:
    """One program of the network, as `pinaivu <arguments>`, in our environment unless it has its own.

    It inherits the file descriptor `held`; what it prints on stdout is for programs and goes nowhere.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        stop_seconds: float,
        held: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.stop_seconds, self._held = name, stop_seconds, held
        self._command = [sys.executable, "-m", "pinaivu_shared.command", *arguments]
        self._environment = environment
        self._process: trio.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Of the process now running, or of the last one."""
        return self._process.pid if self._process else 0

    async def supervise(self, changed: Callable[[], None]) -> None:
        """Run until told to stop; `changed` is called after every start, when the process id is new."""
        pause = RESTART_SECONDS_MIN
        while not self._stopping:
            started = trio.current_time()
            # A process group of its own keeps the terminal's Ctrl-C from it: we end the parts in order.
            self._process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(self._held,),
                env=self._environment,
            )
            changed()
            status = await self._process.wait()
            if self._stopping:
                return
            pause = RESTART_SECONDS_MIN if trio.current_time() - started > HEALTHY_SECONDS else pause
            logger.warning("part ended, starting it again", extra={"kv": {"part": self.name, "status": status}})
            await trio.sleep(pause)
            pause = min(2 * pause, RESTART_SECONDS_MAX)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if it has not ended in time."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        with trio.move_on_after(self.stop_seconds) as patience:
            await self._process.wait()
        if patience.cancelled_caught:
            logger.warning("part killed", extra={"kv": {"part": self.name}})
            self._process.kill()
            await self._process.wait()


async def run_once(arguments: Sequence[str]) -> str:
    """Run `pinaivu <arguments>` to its end and return its stdout; CalledProcessError when it fails."""
    ended = await trio.run_process(
        [sys.executable, "-m", "pinaivu_shared.command", *arguments], capture_stdout=True, stdin=subprocess.DEVNULL
    )
    return ended.stdout.decode()
