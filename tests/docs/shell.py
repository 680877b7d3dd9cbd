"""Runs a page's commands as its reader would: in one shell, in an empty folder beside a checkout's environment."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_blocks(blocks: Sequence[str], folder: Path, given: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the blocks in order until one fails; `.venv` in `folder` is ours, `given` what the page asks for."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    if not (programs / "pinaivu").exists():
        (programs / "pinaivu").symlink_to(Path(sys.executable).with_name("pinaivu"))
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PINAIVU_")}
    return subprocess.run(
        ["sh", "-euc", "\n".join(blocks)],
        check=False,
        cwd=folder,
        env={**ours, **given},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
