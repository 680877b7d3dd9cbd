"""The build root in containers of several kinds. What a build in one of them gives is in tests/boot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a container's root is played by root")

ENTER = """
import pathlib, sys
from pinaivu_image.build_root import BuildRoot
from pinaivu_image.errors import BuildError
try:
    BuildRoot(pathlib.Path(sys.argv[1]), held=0).run("trial", ["true"])
except BuildError as error:
    print(error)
"""


def enter(folder: Path, *, without: str) -> str:
    """Try to enter an empty root where namespaces are refused and these capabilities are missing; what was said."""
    (folder / "bin").mkdir()
    (folder / "bin" / "unshare").symlink_to("/bin/false")
    (folder / "root" / "dev").mkdir(parents=True)
    (folder / "root" / "dev" / "null").touch()
    contained = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]
    ended = subprocess.run(
        [*contained, sys.executable, "-c", ENTER, str(folder / "root")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
    )
    return ended.stdout


def test_without_namespaces_the_root_gets_a_null_device_and_is_entered_by_chroot(tmp_path: Path) -> None:
    said = enter(tmp_path, without="-sys_admin")
    assert "chroot: failed to run command" in said, "there is nothing in this root, but chroot looked into it"
    null = tmp_path / "root" / "dev" / "null"
    assert null.is_char_device()
    assert null.read_bytes() == b""


def test_a_container_that_may_not_even_make_a_device_is_told_so_and_the_root_stays_whole(tmp_path: Path) -> None:
    said = enter(tmp_path, without="-sys_admin,-mknod")
    assert "neither user namespaces nor mknod are allowed here" in said
    assert [path.name for path in (tmp_path / "root" / "dev").iterdir()] == ["null"]
