"""PID 1: only this image's command line is served, and nothing of the host comes with it. The rest runs under QEMU."""

import ast
import errno
import os
import sys
from pathlib import Path

import pytest

from pinaivu_enclave import init
from pinaivu_enclave.vsock import PARENT_CIDS
from pinaivu_shared.wire.ports import HEARTBEAT_PORT

NITRO = "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6"
QEMU = "virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=512@0xfeb00c00:11 reboot=t panic=-1"


@pytest.mark.parametrize("appended", ["", f" {NITRO}", f" {QEMU}"], ids=["bare", "nitro", "qemu"])
def test_the_images_command_line_is_accepted_with_what_platforms_append(appended: str) -> None:
    init.check_command_line(init.COMMAND_LINE + appended)


@pytest.mark.parametrize(
    "found",
    [
        "",
        init.COMMAND_LINE.removeprefix("reboot=k "),
        f"{init.COMMAND_LINE}x",
        f"x {init.COMMAND_LINE}",
        init.COMMAND_LINE.replace("panic=30", "panic=0"),
        f"{init.COMMAND_LINE} init=/bin/sh",
        f"{init.COMMAND_LINE} rdinit=/usr/bin/python3.13 -c print(1)",
        f"{init.COMMAND_LINE} {NITRO} nsm.disable=1",
        f"{init.COMMAND_LINE} clocksource=jiffies",
        f"{init.COMMAND_LINE} random.trust_cpu=on",
        f"{init.COMMAND_LINE} virtio_mmio.device=a,b",
        f"{init.COMMAND_LINE} PINAIVU_LOG_LEVEL=debug",
        f"{init.COMMAND_LINE} panic=-1x",
    ],
)
def test_any_other_command_line_ends_the_enclave(found: str) -> None:
    with pytest.raises(SystemExit, match="command line"):
        init.check_command_line(found)


def test_init_needs_nothing_but_the_standard_library_until_the_heartbeat() -> None:
    """AWS's loader waits for the heartbeat, and slow imports would come before it."""
    tree = ast.parse(Path(init.__file__).read_text())
    imported = {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert imported == {"contextlib", "ctypes", "os", "re", "signal", "socket", "sys", "time"}


def test_what_init_cannot_import_is_what_the_others_say() -> None:
    assert (init.HEARTBEAT_PORT, init.PARENT_CIDS) == (HEARTBEAT_PORT, PARENT_CIDS)


def test_a_server_is_started_without_environment_and_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    for name in ("setgroups", "setresgid", "setresuid", "chdir", "execve"):
        monkeypatch.setattr(os, name, lambda *given, name=name: done.append((name, given)))
    monkeypatch.setattr(os, "_exit", lambda status: done.append(("_exit", (status,))))
    init.become_server()
    identity = (init.SERVER_ID,) * 3
    assert done[:3] == [("setgroups", ([],)), ("setresgid", identity), ("setresuid", identity)]
    assert done[4] == (
        "execve",
        (sys.executable, [sys.executable, "-IB", "-m", "pinaivu_enclave.program"], {}),
    )
    assert done[5] == ("_exit", (127,))


class NoConsole:
    """Standard error without a console behind it, as an enclave outside debug mode may have it."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "no console")

    def flush(self) -> None:
        raise OSError(errno.EIO, "no console")


def test_an_enclave_without_a_console_says_nothing_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", NoConsole())
    init.say("nobody hears this")


def test_whatever_happens_pid_1_takes_the_enclave_down_and_does_not_merely_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(sys, "stderr", NoConsole())
    monkeypatch.setattr(init, "mount_file_systems", lambda: 1 // 0)
    monkeypatch.setattr(init, "end", lambda: ended.append(True))
    init.main()
    assert ended == [True]


@pytest.mark.parametrize(
    "contents",
    [(b"{}\n", None), (None, b"{}\n"), (b"{}\n", b"{"), (b"", b"{}\n")],
    ids=["no-2", "no-1", "cut-2", "cut-1"],
)
def test_a_ramdisk_that_was_not_unpacked_to_its_end_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: tuple[bytes | None, bytes | None]
) -> None:
    paths = tuple(str(tmp_path / name) for name in ("boot", "application"))
    monkeypatch.setattr(init, "LAST_FILES", paths)
    for path, content in zip(paths, contents, strict=True):
        if content is not None:
            Path(path).write_bytes(content)
    with pytest.raises(SystemExit, match="needs more memory"):
        init.require_whole_ramdisks()
    for path in paths:
        Path(path).write_bytes(b"{}\n")
    init.require_whole_ramdisks()
