"""The NSM's ioctl on a real /dev/nsm: the conversation that every implementation must hold, inside an enclave."""

from pathlib import Path

import pytest
from tests.boot.console import build_with_program, console_at_end
from tests.boot.lab import running_machine

import pinaivu_simulator.nsm_conformance
from pinaivu_image.building import BuildPlan
from pinaivu_simulator.qemu import Emulator

pytestmark = pytest.mark.trio

STEPS = Path(__file__).parents[1] / "vectors" / "nsm" / "conversation.json"
FILES = {
    "nsm_conformance.py": Path(pinaivu_simulator.nsm_conformance.__file__).read_bytes(),
    "pinaivu_enclave/conversation.json": STEPS.read_bytes(),
}
PROGRAM = """
import sys
from pathlib import Path
from nsm_conformance import read_steps, run_conversation
from pinaivu_enclave.nsm.opening import open_nsm

steps = read_steps(Path(__file__).with_name("conversation.json").read_bytes())
deviations = run_conversation(open_nsm(), steps)
print(f"STEPS {len(steps)} DEVIATIONS {len(deviations)}", *deviations, sep="\\n", file=sys.stderr, flush=True)
"""


async def test_the_kernels_device_holds_the_conversation(emulator: Emulator, plan: BuildPlan, tmp_path: Path) -> None:
    image = build_with_program(plan, PROGRAM, tmp_path, **FILES)
    async with running_machine(emulator, image) as machine:
        console = await console_at_end(machine)
    assert "STEPS 97 DEVIATIONS 0" in console, console[-4000:]
