"""`pinaivu` itself: whoever stops reading its output ends it without a word, and without a verdict."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

UNHEARD = 141
PLUGIN = """
import os, sys
def loud(arguments):
    for number in range(100_000):
        print(number, file=sys.stderr if arguments else sys.stdout)
    return 0
def other_pipe(arguments):
    read, write = os.pipe()
    os.close(read)
    os.write(write, b"lost")
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A folder with a package that brings commands of its own."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    described = tmp_path / "plugin-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (described / "entry_points.txt").write_text(
        "[pinaivu.commands]\nloud = plugin:loud\nother-pipe = plugin:other_pipe\n"
    )
    return tmp_path


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def environment(plugin: Path, *, unbuffered: str = "") -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(plugin), "PYTHONUNBUFFERED": unbuffered}


def run(*arguments: str, env: dict[str, str], **streams: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pinaivu_shared.command", *arguments]
    caught = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(command, text=True, check=False, stdin=subprocess.DEVNULL, env=env, **caught)


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [
        (("--version",), ""),
        (("--version",), "1"),
        (("verify", "--help"), ""),
        (("loud",), ""),
        (("loud",), "1"),
    ],
)
def test_output_that_nobody_reads_ends_the_command_quietly(
    arguments: tuple[str, ...], unbuffered: str, plugin: Path, unread: int
) -> None:
    """Little of it is still in a buffer at the end, much fails on the way, and argparse ends by itself."""
    ended = run(*arguments, env=environment(plugin, unbuffered=unbuffered), stdout=unread)
    assert (ended.returncode, ended.stderr) == (UNHEARD, "")


def test_a_reader_that_has_seen_enough_gets_what_it_read(plugin: Path) -> None:
    command = [sys.executable, "-m", "pinaivu_shared.command", "loud"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(plugin)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 10) == b"0\n1\n2\n3\n4\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == UNHEARD


@pytest.mark.parametrize("arguments", [("nonsense",), ("loud", "on stderr")])
def test_what_is_said_to_nobody_on_stderr_ends_it_alike(arguments: tuple[str, ...], plugin: Path, unread: int) -> None:
    ended = run(*arguments, env=environment(plugin), stderr=unread)
    assert (ended.returncode, ended.stdout) == (UNHEARD, "")


def test_another_broken_pipe_than_its_output_is_no_reason_to_be_quiet(plugin: Path) -> None:
    ended = run("other-pipe", env=environment(plugin))
    assert ended.returncode == 1
    assert "BrokenPipeError" in ended.stderr


def test_without_any_output_a_command_still_has_its_status(plugin: Path) -> None:
    command = f"exec {sys.executable} -m pinaivu_shared.command loud >&- 2>&-"
    ended = subprocess.run(["/bin/sh", "-c", command], env=environment(plugin), check=False)
    assert ended.returncode == 0


def pinaivu(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pinaivu_shared.command", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_has_a_line_about_each_command() -> None:
    installed = {point.name for point in importlib.metadata.entry_points(group="pinaivu.commands")}
    listed = pinaivu("--help").stdout.partition("commands:\n")[2].splitlines()
    assert {line.split()[0] for line in listed} == installed
    assert all(len(line.split()) > 2 for line in listed), listed


@pytest.mark.parametrize("program", ["node", "host", "keys", "accounts", "auction", "image", "simulator"])
def test_a_program_without_its_command_lists_those_there_are(program: str) -> None:
    ended = pinaivu(program)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == pinaivu(program, "--help").stdout
