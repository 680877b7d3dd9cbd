"""A simulated service, which the pages' commands are run against."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from tests.network.conftest import Description, http, running

from pinaivu_simulator.data_directory import DataDirectory
from pinaivu_simulator.nsm import SIMULATED_MEASUREMENTS


class Service(NamedTuple):
    """What a reader knows of the service: `given` are the variables that the pages name."""

    network: Description
    given: dict[str, str]
    simulated: dict[str, str]
    """What a reader of a simulated service sets in addition: nobody verifies such documents by default."""
    operators: dict[str, str]
    """What its operator knows besides."""
    folder: Path

    def write_pcrs(self, folder: Path) -> None:
        """What `pinaivu image pcrs --json` would print of an image that the simulator ran."""
        registers = {f"PCR{index}": value.hex() for index, value in SIMULATED_MEASUREMENTS.items()}
        (folder / "pcrs.json").write_text(json.dumps({"Measurements": registers}))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running(folder, "echo", nodes=1) as network:
        root = folder / "root.pem"
        root.write_text(DataDirectory(folder).pki().trust_root_pem)
        with http(network) as client:
            body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
            request_id = client.post("/chat/completions", json=body).json()["request_id"]
        given = {
            "SERVICE": network["base_url"].removesuffix("/v1"),
            "OPENAI_API_KEY": network["api_key"],
            "MODEL": "echo",
            "REQUEST_ID": request_id,
        }
        simulated = {"PINAIVU_PLATFORM": "simulator", "PINAIVU_ROOT": str(root)}
        operators = {"ADMIN_KEY": network["admin_key"], "ACCOUNT": _account(network)}
        yield Service(network, given, simulated, operators, folder)


def _account(network: Description) -> str:
    """The account of the network's API key, which its first deposit names."""
    url = network["base_url"].removesuffix("/v1") + "/admin/v1/orders"
    orders = httpx.get(url, headers={"authorization": f"Bearer {network['admin_key']}"}, trust_env=False).json()
    found: str = orders["orders"][0]["account_id"]
    return found
