"""The dishonest programs as commands: what they list, and what they say where they cannot start."""

import shlex
import subprocess
from pathlib import Path

import pytest

from pinaivu_simulator.cheats.table import CHEATS
from pinaivu_simulator.lies.table import LIES

from .programs import command_of, dishonest


def simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command_of(*arguments), capture_output=True, text=True, check=False)


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


def test_a_test_that_fails_says_by_which_command_its_program_runs_again(tmp_path: Path) -> None:
    """The command as it stands, with what is empty or has spaces in it."""
    arguments = ("lying-link", "--lie", "list", "--listen", f"unix:{tmp_path / 'a link'}", "--enclave", "")
    with pytest.raises(ZeroDivisionError) as caught, dishonest(*arguments):
        raise ZeroDivisionError
    (note,) = caught.value.__notes__
    printed = note.removeprefix("again: ")
    assert shlex.split(printed) == command_of(*arguments)
    listed = subprocess.run(["/bin/sh", "-c", printed], capture_output=True, text=True, check=True)
    assert listed.stdout == simulator("lying-link", "--lie", "list").stdout
