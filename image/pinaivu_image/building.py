"""Builds an image: fetch the locked inputs, compile the kernel, fill two ramdisks, write the EIF and its manifest."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pinaivu_image.build_root import build_root
from pinaivu_image.checkout import PROJECT, CheckoutState
from pinaivu_image.errors import LockError, MirrorError, machine_faults
from pinaivu_image.fetch import InputCache, fetch_debs, fetch_wheels
from pinaivu_image.inspection import Inspection, inspection_json
from pinaivu_image.kernel import build_kernel
from pinaivu_image.lock import ImageLock
from pinaivu_image.mirrors import Mirrors, machine_mirrors
from pinaivu_image.progress import Reporter
from pinaivu_image.ramdisks import application_ramdisk, boot_ramdisk, command_line
from pinaivu_image.workshop import Workshop
from pinaivu_shared.eif.format import write_eif
from pinaivu_shared.eif.metadata import BuildMetadata, Metadata, encode_metadata

IMAGE_NAME: Final = "pinaivu-enclave"
BUILD_TIME: Final = "1970-01-01T00:00:01+00:00"
"""Fixed: a build's time would make every image another one."""


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """What to build, and with what at hand. `overlay` adds to the application's import folder, for images of tests."""

    lock: ImageLock
    source: Path
    cache: Path
    mirrors: Mirrors | None
    overlay: Mapping[str, bytes] = field(default_factory=dict)


def build_image(plan: BuildPlan, reporter: Reporter) -> bytes:
    """The EIF's bytes, the same for the same lock and source wherever and whenever. Raises CallerErrors (`errors`)."""
    with machine_faults(plan.cache):
        return _build(plan, reporter)


def _build(plan: BuildPlan, reporter: Reporter) -> bytes:
    lock, cache = plan.lock, InputCache(plan.cache)
    cmdline, version = command_line(plan.source), project_version(plan.source)
    debs = list({deb.sha256: deb for deb in (*lock.boot, *lock.build, lock.kernel)}.values())
    fetch_debs(debs, plan.mirrors, cache, reporter)
    fetch_wheels(lock.wheels, cache, reporter)
    with build_root(plan.cache, lock.build, cache, reporter) as root:
        workshop = Workshop(lock=lock, source=plan.source, cache=cache, root=root, reporter=reporter)
        kernel = build_kernel(workshop, kept=plan.cache / "kernels", jobs=os.cpu_count() or 1)
        root.clear()
        boot = boot_ramdisk(workshop)
        root.clear()
        application = application_ramdisk(workshop, plan.overlay)
    return write_eif(
        kernel=kernel,
        cmdline=cmdline,
        metadata=encode_metadata(_metadata(lock, version)),
        ramdisks=(boot, application),
    )


def usable_mirrors() -> Mirrors | None:
    """The machine's mirrors; None where it has none, which is enough for a build out of the cache."""
    try:
        return machine_mirrors()
    except MirrorError:
        return None


def manifest_json(found: Inspection, state: CheckoutState | None) -> dict[str, Any]:
    """What is in an image, as `inspect --json` prints it, and of which commit it is; no commit where none is known.

    It lies beside the image and is as trustworthy as who hands it out: nothing of it is measured.
    """
    commit = {} if state is None else {"commit": state.commit, "clean": not state.changed}
    return {**commit, **inspection_json(found)}


def project_version(source: Path) -> str:
    """Pinaivu's version in this checkout, not the one that is installed; LockError where there is none."""
    try:
        version = tomllib.loads((source / PROJECT).read_text("utf-8"))["project"]["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LockError(f"{source} is no checkout of Pinaivu: {PROJECT}: {error!r}") from error
    return str(version)


def _metadata(lock: ImageLock, version: str) -> Metadata:
    """Nothing of it is measured, so it says nothing that anyone should trust."""
    return Metadata(
        image_name=IMAGE_NAME,
        image_version=version,
        build_metadata=BuildMetadata(
            build_time=BUILD_TIME,
            build_tool="pinaivu image build",
            build_tool_version="1",
            operating_system="Linux",
            kernel_version=lock.kernel.version,
        ),
        docker_info=None,
        custom_metadata=None,
    )
