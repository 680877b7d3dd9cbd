"""A kernel is built once for each source, configuration and build root, and every option asked for is in effect."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from tests.image.packages import Listener, cached, deb, lock, package_of

from pinaivu_image.build_root import BuildRoot
from pinaivu_image.errors import BuildError
from pinaivu_image.kernel import CONFIGURATION, build_kernel, kernel_key
from pinaivu_image.lock import ImageLock
from pinaivu_image.workshop import Workshop

OTHER: dict[str, Callable[[ImageLock], ImageLock]] = {
    "source": lambda lock: msgspec.structs.replace(lock, kernel=deb("linux-source-6.12", b"other")),
    "a build package": lambda lock: msgspec.structs.replace(lock, build=(deb("bc", b"other"), *lock.build[1:])),
    "more build packages": lambda lock: msgspec.structs.replace(lock, build=(*lock.build, deb("other", b"other"))),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_input_of_the_kernel_is_another_kernel(name: str) -> None:
    assert kernel_key(OTHER[name](lock()), b"CONFIG_A=y\n") != kernel_key(lock(), b"CONFIG_A=y\n")


def test_another_configuration_is_another_kernel() -> None:
    assert kernel_key(lock(), b"CONFIG_A=y\n") != kernel_key(lock(), b"CONFIG_A=n\n")


def test_what_goes_into_ramdisks_does_not_matter_to_the_kernel() -> None:
    other = msgspec.structs.replace(lock(), boot=(), wheels=())
    assert kernel_key(other, b"") == kernel_key(lock(), b"")


def workshop(tmp_path: Path, source: bytes, listener: Listener) -> Workshop:
    fitting = msgspec.structs.replace(lock(), kernel=deb("linux-source-6.12", source))
    root = BuildRoot(tmp_path / "root", held=0)
    root.work.mkdir(parents=True)
    return Workshop(lock=fitting, source=tmp_path, cache=cached(tmp_path, source), root=root, reporter=listener)


def keep_kernel(shop: Workshop, folder: Path, content: bytes, listed: str | None) -> Path:
    """A kernel in the cache, with what is written down beside it."""
    image = folder / f"{kernel_key(shop.lock, CONFIGURATION.read_bytes())}.bzImage"
    image.write_bytes(content)
    if listed is not None:
        image.with_name(f"{image.name}.sha256").write_text(listed)
    return image


def test_a_kernel_that_was_built_is_kept(tmp_path: Path) -> None:
    listener = Listener()
    shop = workshop(tmp_path, b"", listener)
    keep_kernel(shop, tmp_path, b"kernel", f"{hashlib.sha256(b'kernel').hexdigest()}  name\n")
    assert build_kernel(shop, kept=tmp_path, jobs=1) == b"kernel"
    assert listener.said == ["kernel 1.0-1 is built already"]


class MakingRoot(BuildRoot):
    """A build root whose compiler is quick."""

    def run(self, step: str, command: Sequence[str], *, on_line: Callable[[str], None] = lambda _: None) -> None:
        (self.work / "bzImage").write_bytes(b"compiled")


@pytest.mark.parametrize(
    "listed",
    [None, "", "0" * 64 + "  name\n", hashlib.sha256(b"kernel").hexdigest().upper(), "\xff"],
    ids=["nothing", "empty", "another hash", "another spelling", "no hash"],
)
def test_a_kernel_that_is_not_what_was_written_down_is_built_again(tmp_path: Path, listed: str | None) -> None:
    listener, source = Listener(), package_of({"usr/src/linux.tar.xz": b""})
    shop = workshop(tmp_path, source, listener)
    making = dataclasses.replace(shop, root=MakingRoot(shop.root.folder, held=0))
    image = keep_kernel(shop, tmp_path, b"kernel", listed)
    assert build_kernel(making, kept=tmp_path, jobs=1) == b"compiled"
    assert listener.said == [
        f"{image} is not what {image.name}.sha256 beside it says: it is built again",
        "compiling the kernel, 1.0-1",
    ]
    assert build_kernel(shop, kept=tmp_path, jobs=1) == b"compiled"
    assert listener.said[2:] == ["kernel 1.0-1 is built already"]
    assert not list(tmp_path.glob("*.new"))


def test_a_package_without_a_source_is_refused(tmp_path: Path) -> None:
    shop = workshop(tmp_path, package_of({"usr/src/README": b""}), Listener())
    with pytest.raises(BuildError, match=r"kernel: linux-source-6\.12 1\.0-1 has no source in it"):
        build_kernel(shop, kept=tmp_path, jobs=1)


def test_the_configuration_names_each_option_once() -> None:
    options = [line.partition("=")[0] for line in CONFIGURATION.read_text().splitlines() if line.startswith("CONFIG_")]
    assert len(options) == len(set(options)) > 20
