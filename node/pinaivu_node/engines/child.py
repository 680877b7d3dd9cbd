"""A child process that serves an engine: started from a fresh interpreter, found by the address that it prints.

It has a process group of its own, so that a terminal's Ctrl-C reaches the node only, and a standard input that ends
with the node, so that it cannot outlive it.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from pinaivu_node.engines.events import EngineError

START_SECONDS: Final = 60
_TERMINATION_SECONDS: Final = 2
_MAX_LINE_BYTES: Final = 4096


class _Greeting(msgspec.Struct):
    address: str


class Child(msgspec.Struct, frozen=True):
    """A running engine process and the URL it serves."""

    process: trio.Process
    address: str


@asynccontextmanager
async def running_child(module: str, arguments: Sequence[str], *, first_line: bytes = b"") -> AsyncIterator[Child]:
    """Run `python -m module arguments…`, hand it `first_line`, and wait until it prints its address.

    EngineError when it ends or takes longer than START_SECONDS. It is killed when the context is left.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with process.stdin, process.stdout:
            with trio.move_on_after(START_SECONDS) as deadline:
                address = await _greeted(process.stdin, process.stdout, first_line)
            if deadline.cancelled_caught:
                raise EngineError("engine_unavailable", f"{module} did not start within {START_SECONDS} s")
            yield Child(process, address)
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _greeted(stdin: trio.abc.SendStream, stdout: trio.abc.ReceiveStream, first_line: bytes) -> str:
    try:
        await stdin.send_all(first_line)
    except trio.BrokenResourceError:
        raise EngineError("engine_unavailable", "the engine's process ended before it started") from None
    line = b""
    while not line.endswith(b"\n"):
        chunk = await stdout.receive_some(_MAX_LINE_BYTES)
        line += chunk
        if not chunk or len(line) > _MAX_LINE_BYTES:
            raise EngineError("engine_unavailable", "the engine's process ended before it printed its address")
    try:
        return msgspec.json.decode(line, type=_Greeting).address
    except msgspec.DecodeError as error:
        raise EngineError("engine_unavailable", f"the engine's process printed something else: {error}") from error


async def _end(process: trio.Process) -> None:
    if process.poll() is None:
        process.terminate()
        with trio.move_on_after(_TERMINATION_SECONDS):
            await process.wait()
    if process.poll() is None:
        process.kill()
        await process.wait()
