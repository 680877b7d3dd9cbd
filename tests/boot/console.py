"""Images of tests: the production image with another program in its application ramdisk, read by its console."""

import dataclasses
from pathlib import Path

import trio

from pinaivu_image.building import BuildPlan, build_image
from pinaivu_image.progress import SilentReporter
from pinaivu_simulator.qemu import Machine

END_SECONDS = 60.0


def build_with_program(plan: BuildPlan, program: str, folder: Path, **files: bytes) -> Path:
    """The image with `program` in place of the server, and more files beside our packages."""
    overlay = {"pinaivu_enclave/program.py": program.encode(), **files}
    path = folder / "test.eif"
    path.write_bytes(build_image(dataclasses.replace(plan, overlay=overlay), SilentReporter()))
    return path


async def console_at_end(machine: Machine) -> str:
    """What the console says once the enclave has ended."""
    with trio.fail_after(END_SECONDS):
        await machine.process.wait()
    return machine.console()


async def until_said(machine: Machine, text: str) -> None:
    """Until the console has this; AssertionError with its end when that takes too long."""
    with trio.move_on_after(END_SECONDS):
        while text not in machine.console():  # noqa: ASYNC110 - another machine writes it
            await trio.sleep(0.05)
        return
    raise AssertionError(f"{text!r} was not said\n{machine.console()[-3000:]}")
