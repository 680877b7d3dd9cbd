"""Two streams joined: what comes out of one goes into the other, both ways, in bounded memory and not understood."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pinaivu_host.streams import BUFFER_BYTES, Stream


@dataclass(slots=True)
class Carried:
    """How many bytes went through, and how it ended."""

    outwards: int = 0
    inwards: int = 0
    end: Literal["closed", "broken", "idle"] = "closed"


async def join(inner: Stream, outer: Stream, *, idle_limit_s: float) -> Carried:
    """Carry bytes until both ends have said their last, one of them breaks, or nothing moved for the limit.

    The end of one direction is handed on and leaves the other open. Neither stream is closed here.
    """
    carried = Carried()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(idle_limit_s) as limit, asyncio.TaskGroup() as directions:

            def sent(size: int) -> None:
                carried.outwards += size
                limit.reschedule(loop.time() + idle_limit_s)

            def received(size: int) -> None:
                carried.inwards += size
                limit.reschedule(loop.time() + idle_limit_s)

            directions.create_task(_carry(inner[0], outer[1], sent))
            directions.create_task(_carry(outer[0], inner[1], received))
    except* TimeoutError:
        carried.end = "idle"
    except* OSError:
        carried.end = "broken"
    return carried


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, moved: Callable[[int], None]) -> None:
    sink.transport.set_write_buffer_limits(high=0)  # drained means that the kernel has it
    while chunk := await source.read(BUFFER_BYTES):
        _require_open(sink)
        sink.write(chunk)
        await sink.drain()
        moved(len(chunk))
    _require_open(sink)
    sink.write_eof()


def _require_open(sink: asyncio.StreamWriter) -> None:
    if sink.is_closing():
        raise ConnectionResetError("the other end is gone")
