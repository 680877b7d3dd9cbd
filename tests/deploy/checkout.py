"""A copy of this checkout as `COPY . .` of a Dockerfile makes it: what git knows or would add."""

import shutil
import subprocess
from pathlib import Path

from tests.deploy.dockerfile import ROOT


def tracked_files() -> list[str]:
    """Paths of the checkout's files, relative to its root."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def copy_checkout(target: Path) -> Path:
    """The copy's root."""
    for name in tracked_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target
