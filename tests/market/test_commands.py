"""The dishonest programs as commands: what they list, and what they say where they cannot start."""

import subprocess
import sys
from pathlib import Path

import pytest

from pinaivu_simulator.cheats.table import CHEATS
from pinaivu_simulator.lies.table import LIES


def simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pinaivu_shared.command", "simulator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(("cheating-node", "--cheat", "list"), list(CHEATS)), (("lying-link", "--lie", "list"), list(LIES))],
    ids=["cheats", "lies"],
)
def test_each_is_listed_with_a_sentence(arguments: tuple[str, ...], names: list[str]) -> None:
    listed = simulator(*arguments)
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    assert (listed.returncode, [name for name, _ in lines]) == (0, names)
    assert len({sentence for _, sentence in lines}) == len(names)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("cheating-node", "--cheat", "kindness"), "there is no cheat 'kindness'"),
        (("cheating-node", "--cheat", "garbage"), "gateway"),
        (("cheating-node", "--cheat", "garbage", "--gateway", "http://127.0.0.1:9", "--trust", "/nowhere"), "--trust"),
        (("lying-link", "--lie", "kindness"), "there is no lie 'kindness'"),
        (
            ("lying-link", "--lie", "drop", "--listen", "/run/x", "--enclave", "unix:/run/y"),
            "'/run/x' is not unix:PATH",
        ),
        (("lying-link", "--lie", "drop", "--listen", "unix:/nowhere/x", "--enclave", "unix:/y"), "/nowhere/x"),
    ],
    ids=["no such cheat", "no gateway", "no trust file", "no such lie", "no address", "no folder"],
)
def test_what_cannot_start_says_why_and_exits_2(arguments: tuple[str, ...], why: str, tmp_path: Path) -> None:
    ended = simulator(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr
