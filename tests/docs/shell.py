"""Runs a page's commands as its reader would: in one shell, in an empty folder beside a checkout's environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


def run_blocks(blocks: Sequence[str], folder: Path, given: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the blocks in order until one fails; `.venv` in `folder` is ours, `given` what the page asks for."""
    return subprocess.run(
        _shell(blocks),
        check=False,
        cwd=folder,
        env=_environment(folder, given),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def running_blocks(blocks: Sequence[str], folder: Path, given: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run blocks that do not end by themselves; SIGTERM to all that they started ends them with the context."""
    environment = _environment(folder, given)
    with subprocess.Popen(
        _shell(blocks), cwd=folder, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _shell(blocks: Sequence[str]) -> list[str]:
    return ["sh", "-euc", "\n".join(blocks)]


def _environment(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    if not (programs / "pinaivu").exists():
        (programs / "pinaivu").symlink_to(Path(sys.executable).with_name("pinaivu"))
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PINAIVU_")}
    return {**ours, **given}
