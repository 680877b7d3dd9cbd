"""The two ramdisks (DESIGN section 8): init, Python and libraries in the first, the application in the second."""

import ast
import hashlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pinaivu_image.compilation import EXTENSION_SOURCE, compile_bytecode, compile_extension, compress
from pinaivu_image.contents import APPLICATION, FOLDERS, INIT, LIBRARIES, LINKS
from pinaivu_image.deb import PackageFile
from pinaivu_image.errors import InputError, LockError
from pinaivu_image.inputs import APPLICATION_INPUTS, BOOT_INPUTS, BuildInput, BuildInputs, encode_inputs
from pinaivu_image.kernel import CONFIGURATION
from pinaivu_image.lock import ImageLock
from pinaivu_image.selection import FILE, PROGRAM, application_files, boot_files, wheel_content, wheel_files
from pinaivu_image.workshop import Workshop
from pinaivu_shared.eif.cpio import PADDING_BYTES, CpioEntry, with_parents, write_cpio

OURS: Final = "pinaivu"
OUR_INIT: Final = "pinaivu-init"
"""The names of this checkout's parts among the inputs: what the second ramdisk has of it, and what the first has."""


@dataclass(kw_only=True)
class Contents:
    """A ramdisk in the making: its files by path, each with the name of the input it came from."""

    inputs_path: str
    inputs: list[BuildInput] = field(default_factory=list)
    files: dict[str, PackageFile] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    folders: tuple[CpioEntry, ...] = ()

    def add(self, origin: str, files: Iterable[PackageFile], *, below: str = "") -> None:
        """Take files of one input; InputError where another brought the same path, since chance would decide."""
        for file in files:
            path = f"{below}/{file.path}" if below else file.path
            if path in self.files:
                raise InputError(f"{path} is brought by {self.origins[path]} and by {origin}")
            self.files[path], self.origins[path] = file._replace(path=path), origin

    def add_bytecode(self, compiled: Iterable[PackageFile]) -> None:
        """Take `.pyc` files, each of the input of its source."""
        for file in compiled:
            folder, _, name = file.path.rpartition("/__pycache__/")
            self.add(self.origins[f"{folder}/{name.split('.')[0]}.py"], [file])

    def archive(self) -> bytes:
        """The cpio archive, with the list of inputs in it."""
        listed = encode_inputs(BuildInputs(inputs=tuple(self.inputs), files=self.origins))
        entries = [CpioEntry(path=file.path, mode=file.mode, data=file.data) for file in self.files.values()]
        entries.append(CpioEntry(path=self.inputs_path, mode=FILE, data=listed))
        return write_cpio(with_parents([*entries, *self.folders]))


def boot_ramdisk(workshop: Workshop) -> bytes:
    """The first ramdisk, compressed."""
    lock, cache, source = workshop.lock, workshop.cache, workshop.source
    init = PackageFile("init", PROGRAM, (source / INIT).read_bytes())
    folders = tuple(CpioEntry(path=name, mode=stat.S_IFDIR | 0o755) for name in FOLDERS)
    inputs = [*_locked_inputs(lock), _source_input(OUR_INIT, [init])]
    contents = Contents(inputs_path=BOOT_INPUTS, inputs=inputs, folders=folders)
    for deb in lock.boot:
        contents.add(deb.name, boot_files(deb, cache))
    for wheel in lock.wheels:
        contents.add(wheel.name, wheel_files(wheel, cache), below=LIBRARIES)
    links = (PackageFile(name, stat.S_IFLNK | 0o777, target.encode()) for name, target in LINKS.items())
    contents.add(OUR_INIT, [init, *links])
    return _pack("ramdisk 1", workshop, contents)


def application_ramdisk(workshop: Workshop, overlay: Mapping[str, bytes]) -> bytes:
    """The second ramdisk, compressed. `overlay` replaces or adds files of the import folder, for images of tests."""
    lock, cache, source = workshop.lock, workshop.cache, workshop.source
    libraries = (
        file._replace(path=f"{LIBRARIES}/{file.path}") for wheel in lock.wheels for file in wheel_content(wheel, cache)
    )
    extension = compile_extension(workshop.root, source, libraries)
    files = {file.path: file for file in application_files(source)}
    files |= {path: PackageFile(path, FILE, data) for path, data in overlay.items()}
    extension_source = PackageFile(EXTENSION_SOURCE, FILE, (source / EXTENSION_SOURCE).read_bytes())
    inputs = [_source_input(OURS, [*files.values(), extension_source])]
    contents = Contents(inputs_path=APPLICATION_INPUTS, inputs=inputs)
    contents.add(OURS, [*files.values(), extension], below=APPLICATION)
    return _pack("ramdisk 2", workshop, contents)


def command_line(source: Path) -> bytes:
    """The kernel's command line, as `init.py` of this checkout demands it; LockError where there is none."""
    try:
        init = ast.parse((source / INIT).read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise LockError(f"{source} is no checkout of Pinaivu: {INIT}: {error}") from error
    for node in init.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="COMMAND_LINE")], value=ast.Constant(value=str(text))):
                return text.encode()
    raise LockError(f"{source / INIT} has no COMMAND_LINE")


def _pack(name: str, workshop: Workshop, contents: Contents) -> bytes:
    with workshop.reporter.step(f"compiling bytecode of {name}", 1):
        contents.add_bytecode(compile_bytecode(workshop.root, contents.files.values()))
    packed = compress(workshop.root, contents.archive())
    return packed + bytes(-len(packed) % PADDING_BYTES)


def _locked_inputs(lock: ImageLock) -> list[BuildInput]:
    """Everything but our own source; the kernel and the compilers count as inputs of the first ramdisk."""
    kernel_configuration = hashlib.sha256(CONFIGURATION.read_bytes()).hexdigest()
    return [
        *(BuildInput(kind="deb", name=deb.name, version=deb.version, sha256=deb.sha256) for deb in lock.boot),
        *(BuildInput(kind="toolchain", name=deb.name, version=deb.version, sha256=deb.sha256) for deb in lock.build),
        *(BuildInput(kind="wheel", name=one.name, version=one.version, sha256=one.sha256) for one in lock.wheels),
        BuildInput(kind="kernel-source", name=lock.kernel.name, version=lock.kernel.version, sha256=lock.kernel.sha256),
        BuildInput(kind="kernel-config", name=CONFIGURATION.name, version="", sha256=kernel_configuration),
    ]


def _source_input(name: str, files: Iterable[PackageFile]) -> BuildInput:
    """Our own files as one input: SHA-256 over their paths and hashes."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.path} {hashlib.sha256(file.data).hexdigest()}\n".encode())
    return BuildInput(kind="source", name=name, version="", sha256=digest.hexdigest())
