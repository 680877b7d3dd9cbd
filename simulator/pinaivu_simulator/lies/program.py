"""`pinaivu simulator lying-link`: sits where the host expects its enclave, and lies to the enclave in the host's name.

On stdout it prints one JSON object per line: `listening` once the host can connect, `connected` each time it was led
to the enclave, `lied` each time it did.
"""

import json
import logging
import random
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import trio

from pinaivu_shared.errors import CallerError
from pinaivu_simulator.enclave import listen
from pinaivu_simulator.lies.lie import Lie
from pinaivu_simulator.lies.line import InterceptedLine
from pinaivu_simulator.lies.table import LIES

logger = logging.getLogger(__name__)
LIST: Final = "list"
_UNIX: Final = "unix:"


def lie_sentences() -> str:
    """All lies by name, a line each."""
    width = max(map(len, LIES))
    return "\n".join(f"{name:{width}}  {kind.sentence}" for name, kind in LIES.items())


async def run_lying_link(lie: str, listening: str, enclave: str, seed: int) -> None:
    """Lie until SIGTERM. CallerError for a lie or an address that there is none of."""
    if lie not in LIES:
        raise CallerError(f"there is no lie {lie!r}; --lie {LIST} shows them all")
    tell = partial(_tell, {"lie": lie, "seed": seed})
    teller = LIES[lie](random.Random(f"{seed}/{lie}"), tell)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            listener = await _listen(_path(listening))
            serve = partial(trio.serve_listeners, partial(_between, teller, _path(enclave)), [listener])
            nursery.start_soon(serve)
            tell("listening", {})
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


async def _between(teller: Lie, enclave: Path, host: trio.SocketStream) -> None:
    """One connection of the host; where the enclave does not listen, or one of the two breaks off, it ends."""
    try:
        async with host, await trio.open_unix_socket(str(enclave)) as stream:
            teller.connected()
            await InterceptedLine(host, stream, teller).run()
    except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as errors:
        logger.info("connection ended", extra={"kv": {"detail": str(errors.exceptions[0])}})


async def _listen(path: Path) -> trio.SocketListener:
    try:
        return await listen(path)
    except OSError as error:
        raise CallerError(f"--listen {path}: {error.strerror}") from error


def _path(address: str) -> Path:
    if not address.startswith(_UNIX):
        raise CallerError(f"{address!r} is not unix:PATH")
    return Path(address.removeprefix(_UNIX))


def _tell(told: Mapping[str, object], event: str, details: Mapping[str, object]) -> None:
    print(json.dumps({"event": event, **told, **details}), flush=True)  # noqa: T201 - machine output
