"""`pinaivu simulator cheating-node`: the real agent, its connection in the hands of a cheat.

On stdout it prints one JSON object per line: `quoting` once a quote stands, `cheated` each time it did, `goodbye` when
the gateway sent it away.
"""

import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from pinaivu_node.keys import load_identity
from pinaivu_node.process import build_agent, work
from pinaivu_node.settings import load_settings
from pinaivu_shared.epoch import verify_epoch_live
from pinaivu_shared.errors import CallerError
from pinaivu_shared.trust import parse_trust
from pinaivu_shared.wire.node import FromGateway, FromNode, Goodbye, QuoteAcknowledged
from pinaivu_simulator.cheats.cheat import Cheat, Means
from pinaivu_simulator.cheats.table import CHEATS
from pinaivu_simulator.cheats.wire import Wire, open_wire
from pinaivu_simulator.clock import now_ms

LIST: Final = "list"


class CheatingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which cheat, against which gateway, at what prices. `victim` is a public key in hex, of nobody when empty."""

    cheat: str
    gateway: str
    trust: Path
    data_dir: Path
    operator: str
    input_price: str
    output_price: str
    engine: str
    seed: int
    victim: str

    def command(self) -> str:
        """What runs it again."""
        return (
            f"pinaivu simulator cheating-node --cheat {self.cheat} --seed {self.seed} --gateway {self.gateway} "
            f"--trust {self.trust} --data-dir {self.data_dir} --engine {self.engine} "
            f"--input-price {self.input_price} --output-price {self.output_price}"
        )


class CheatingConnection:
    """Implements `pinaivu_node.connection.Connection`."""

    def __init__(self, wire: Wire, cheat: Cheat) -> None:
        self._wire, self._cheat = wire, cheat

    async def send(self, message: FromNode) -> None:
        """See `Connection`."""
        await self._cheat.pass_on(message, self._wire)

    async def receive(self) -> FromGateway:
        """See `Connection`."""
        message = await self._wire.receive()
        if isinstance(message, Goodbye):
            self._cheat.tell("goodbye", code=message.code, detail=message.detail)
        self._cheat.hear(message)
        if isinstance(message, QuoteAcknowledged):
            self._cheat.tell("quoting")
        return message

    async def ping(self) -> None:
        """See `Connection`."""
        await self._wire.ping()


def cheat_sentences() -> str:
    """All cheats by name, a line each."""
    width = max(map(len, CHEATS))
    return "\n".join(f"{name:{width}}  {kind.sentence}" for name, kind in CHEATS.items())


async def run_cheating_node(plan: CheatingPlan) -> None:
    """Work, and cheat, until SIGTERM. CallerError for a cheat or settings that there are none of."""
    if plan.cheat not in CHEATS:
        raise CallerError(f"there is no cheat {plan.cheat!r}; --cheat {LIST} shows them all")
    settings = load_settings(_given(plan), None)
    verify = partial(verify_epoch_live, trust=parse_trust(await _read(plan.trust)))
    chance = random.Random(f"{plan.seed}/{plan.cheat}")
    identity = load_identity(plan.data_dir)
    told = {"cheat": plan.cheat, "seed": plan.seed, "node_id": identity.node_id}
    means = Means(
        identity=identity,
        verify=verify,
        chance=chance,
        now_ms=now_ms,
        victim=_public_key(plan.victim) or identity.public_key[::-1],
        tell=partial(_tell, told),
    )
    cheat = CHEATS[plan.cheat](means)

    @asynccontextmanager
    async def dial(url: str) -> AsyncIterator[CheatingConnection]:
        async with open_wire(url) as wire:
            yield CheatingConnection(wire, cheat)

    await work(build_agent(settings, verify, dial), None)


async def _read(trust: Path) -> bytes:
    try:
        return await trio.Path(trust).read_bytes()
    except OSError as error:
        raise CallerError(f"--trust: {error}") from error


def _public_key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise CallerError("--victim: not a public key in hex") from None


def _given(plan: CheatingPlan) -> Mapping[str, str]:
    return {
        "gateway": plan.gateway,
        "trust": str(plan.trust),
        "data_dir": str(plan.data_dir),
        "operator": plan.operator,
        "input_price": plan.input_price,
        "output_price": plan.output_price,
        "engine": plan.engine,
        "drain_seconds": "0",
    }


def _tell(told: Mapping[str, object], event: str, details: Mapping[str, object]) -> None:
    print(json.dumps({"event": event, **told, **details}), flush=True)  # noqa: T201 - machine output
