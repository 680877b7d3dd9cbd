"""`pinaivu dev`: a whole network on one machine that stays up."""

import json
import shlex
import signal
from pathlib import Path

import trio
from rich.console import Console

from pinaivu_simulator.network import Network, NetworkPlan, running_network


async def run_dev(plan: NetworkPlan, *, as_json: bool) -> None:
    """Run until SIGTERM or SIGINT. With `as_json` the first line of stdout is the network's description."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stay_up, plan, as_json)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


async def _stay_up(plan: NetworkPlan, as_json: bool) -> None:  # noqa: FBT001 - trio passes positions only
    async with running_network(plan) as network:
        if as_json:
            print(json.dumps(network.describe()), flush=True)  # noqa: T201 - machine output
        else:
            _introduce(network)
        await trio.sleep_forever()


def _introduce(network: Network) -> None:
    described = network.describe()
    console = Console(stderr=True, highlight=False, soft_wrap=True)  # a wrapped line could not be copied into a shell
    console.print("[bold]A Pinaivu network is up.[/bold] Ctrl-C ends it.\n")
    console.print(f"  export OPENAI_BASE_URL={described['base_url']}")
    console.print(f"  export OPENAI_API_KEY={described['api_key']}")
    console.print(f"  export PINAIVU_TRUST={shlex.quote(str(described['trust']))}\n", markup=False)
    console.print(f"  models  {', '.join(network.models)}", markup=False)


def default_folder() -> Path:
    """Where `pinaivu dev` keeps its network unless told otherwise."""
    return Path(".pinaivu")
