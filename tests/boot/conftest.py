"""The image under test: the very one that production would run, built once for all of these tests."""

import os
import sys
from pathlib import Path

import pytest

from pinaivu_image.building import BuildPlan, build_image, usable_mirrors
from pinaivu_image.errors import MissingInputError
from pinaivu_image.fetch import InputCache
from pinaivu_image.lock import LOCK_FILE, ImageLock, read_lock
from pinaivu_image.mirrors import machine_mirrors
from pinaivu_image.progress import TerminalReporter
from pinaivu_image.resolve import resolve
from pinaivu_simulator.qemu import Emulator

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pinaivu" / "image"


def emulator_folder() -> Path:
    """Where QEMU with the nitro-enclave machine is: PINAIVU_QEMU, or beside the checkout."""
    return Path(os.environ.get("PINAIVU_QEMU") or ROOT.parent / "shared" / "qemu-nitro")


@pytest.fixture(scope="session")
def emulator() -> Emulator:
    return Emulator.in_folder(emulator_folder())


@pytest.fixture(scope="session")
def plan() -> BuildPlan:
    """The committed lock; where its inputs have left the mirrors, one of today's, which is said."""
    plan = BuildPlan(lock=read_lock(LOCK_FILE), source=ROOT, cache=CACHE, mirrors=usable_mirrors())
    try:
        build_image(plan, TerminalReporter())
    except MissingInputError as error:
        print(f"THE COMMITTED LOCK CANNOT BE BUILT HERE: {error}\nBuilding today's versions instead.", file=sys.stderr)
        lock: ImageLock = resolve(
            machine_mirrors(), ROOT / "requirements" / "enclave.lock", InputCache(CACHE), TerminalReporter()
        )
        return BuildPlan(lock=lock, source=ROOT, cache=CACHE, mirrors=machine_mirrors())
    return plan


@pytest.fixture(scope="session")
def image(plan: BuildPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "pinaivu.eif"
    path.write_bytes(build_image(plan, TerminalReporter()))
    return path
