"""How init runs the server: without the host's environment and arguments, without root, and never beyond its end."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.boot.console import build_with_program, console_at_end
from tests.boot.lab import running_machine

from pinaivu_enclave.init import COMMAND_LINE
from pinaivu_image.building import BuildPlan
from pinaivu_simulator.qemu import APPENDED, Emulator

pytestmark = pytest.mark.trio

REPORT = """
import json, os, socket, sys, time
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
def refused(attempt):
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "allowed"
print("REPORT " + json.dumps({
    "environment": dict(os.environ), "argv": sys.argv, "ids": os.getresuid() + os.getresgid(), "groups": os.getgroups(),
    "capabilities": status["CapEff"].strip(), "flags": [sys.flags.isolated, sys.flags.dont_write_bytecode],
    "path": sys.path, "parent": os.getppid(), "init_environment": refused(lambda: open("/proc/1/environ").read()),
    "write_root": refused(lambda: open("/x", "w")), "inet": refused(lambda: socket.socket(socket.AF_INET)),
    "memory": open("/proc/meminfo").read().splitlines()[:3], "now": time.time(),
    "seeded": open("/proc/cmdline").read(), "hwrng": open("/sys/class/misc/hw_random/rng_current").read().strip(),
}), file=sys.stderr, flush=True)
"""


def report_in(console: str) -> dict[str, Any]:
    found = re.search(r"REPORT (\{.*\})", console)
    assert found, console[-3000:]
    report: dict[str, Any] = json.loads(found[1])
    return report


async def test_the_server_gets_nothing_of_the_host_and_has_no_power(
    emulator: Emulator, plan: BuildPlan, tmp_path: Path
) -> None:
    async with running_machine(emulator, build_with_program(plan, REPORT, tmp_path)) as machine:
        console = await console_at_end(machine)
    report = report_in(console)
    assert report["environment"] == {}
    assert report["argv"] == ["/usr/local/lib/python3.13/dist-packages/pinaivu_enclave/program.py"]
    assert report["ids"] == [1000] * 6
    assert report["groups"] == []
    assert int(report["capabilities"], 16) == 0
    assert report["flags"] == [1, 1]
    assert report["parent"] == 1
    assert report["init_environment"] == "PermissionError"
    assert report["write_root"] == "OSError", "what was measured cannot be changed"
    assert report["inet"] == "OSError", "there is no network but vsock"
    assert report["hwrng"] == "nsm-hwrng"
    assert "init: server ended: exit status 0" in console


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("raise RuntimeError('out of luck')", "exit status 1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
    ],
    ids=["exception", "signal"],
)
async def test_a_server_that_crashes_takes_the_enclave_with_it_and_says_so(
    emulator: Emulator, plan: BuildPlan, tmp_path: Path, program: str, ending: str
) -> None:
    async with running_machine(emulator, build_with_program(plan, program, tmp_path)) as machine:
        console = await console_at_end(machine)
    assert f"init: server ended: {ending}" in console
    assert "Kernel panic" not in console


@pytest.mark.parametrize("appended", ["evil=1", "PYTHONSTARTUP=/tmp/x", "-c", "clocksource=jiffies"])
async def test_a_command_line_with_more_than_the_platforms_items_is_refused(
    emulator: Emulator, image: Path, appended: str
) -> None:
    async with running_machine(emulator, image, appended=f"{APPENDED} {appended}") as machine:
        console = await console_at_end(machine)
    assert f"an item that no platform appends: '{appended}'" in console
    assert COMMAND_LINE in console
    assert "listening" not in console
