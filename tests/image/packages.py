"""Tiny Debian packages and wheels, and locks that name them."""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pinaivu_image.contents import BOOT_FILES, BUILD_PACKAGES, KERNEL_SOURCE, SUITE
from pinaivu_image.fetch import InputCache
from pinaivu_image.lock import Deb, ImageLock, Wheel
from pinaivu_image.progress import SilentReporter, Step

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}


class Listener(SilentReporter):
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Step]:
        self.said.append(text)
        with super().step(text, total) as step:
            yield step

    def say(self, text: str) -> None:
        self.said.append(text)


def entry(name: str, *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    """A tar entry as a maintainer, or somebody worse, could write it."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    return info


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for info, content in entries:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return written.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    """Members behind headers of 60 characters, each padded to an even length."""
    header = "{name:<16}{time:<12}{uid:<6}{gid:<6}{mode:<8}{size:<10}`\n"
    raw = b"!<arch>\n"
    for name, content in members:
        raw += header.format(name=name, time=0, uid=0, gid=0, mode="100644", size=len(content)).encode()
        raw += content + b"\n" * (len(content) % 2)
    return raw


def package(data: bytes, compression: str = "") -> bytes:
    """A .deb around a data archive."""
    compressed = COMPRESS[compression](data)
    return ar(("debian-binary", b"2.0\n"), ("control.tar", tar()), (f"data.tar{compression}", compressed))


def package_of(files: Mapping[str, bytes]) -> bytes:
    """A .deb with these plain files."""
    return package(tar(*((entry(f"./{path}"), content) for path, content in files.items())))


def wheel_bytes(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return written.getvalue()


def deb(name: str, raw: bytes = b"", *, version: str = "1.0-1") -> Deb:
    """The lock's item for a package with these bytes."""
    path = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
    sha256 = hashlib.sha256(raw).hexdigest()
    return Deb(name=name, version=version, archive="debian", path=path, size=max(len(raw), 1), sha256=sha256)


def wheel(name: str, raw: bytes = b"", *, version: str = "1.0") -> Wheel:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Wheel(name=name, version=version, filename=filename, sha256=hashlib.sha256(raw).hexdigest())


def lock() -> ImageLock:
    """A lock that fits this checkout; the packages in it are empty."""
    return ImageLock(
        version=1,
        suite=SUITE,
        kernel=deb(KERNEL_SOURCE),
        build=tuple(deb(name) for name in BUILD_PACKAGES),
        boot=tuple(deb(name) for name in BOOT_FILES),
        wheels=(wheel("trio"),),
    )


def cached(folder: Path, *contents: bytes) -> InputCache:
    """A cache that has these inputs."""
    cache = InputCache(folder)
    cache.folder.mkdir(parents=True, exist_ok=True)
    for content in contents:
        cache.path(hashlib.sha256(content).hexdigest()).write_bytes(content)
    return cache
