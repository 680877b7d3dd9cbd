"""What is compiled for the ramdisks, inside the build root: bytecode, and the NSM's extension module."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pinaivu_image.build_root import WORK, BuildRoot
from pinaivu_image.contents import EXTENSION, LIBRARIES, PYTHON
from pinaivu_image.deb import PackageFile
from pinaivu_image.selection import FILE, PROGRAM

INTERPRETER: Final = f"python{PYTHON}"
PYTHON_COMMAND: Final = (INTERPRETER, "-P", "-s", "-c")
"""Not `-I`, which would ignore the environment of the build root, its fixed hash seed for one."""

EXTENSION_SOURCE: Final = "enclave/pinaivu_enclave/nsm/extension.py"

_BYTECODE: Final = """\
import compileall, py_compile, sys
done = compileall.compile_dir(
    "/build/tree", maxlevels=50, force=True, quiet=1, workers=1, stripdir="/build/tree", prependdir="/",
    invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
)
sys.exit(not done)
"""
_EXTENSION: Final = f"""\
import pathlib, sys
sys.path[:0] = ["/build", "/build/tree/{LIBRARIES}"]
import extension
extension.write_source(pathlib.Path("/build/extension.c"))
"""


def compile_bytecode(root: BuildRoot, files: Iterable[PackageFile]) -> Iterator[PackageFile]:
    """A `.pyc` for each module, valid as long as its source has the same hash (PEP 552): no time is in it."""
    _lay_out(root, (file for file in files if file.path.endswith(".py")))
    root.run("bytecode", [*PYTHON_COMMAND, _BYTECODE])
    tree = root.work / "tree"
    for path in sorted(tree.rglob("*.pyc")):
        yield PackageFile(str(path.relative_to(tree)), FILE, path.read_bytes())


def compile_extension(root: BuildRoot, source: Path, libraries: Iterable[PackageFile]) -> PackageFile:
    """The NSM's ioctl as an extension module, by the locked gcc against the locked Python."""
    _lay_out(root, libraries)
    (root.work / "extension.py").write_bytes((source / EXTENSION_SOURCE).read_bytes())
    root.run("extension", [*PYTHON_COMMAND, _EXTENSION])
    root.run(
        "extension",
        [
            "gcc", "-shared", "-fPIC", "-O2", "-s", "-Wl,--build-id=none", "-Wall", "-Werror",
            f"-I/usr/include/{INTERPRETER}", "-o", f"/{WORK}/extension.so", f"/{WORK}/extension.c",
        ],
    )  # fmt: skip
    return PackageFile(EXTENSION, PROGRAM, (root.work / "extension.so").read_bytes())


def compress(root: BuildRoot, archive: bytes) -> bytes:
    """The ramdisk as gzip, by the locked gzip: another zlib would give other bytes for the same archive."""
    (root.work / "ramdisk").write_bytes(archive)
    root.run("ramdisk", ["gzip", "--best", "--no-name", f"/{WORK}/ramdisk"])
    return (root.work / "ramdisk.gz").read_bytes()


def _lay_out(root: BuildRoot, files: Iterable[PackageFile]) -> None:
    tree = root.work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    for file in files:
        path = tree / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
