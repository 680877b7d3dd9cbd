"""Builds by the command line, out of copies of this checkout, in surroundings that are as different as can be."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("enclave", "image", "shared")
"""What of a checkout a build needs."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where and how somebody builds. Nothing of it may reach the image."""

    checkout: Path
    cache: Path
    umask: int = 0o022
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `pinaivu image`, the one of this checkout."""
        command = [sys.executable, "-m", "pinaivu_shared.command", "image", *map(str, arguments)]
        paths = os.pathsep.join(str(self.checkout / part) for part in PARTS)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, **self.environment}
        return subprocess.run(
            command, env=environment, umask=self.umask, cwd=self.checkout, capture_output=True, text=True, check=False
        )

    def build(self, output: Path, *, lock: Path) -> subprocess.CompletedProcess[str]:
        """Build an image of this checkout by this lock."""
        return self.run("build", "--output", output, "--cache", self.cache, "--lock", lock)


def copy_checkout(source: Path, folder: Path) -> Path:
    """The sources, without what was made of them."""
    folder.mkdir()
    shutil.copy2(source / "pyproject.toml", folder)
    for part in PARTS:
        shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def copy_cache(cache: Path, folder: Path, parts: Iterable[str]) -> Path:
    """Another cache with these parts of one, by hard links: inputs are never written to."""
    for part in parts:
        shutil.copytree(cache / part, folder / part, copy_function=_link)
    return folder


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target
