"""A gateway on loopback in a process of its own, with a fake enclave and a node that answers, for tests that block.

Not in a thread: hypothesis would see the gateway's use of chance and take it for that of a strategy.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tests.host.fake_node import echoing
from tests.host.town import ADMIN_KEY, Town


class Running(msgspec.Struct, frozen=True):
    """Where it listens, the two keys, and names of things that are there."""

    port: int
    api_key: str
    account_id: str
    request_id: str
    transcript: str
    node_id: str
    admin_key: str = ADMIN_KEY

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running() -> Iterator[Running]:
    """The gateway until the block ends; it has answered one request by then."""
    program = [sys.executable, "-m", "tests.fuzz.running"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the gateway did not start; its reason is on stderr"
        try:
            yield msgspec.json.decode(line, type=Running)
        finally:
            process.stdin.close()
    assert process.returncode == 0


async def live(folder: Path) -> None:
    """Serve until standard input ends."""
    town = await Town(folder).open()
    await town.node(echoing("Hel", "lo"), models=("m", "a/b:1"))
    request_id = (await town.chat()).json()["request_id"]
    receipt = (await town.client().get(f"/v1/receipts/{request_id}")).json()
    there = Running(
        town.port, town.key, town.account_id, request_id, receipt["auction"]["transcript"], town.nodes[0].node_id
    )
    print(msgspec.json.encode(there).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await town.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(live(Path(name)))
