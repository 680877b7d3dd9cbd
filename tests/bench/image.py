"""`make bench-image`: the enclave image's size, its boot under QEMU, and the memory it needs.

QEMU emulates every instruction here, so times are good for comparing two images, not for Nitro.
"""

import re
import statistics
import sys
import tempfile
from pathlib import Path

import trio
from tests.boot.conftest import CACHE, ROOT, emulator_folder
from tests.boot.console import build_with_program, until_said
from tests.boot.lab import running_machine

from pinaivu_image.building import BuildPlan, build_image, usable_mirrors
from pinaivu_image.lock import LOCK_FILE, read_lock
from pinaivu_image.progress import TerminalReporter
from pinaivu_shared.eif.cpio import read_cpio
from pinaivu_shared.eif.format import parse_eif
from pinaivu_simulator.qemu import BootError, Emulator

BOOTS = 5
MEMORY_MIB = (96, 112, 128, 144, 160, 192, 256)
LISTENING = "listening"
MEBIBYTE = 1 << 20

WATCHED = """
import threading, time, sys
def report():
    time.sleep(3)
    info = dict(line.split(":") for line in open("/proc/meminfo").read().splitlines())
    used = int(info["MemTotal"].split()[0]) - int(info["MemAvailable"].split()[0])
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    print(f"USED {used} SERVER {status['VmRSS'].split()[0]}", file=sys.stderr, flush=True)
threading.Thread(target=report, daemon=True).start()
from pinaivu_enclave.served import main
main()
"""


async def measure(plan: BuildPlan, folder: Path) -> None:
    """Print everything, a line each."""
    image = folder / "pinaivu.eif"
    image.write_bytes(build_image(plan, TerminalReporter()))
    _print_sizes(image)
    emulator = Emulator.in_folder(emulator_folder())
    await _print_boots(emulator, image)
    served = {"pinaivu_enclave/served.py": (ROOT / "enclave/pinaivu_enclave/program.py").read_bytes()}
    await _print_memory(emulator, build_with_program(plan, WATCHED, folder, **served))
    await _print_least_memory(emulator, image)


def _print_sizes(image: Path) -> None:
    eif = parse_eif(image.read_bytes())
    unpacked = sum(len(entry.data) for ramdisk in eif.ramdisks for entry in read_cpio(ramdisk))
    size = image.stat().st_size
    print(f"image: {size / MEBIBYTE:.1f} MiB, nitro-cli wants at least {4 * size / MEBIBYTE:.0f} MiB of memory for it")
    for section in eif.sections:
        print(f"  {section.type.name.lower():<9} {len(section.data) / MEBIBYTE:6.2f} MiB")
    print(f"  files unpacked {unpacked / MEBIBYTE:.1f} MiB")


async def _print_boots(emulator: Emulator, image: Path) -> None:
    heartbeats, servers = [], []
    for _ in range(BOOTS):
        async with running_machine(emulator, image) as machine:
            heartbeats.append(machine.boot_seconds)
            started = trio.current_time()
            await until_said(machine, LISTENING)
            servers.append(machine.boot_seconds + trio.current_time() - started)
    print(f"boot under QEMU, {BOOTS} times, median (2 s of each are the wait for a parent that is not CID 3):")
    heartbeat, server = statistics.median(heartbeats), statistics.median(servers)
    print(f"  heartbeat after {heartbeat:.1f} s, server listening after {server:.1f} s")


async def _print_memory(emulator: Emulator, image: Path) -> None:
    async with running_machine(emulator, image) as machine:
        await until_said(machine, "USED")
        found = re.search(r"USED (\d+) SERVER (\d+)", machine.console())
    assert found
    used, server = (int(kibibytes) / 1024 for kibibytes in found.groups())
    print(f"memory once it listens: {used:.0f} MiB used in the enclave, {server:.0f} MiB of it by the server's process")


async def _print_least_memory(emulator: Emulator, image: Path) -> None:
    for memory_mib in MEMORY_MIB:
        small = Emulator(qemu=emulator.qemu, vsock_device=emulator.vsock_device, memory_mib=memory_mib)
        try:
            async with running_machine(small, image, attempts=1) as machine:
                with trio.fail_after(30):
                    await until_said(machine, LISTENING)
        except (BootError, trio.TooSlowError):
            continue
        print(
            f"least memory with which it boots and listens: {memory_mib} MiB (tried {', '.join(map(str, MEMORY_MIB))})"
        )
        return
    print("it boots with none of the memory sizes tried")


def main() -> int:
    """Build, boot, print; 0 when all could be measured."""
    plan = BuildPlan(lock=read_lock(LOCK_FILE), source=ROOT, cache=CACHE, mirrors=usable_mirrors())
    with tempfile.TemporaryDirectory(prefix="pinaivu-bench-") as folder:
        trio.run(measure, plan, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
