#!/usr/bin/python3.13 -IB
"""PID 1 of the enclave image: heartbeat, mounts, command line, randomness, wall clock, then the server.

The image builder puts this very file at `/init`. Until the heartbeat it imports nothing but the standard library: AWS's
loader waits for one byte 0xB7 on vsock port 9000 and kills an enclave that does not send it (nitro.md part E).

Nothing of the host reaches the server from here: its environment is empty, its arguments are fixed, and a command line
other than the one the image was built with ends the enclave. The command line is measured, but not where it begins
and ends, so a host could strip options from its head or let it swallow what lies beside it (nitro.md A.4).
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import time

COMMAND_LINE = "reboot=k panic=30 console=ttyS0 random.trust_cpu=off"
"""What the image builder writes into the image; the platform appends items, and PLATFORM_ITEM says which."""

PLATFORM_ITEM = re.compile(r"virtio_mmio\.device=[0-9A-Za-z@:]+|reboot=t|panic=-1")
"""Nitro and QEMU name their devices; the other two decide only how an enclave that ends is taken down."""

HEARTBEAT_PORT = 9000
HEARTBEAT = b"\xb7"
PARENT_CIDS = (3, 2)
SERVER_ID = 1000
"""User and group of the server: it needs no root, and whoever breaks into it gets none."""

LAST_FILES = ("/usr/share/pinaivu/boot-inputs.json", "/usr/share/pinaivu/application-inputs.json")
"""Of the first ramdisk and of the second: the builder sorts by path, and nothing comes behind them."""

NOSUID, NODEV, NOEXEC, READ_ONLY, REMOUNT = 0x2, 0x4, 0x8, 0x1, 0x20  # linux/mount.h
MOUNTS = (
    ("devtmpfs", "/dev", NOSUID | NOEXEC),
    ("proc", "/proc", NOSUID | NODEV | NOEXEC),
    ("sysfs", "/sys", NOSUID | NODEV | NOEXEC),
    ("tmpfs", "/tmp", NOSUID | NODEV | NOEXEC),  # noqa: S108 - the enclave's own, memory only
    ("rootfs", "/", REMOUNT | READ_ONLY),  # the ramdisks: what was measured stays as it is
)
CLOCK_SOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
REBOOT = 0x01234567  # LINUX_REBOOT_CMD_RESTART


def main() -> None:
    """Start the enclave, and end it when the server ends, whatever the reason."""
    try:
        mount_file_systems()
        send_heartbeat()
        require_command_line()
        require_whole_ramdisks()
        seed_and_set_clock()
        say(f"server ended: {run_server()}")
    except BaseException as error:  # noqa: BLE001 - PID 1: an exception that escapes is a kernel panic without a word
        say(f"failed: {type(error).__name__}: {error}")
    finally:
        end()


def say(text: str) -> None:
    """One line on the console, which the parent sees in debug mode only. Where there is none, it is lost."""
    with contextlib.suppress(OSError):
        print(f"init: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the console is all there is


def mount_file_systems() -> None:
    """Mount what the kernel gives and close the root, which are the ramdisks. OSError names what failed."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, place, flags in MOUNTS:
        if libc.mount(kind.encode(), place.encode(), kind.encode(), ctypes.c_ulong(flags), None):
            raise OSError(ctypes.get_errno(), f"mount {kind} on {place}: {os.strerror(ctypes.get_errno())}")


def send_heartbeat() -> None:
    """Tell the loader that the enclave has started, and wait for its echo. Without an echo we go on: it judges us."""
    for cid in PARENT_CIDS:
        try:
            with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as loader:
                loader.settimeout(10)
                loader.connect((cid, HEARTBEAT_PORT))
                loader.sendall(HEARTBEAT)
                if loader.recv(1) == HEARTBEAT:
                    return
        except OSError as error:
            say(f"no heartbeat to CID {cid}: {error}")


def require_command_line() -> None:
    """End unless the kernel was started with our command line and nothing beside it but the platform's items."""
    with open("/proc/cmdline", encoding="ascii") as file:  # noqa: PTH123 - fewer imports before the server
        check_command_line(file.read().rstrip("\n"))


def check_command_line(found: str) -> None:
    """SystemExit says what does not belong there."""
    if found != COMMAND_LINE and not found.startswith(f"{COMMAND_LINE} "):
        raise SystemExit(f"the kernel's command line is not this image's: {found[:200]!r}")
    for item in found.removeprefix(COMMAND_LINE).split():
        if not PLATFORM_ITEM.fullmatch(item):
            raise SystemExit(f"the kernel's command line has an item that no platform appends: {item[:100]!r}")


def require_whole_ramdisks() -> None:
    """SystemExit unless the last file of each ramdisk is there to its end.

    Linux starts what it could unpack, with a line on the console that nobody sees: too little memory for the second
    ramdisk would be another program under the same measurements.
    """
    for path in LAST_FILES:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - as above
                whole = file.read().endswith(b"}\n")
        except OSError:
            whole = False
        if not whole:
            raise SystemExit(f"the ramdisk was not unpacked whole: {path}; the enclave needs more memory")


def seed_and_set_clock() -> None:
    """Mix the module's randomness into the kernel's before any key is made; set the wall clock, which TLS asks."""
    from pinaivu_enclave.entropy import seed_kernel  # noqa: PLC0415 - after the heartbeat
    from pinaivu_enclave.nsm.opening import open_nsm  # noqa: PLC0415
    from pinaivu_enclave.nsm.timestamp import ask_timestamp_ms  # noqa: PLC0415

    nsm = open_nsm()
    generator = seed_kernel(nsm)
    time.clock_settime_ns(time.CLOCK_REALTIME, ask_timestamp_ms(nsm) * 1_000_000)
    with open(CLOCK_SOURCE, encoding="ascii") as file:  # noqa: PTH123 - as above
        say(f"kernel seeded, hardware generator {generator}; clock source {file.read().strip()}")


def run_server() -> str:
    """Run the server as a child without privileges, reap whatever else ends, and say how it ended."""
    child = os.fork()
    if child == 0:
        become_server()
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def become_server() -> None:
    """Drop root and become the server. Never returns."""
    try:
        os.setgroups([])
        os.setresgid(SERVER_ID, SERVER_ID, SERVER_ID)
        os.setresuid(SERVER_ID, SERVER_ID, SERVER_ID)
        os.chdir("/")
        os.execve(sys.executable, [sys.executable, "-IB", "-m", "pinaivu_enclave.program"], {})  # noqa: S606
    finally:
        os._exit(127)


def end() -> None:
    """Take the enclave down. A PID 1 that merely exits would be a kernel panic."""
    os.sync()
    ctypes.CDLL(None).reboot(REBOOT)


if __name__ == "__main__":
    main()
