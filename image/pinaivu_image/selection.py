"""Which files of packages, wheels and of this checkout go into the ramdisks."""

import fnmatch
import io
import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pinaivu_image.contents import APPLICATION_FILES, APPLICATION_PACKAGES, BOOT_FILES, BUILD_ONLY, LEFT_OUT
from pinaivu_image.deb import PackageFile, read_deb, require_inside
from pinaivu_image.errors import InputError, LockError
from pinaivu_image.fetch import InputCache
from pinaivu_image.lock import Deb, Wheel

_LEFT_OUT: Final = re.compile("|".join(fnmatch.translate(pattern) for pattern in LEFT_OUT))
_FOREIGN: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, NotImplementedError, RuntimeError
)  # fmt: skip
"""What the standard library raises over a broken archive, or an encrypted one."""

FILE: Final = stat.S_IFREG | 0o644
PROGRAM: Final = stat.S_IFREG | 0o755


def boot_files(deb: Deb, cache: InputCache) -> Iterator[PackageFile]:
    """What the image takes of a Debian package, its copyright included; LockError where a pattern finds nothing.

    A module that could be started is a module like any other there.
    """
    patterns = BOOT_FILES[deb.name]
    used: set[str] = set()
    for file in read_deb(f"{deb.name} {deb.version}", cache.read(deb)):
        named = [pattern for pattern in patterns if fnmatch.fnmatchcase(file.path, pattern)]
        used.update(named)
        if file.path == f"usr/share/doc/{deb.name}/copyright" or (named and not _LEFT_OUT.match(file.path)):
            yield file._replace(mode=FILE) if file.path.endswith(".py") else file
    unused = set(patterns) - used
    if unused:
        raise LockError(f"{deb.name} {deb.version} has no file {', '.join(sorted(unused))}")


def wheel_files(wheel: Wheel, cache: InputCache) -> Iterator[PackageFile]:
    """What the image takes of a wheel; paths are relative to the folder that Python imports from."""
    return (file for file in wheel_content(wheel, cache) if not _LEFT_OUT.match(f"/{file.path}"))


def wheel_content(wheel: Wheel, cache: InputCache) -> Iterator[PackageFile]:
    """All of a wheel (PEP 427); InputError for one that installs files outside the import folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(cache.read(wheel))) as archive:
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                if not entry.is_dir():
                    yield _wheel_file(wheel, archive, entry)
    except _FOREIGN as error:
        raise InputError(f"{wheel.filename}: cannot be unpacked: {error}") from error


def _wheel_file(wheel: Wheel, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> PackageFile:
    name = require_inside(entry.filename, wheel.filename)
    if name.split("/")[0].endswith(".data"):
        raise InputError(f"{wheel.filename}: {name} belongs outside the import folder, which no image has")
    return PackageFile(name, PROGRAM if name.endswith(".so") else FILE, archive.read(entry))


def application_files(source: Path) -> Iterator[PackageFile]:
    """Our own packages in a checkout: modules and the certificates beside them, nothing else that lies there."""
    for package in APPLICATION_PACKAGES:
        folder = source / package
        if not (folder / "__init__.py").is_file():
            raise LockError(f"{source} is no checkout of Pinaivu: {package} is missing")
        for path in sorted(folder.rglob("*")):
            place = str(path.relative_to(folder.parent))
            if path.is_file() and matches(path.name, APPLICATION_FILES) and place not in BUILD_ONLY:
                yield PackageFile(place, FILE, path.read_bytes())


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file name fits one of these patterns of `fnmatch`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
