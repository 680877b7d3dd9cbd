"""A network for clients that were not written by us, and an environment in which none of them reaches anybody else."""

import os
from collections.abc import Iterator
from typing import Final

import openai
import pytest
from tests.clients.engine import running_engine
from tests.network.conftest import Description, http, running, wait_for_receipt

OFFLINE: Final = {
    # Whoever asks for another host than this one is sent to a proxy that is not there.
    **dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"
    ),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
    **dict.fromkeys(("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"), "false"),
}
TEXT: Final = "Grüße, 世界 🙂 und mehr"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "LANGSMITH_", "LANGCHAIN_")):
            monkeypatch.delenv(name)
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Description]:
    """A whole network with one node, whose engine has all the models of `engine.py`."""
    with running_engine() as engine, running(tmp_path_factory.mktemp("clients"), engine, nodes=1, slots=64) as found:
        yield found


@pytest.fixture(scope="session")
def deserted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Description]:
    """A network that knows the model `echo` and has no node: each request is a 503 with `Retry-After: 1`."""
    with running(tmp_path_factory.mktemp("deserted"), "echo", nodes=0) as found:
        yield found


@pytest.fixture
def client(network: Description) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=network["base_url"], api_key=network["api_key"]) as found:
        yield found


def outcome_of(network: Description, request_id: str) -> str:
    """How the job ended, by its receipt, once that is there."""
    with http(network) as client:
        return str(wait_for_receipt(client, request_id)["outcome"])


def receipts_of(network: Description) -> set[tuple[str, str]]:
    """Request ids and outcomes of the newest receipts."""
    with http(network) as client:
        return {(receipt["request_id"], receipt["outcome"]) for receipt in client.get("/receipts").json()["data"]}
