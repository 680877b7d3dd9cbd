"""A whole network as a user would start it: `pinaivu dev --json`, and its first line."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.simulator.programs import running_program

Description = dict[str, Any]
Start = Callable[..., Any]


@contextmanager
def running(folder: Path, engine: str, *, nodes: int = 2, slots: int | None = None) -> Iterator[Description]:
    """A network on `folder`; ended by SIGTERM, which it must survive to exit 0."""
    flags = ("--port", "0", "--engine", engine, "--nodes", str(nodes), "--slots", str(slots or ""))
    with running_program("dev", "--json", "--data-dir", str(folder), *flags) as network:
        yield network


@pytest.fixture(scope="session")
def echo_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Description]:
    """Two nodes that echo the last message."""
    with running(tmp_path_factory.mktemp("echo"), "echo") as network:
        yield network


@contextmanager
def http(network: Description) -> Iterator[httpx.Client]:
    """A plain HTTP client with the network's API key."""
    headers = {"authorization": f"Bearer {network['api_key']}"}
    with httpx.Client(base_url=network["base_url"], headers=headers, timeout=60, trust_env=False) as found:
        yield found


def pids_of(folder: Path) -> dict[str, Any]:
    """The process ids as `pinaivu dev` keeps them."""
    found: dict[str, Any] = json.loads((folder / "pids.json").read_text())
    return found


def wait_for_receipt(client: httpx.Client, request_id: str) -> dict[str, Any]:
    """The receipt, once it is in the log; pytest's own limit is the only bound."""
    while True:
        answer = client.get(f"/receipts/{request_id}")
        if answer.status_code == httpx.codes.OK:
            found: dict[str, Any] = answer.json()
            return found
        time.sleep(0.05)
