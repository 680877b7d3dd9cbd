"""Boots enclave images in QEMU's `nitro-enclave` machine: real AF_VSOCK, a real /dev/nsm, unsigned documents.

A vhost-user process carries the vsock over Unix sockets: what the enclave dials on port P arrives at `vm.vsock_P`, and
`hybrid:vm.vsock:P` reaches what it listens on. Nitro's loader is played as well: it echoes the heartbeat.
"""

import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from pinaivu_shared.errors import CallerError
from pinaivu_shared.wire.ports import HEARTBEAT_PORT, KMS_PORT, LINK_PORT
from pinaivu_simulator.enclave import listen

GUEST_CID: Final = 16
DEVICE_CREDIT_BYTES: Final = 16_384
"""With more, Linux sends packets in pieces that the device drops without a word."""

APPENDED: Final = "reboot=t panic=-1"
"""Unmeasured, behind the image's own line: here, `reboot=k` would start a second boot on used devices."""

FIRMWARE_FOLDERS: Final = ("/usr/share/qemu", "/usr/share/seabios")
HEARTBEAT: Final = b"\xb7"
BOOT_SECONDS: Final = 90.0
TAIL_BYTES: Final = 4_000


class BootError(Exception):
    """The image did not come up. The text ends with what the console and the device said last."""


@dataclass(frozen=True, kw_only=True)
class Emulator:
    """The two programs, how much memory an enclave gets (MiB), and whether there is a console to write to."""

    qemu: Path
    vsock_device: Path
    memory_mib: int = 1024
    has_console: bool = True

    @classmethod
    def in_folder(cls, folder: Path) -> "Emulator":
        """The programs of one folder; CallerError where they are not."""
        emulator = cls(qemu=folder / "qemu-system-x86_64", vsock_device=folder / "vhost-device-vsock")
        for program in (emulator.qemu, emulator.vsock_device):
            if not program.is_file():
                raise CallerError(f"{program} is missing: a QEMU with the nitro-enclave machine, and its vsock device")
        return emulator

    def device_command(self, folder: Path) -> list[str]:
        """The vsock device; its socket for QEMU is `vs.sock`."""
        options = f"guest-cid={GUEST_CID},socket={folder}/vs.sock,uds-path={folder}/vm.vsock"
        return [str(self.vsock_device), "--vm", f"{options},tx-buffer-size={DEVICE_CREDIT_BYTES}"]

    def machine_command(self, image: Path, folder: Path, appended: str) -> list[str]:
        """The machine. Without a way to power off, ending the enclave ends the process."""
        firmware = [part for place in FIRMWARE_FOLDERS for part in ("-L", place)]
        return [
            str(self.qemu), *firmware, "-M", "nitro-enclave,vsock=c,id=pinaivu", "-kernel", str(image),
            "-m", f"{self.memory_mib}M", "-accel", "tcg", "-cpu", "max", "-nographic", "-no-reboot", "-nodefaults",
            "-serial", "stdio" if self.has_console else "none",
            "-chardev", f"socket,id=c,path={folder}/vs.sock", "-append", appended,
        ]  # fmt: skip


class Machine:
    """A booted enclave. `folder` holds its sockets and its console."""

    def __init__(self, folder: Path, process: trio.Process, boot_seconds: float) -> None:
        self.folder, self.process, self.boot_seconds = folder, process, boot_seconds

    @property
    def link(self) -> str:
        """The enclave's address for `pinaivu host serve --enclave`."""
        return f"hybrid:{self.folder}/vm.vsock:{LINK_PORT}"

    @property
    def kms_listen(self) -> str:
        """Where the enclave dials the KMS bridge, for `pinaivu host serve --kms-listen`."""
        return f"unix:{self.folder}/vm.vsock_{KMS_PORT}"

    def console(self) -> str:
        """What the kernel and the programs wrote so far; a production enclave shows it to nobody."""
        return (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")


@asynccontextmanager
async def booted(emulator: Emulator, image: Path, folder: Path, *, appended: str = APPENDED) -> AsyncIterator[Machine]:
    """The enclave of an image, from its heartbeat until the block is left. BootError when no heartbeat comes.

    `folder` is empty and has a short name: a Unix socket's path has at most 107 bytes.
    """
    device = _running(emulator.device_command(folder), folder / "device.log")
    async with await listen(folder / f"vm.vsock_{HEARTBEAT_PORT}") as loader, device as running_device:
        await _until_exists(folder / "vs.sock", running_device)
        started = time.monotonic()
        async with _running(emulator.machine_command(image, folder, appended), folder / "console.log") as process:
            await _heartbeat(loader, process, folder)
            yield Machine(folder, process, time.monotonic() - started)


@asynccontextmanager
async def _running(command: list[str], log: Path) -> AsyncIterator[trio.Process]:
    with log.open("wb") as file:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def _until_exists(path: Path, device: trio.Process) -> None:
    with trio.move_on_after(BOOT_SECONDS):
        while device.returncode is None:
            if await trio.Path(path).exists():
                return
            await trio.sleep(0.02)
    raise BootError(f"the vsock device did not start\n{_tail(path.parent)}")


async def _heartbeat(loader: trio.SocketListener, machine: trio.Process, folder: Path) -> None:
    """Play nitro-cli: take one byte 0xB7 and send it back; the enclave has then started."""
    with trio.move_on_after(BOOT_SECONDS):
        while machine.returncode is None:
            with trio.move_on_after(0.2):
                async with await loader.accept() as stream:
                    if await stream.receive_some(1) == HEARTBEAT:
                        await stream.send_all(HEARTBEAT)
                        return
        raise BootError(f"the machine ended with status {machine.returncode} before its heartbeat\n{_tail(folder)}")
    raise BootError(f"no heartbeat within {BOOT_SECONDS:.0f} s\n{_tail(folder)}")


def _tail(folder: Path) -> str:
    parts = []
    for name in ("console.log", "device.log"):
        path = folder / name
        content = path.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace") if path.exists() else "(none)"
        parts.append(f"--- {name}\n{content}")
    return "\n".join(parts)
