"""`pinaivu image build` and `lock`: what makes images. Their packages are those of `pinaivu[image]`."""

import argparse
import json
import os
from pathlib import Path

from pinaivu_image.building import BuildPlan, build_image, manifest_json, usable_mirrors
from pinaivu_image.checkout import CheckoutState, compare_with_commit
from pinaivu_image.command_line import DONE, NOT_GIVEN, given, say
from pinaivu_image.errors import CheckoutError
from pinaivu_image.fetch import InputCache
from pinaivu_image.files import require_writable, write_file
from pinaivu_image.inspection import inspect_image
from pinaivu_image.lock import LOCK_FILE, read_lock, write_lock
from pinaivu_image.mirrors import Mirrors, machine_mirrors, named_mirrors
from pinaivu_image.progress import TerminalReporter
from pinaivu_image.resolve import resolve

MAX_NAMED = 20
"""So many changed files are named in a warning."""


def build(chosen: argparse.Namespace) -> int:
    """Write the image and its manifest, print its registers."""
    output = given("output", chosen.output)
    require_writable("output", output)
    plan = BuildPlan(
        lock=read_lock(_lock_file(chosen)),
        source=_source(chosen),
        cache=_cache(chosen),
        mirrors=usable_mirrors() if chosen.mirror is NOT_GIVEN else _named_mirrors(chosen),
    )
    before = _state(chosen)
    image = build_image(plan, TerminalReporter())
    after = before if before is None or before.changed else _state(chosen)  # people go on writing while it compiles
    found = inspect_image(image)
    write_file(output, image)
    write_file(f"{output}.json", json.dumps(manifest_json(found, after), indent=1).encode() + b"\n")
    for name, value in found.measurements.as_hex().items():
        print(f"{name} {value}")
    return DONE


def lock(chosen: argparse.Namespace) -> int:
    """Write a lock of what the mirrors have today."""
    mirrors = machine_mirrors() if chosen.mirror is NOT_GIVEN else _named_mirrors(chosen)
    requirements = _source(chosen) / "requirements" / "enclave.lock"
    write_lock(resolve(mirrors, requirements, InputCache(_cache(chosen)), TerminalReporter()), _lock_file(chosen))
    return DONE


def _state(chosen: argparse.Namespace) -> CheckoutState | None:
    """Whether the checkout is that of its commit; what is not is said, and built."""
    try:
        state = compare_with_commit(_source(chosen), _lock_file(chosen))
    except CheckoutError as error:
        say(f"warning: {error}")
        return None
    if state is not None and state.changed:
        named = ", ".join(state.changed[:MAX_NAMED]) + (", …" if state.changed[MAX_NAMED:] else "")
        say(f"warning: nobody can rebuild this image from commit {state.commit[:12]}, which has not: {named}")
    return state


def _lock_file(chosen: argparse.Namespace) -> Path:
    return LOCK_FILE if chosen.lock is NOT_GIVEN else given("lock", chosen.lock)


def _source(chosen: argparse.Namespace) -> Path:
    return Path(__file__).parents[2] if chosen.source is NOT_GIVEN else given("source", chosen.source)


def _cache(chosen: argparse.Namespace) -> Path:
    if chosen.cache is not NOT_GIVEN:
        return given("cache", chosen.cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pinaivu" / "image"


def _named_mirrors(chosen: argparse.Namespace) -> Mirrors:
    return named_mirrors(chosen.mirror.split(","))
