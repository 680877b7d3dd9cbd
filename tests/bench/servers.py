"""What the gateway is held against, LiteLLM's proxy, and the echo engine behind both; memory and processor time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from tests.bench.load import Load, Measured

from pinaivu_simulator.ports import free_port

ROOT = Path(__file__).parents[2]
VENV = ROOT / "build" / "litellm"
LOCK = ROOT / "requirements" / "litellm.lock"
UV = ROOT / ".venv" / "bin" / "uv"
MASTER_KEY = "sk-litellm-master-key-of-the-bench"
TICKS = os.sysconf("SC_CLK_TCK")
ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_TELEMETRY_DISABLED": "True",
    "PYTHONDONTWRITEBYTECODE": "",
}
"""As its page on production says; without the first it asks the network for a list of prices when it starts."""


@dataclass(frozen=True)
class Server:
    """Chat completions at a port of this machine, and the processes that serve them."""

    name: str
    port: int
    api_key: str
    processes: dict[str, int]

    def measure(self, body: dict[str, object], *, connections: int, seconds: float, **changes: object) -> Measured:
        """What the generator's process saw."""
        fields: dict[str, object] = {"api_key": self.api_key, "path": "/v1/chat/completions"} | changes
        load = msgspec.convert(
            {"port": self.port, "body": body, "connections": connections, "seconds": seconds, **fields}, Load
        )
        ran = subprocess.run(
            [sys.executable, "-m", "tests.bench.load"],
            input=msgspec.json.encode(load),
            stdout=subprocess.PIPE,
            check=True,
            cwd=ROOT,
        )
        return msgspec.json.decode(ran.stdout, type=Measured)


@contextmanager
def echo_engine(settings: str) -> Iterator[Server]:
    """The echo engine by itself."""
    command = [sys.executable, "-m", "pinaivu_node.engines.echo_server", "--settings", settings, "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(json.loads(process.stdout.readline())["address"].rpartition(":")[2])
            yield Server("the engine asked directly", port, "none", {"engine": process.pid})
        finally:
            process.terminate()


def install_litellm() -> str:
    """Its version, installed from its lock into an environment of its own; CalledProcessError where it cannot be."""
    mark = VENV / "installed.lock"
    if not mark.exists() or mark.read_bytes() != LOCK.read_bytes():
        subprocess.run([str(UV), "venv", "--clear", "--quiet", "--python", sys.executable, str(VENV)], check=True)
        environment = os.environ | {"VIRTUAL_ENV": str(VENV)}
        install = [str(UV), "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "-r", str(LOCK)]
        subprocess.run(install, check=True, env=environment)
        mark.write_bytes(LOCK.read_bytes())
    line = next(line for line in LOCK.read_text().splitlines() if line.startswith("litellm=="))
    return line.split()[0].removeprefix("litellm==")


@contextmanager
def litellm(folder: Path, engine: Server) -> Iterator[Server]:
    """LiteLLM's proxy in front of the engine: one worker, keys checked, no database, no callbacks."""
    port, config = free_port(), folder / "litellm.json"
    parameters = {"model": "openai/echo", "api_base": f"http://127.0.0.1:{engine.port}/v1", "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "echo", "litellm_params": parameters}],
        "litellm_settings": {"request_timeout": 600, "callbacks": [], "set_verbose": False},
        "general_settings": {"master_key": MASTER_KEY, "disable_spend_logs": True},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = [str(VENV / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | ENVIRONMENT
    log = (folder / "litellm.log").open("wb")
    with log, subprocess.Popen([*command, "--num_workers", "1"], env=environment, stdout=log, stderr=log) as process:
        try:
            _until_alive(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "litellm.log")
            yield Server("LiteLLM", port, MASTER_KEY, {"proxy": process.pid})
        finally:
            process.terminate()


def _until_alive(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    with httpx.Client(trust_env=False) as client:
        while process.poll() is None:
            try:
                if client.get(url).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
    raise AssertionError(f"LiteLLM did not start: {log.read_text()[-2000:]}")


def memory_mib(pids: Iterable[int]) -> float:
    """Proportional set size of these processes and those that they started."""
    return sum(_pss_kib(pid) for pid in _with_children(pids)) / 1024


def processor_seconds(pids: Iterable[int]) -> float:
    """Spent by these processes and those that they started."""
    return sum(_seconds_of(pid) for pid in _with_children(pids))


def _with_children(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        yield pid
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from _with_children(map(int, (task / "children").read_text().split()))


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def _seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
