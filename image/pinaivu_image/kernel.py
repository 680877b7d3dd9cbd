"""The kernel: Debian's source, our configuration, the locked compiler. Built once for each of these, then kept."""

import hashlib
from pathlib import Path
from typing import Final

from pinaivu_image.build_root import root_key
from pinaivu_image.deb import read_deb
from pinaivu_image.errors import BuildError
from pinaivu_image.fetch import InputCache
from pinaivu_image.lock import ImageLock
from pinaivu_image.workshop import Workshop

CONFIGURATION: Final = Path(__file__).with_name("kernel.config")
COMPILE_STEPS: Final = 1700
"""About as many lines as the compilation prints; it only moves the bar."""

BUILD: Final = """\
set -eu
tar --extract --file=source.tar.xz --strip-components=1 --no-same-owner --one-top-level=linux
cd linux
make allnoconfig KCONFIG_ALLCONFIG=/build/kernel.config
grep -E '^CONFIG_[A-Z0-9_]+=' /build/kernel.config | while read -r line; do
  grep -Fxq "$line" .config || { echo "kernel.config: $line is not in effect: a dependency is missing"; exit 1; }
done
make -j"$1" bzImage KBUILD_BUILD_TIMESTAMP=@1 KBUILD_BUILD_VERSION=1 KBUILD_BUILD_USER=pinaivu KBUILD_BUILD_HOST=pinaivu
cp arch/x86/boot/bzImage /build/bzImage
cp .config /build/config
"""


def kernel_key(lock: ImageLock, configuration: bytes) -> str:
    """Names one kernel: SHA-256 over the source, the configuration, the build root and the steps above."""
    parts = [lock.kernel.sha256, hashlib.sha256(configuration).hexdigest(), root_key(lock.build), BUILD]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def build_kernel(workshop: Workshop, *, kept: Path, jobs: int) -> bytes:
    """The bzImage, out of `kept` where it was built before. Minutes, and 2 GB of disk, where not. BuildError."""
    lock, root, reporter = workshop.lock, workshop.root, workshop.reporter
    configuration = CONFIGURATION.read_bytes()
    image = kept / f"{kernel_key(lock, configuration)}.bzImage"
    if image.exists():
        kernel = image.read_bytes()
        if _listed_hash(image) == hashlib.sha256(kernel).hexdigest():
            reporter.say(f"kernel {lock.kernel.version} is built already")
            return kernel
        reporter.say(f"{image} is not what {_hash_file(image).name} beside it says: it is built again")
    (root.work / "kernel.config").write_bytes(configuration)
    (root.work / "source.tar.xz").write_bytes(_source(lock, workshop.cache))
    with reporter.step(f"compiling the kernel, {lock.kernel.version}", COMPILE_STEPS) as step:
        root.run("kernel", ["sh", "-c", BUILD, "sh", str(jobs)], on_line=lambda _: step.advance())
    kernel = (root.work / "bzImage").read_bytes()
    kept.mkdir(parents=True, exist_ok=True)
    _keep(image, kernel)
    _keep(_hash_file(image), f"{hashlib.sha256(kernel).hexdigest()}  {image.name}\n".encode())
    return kernel


def _hash_file(image: Path) -> Path:
    """As `sha256sum --check` reads it. It tells a damaged kernel; who may write to the cache can write both."""
    return image.with_suffix(".bzImage.sha256")


def _listed_hash(image: Path) -> str | None:
    """None for a kernel of which nobody wrote down what it was."""
    listed = _hash_file(image)
    return listed.read_text("ascii", "replace").partition(" ")[0] if listed.exists() else None


def _keep(path: Path, content: bytes) -> None:
    staged = path.with_suffix(".new")
    staged.write_bytes(content)
    staged.replace(path)


def _source(lock: ImageLock, cache: InputCache) -> bytes:
    for file in read_deb(f"{lock.kernel.name} {lock.kernel.version}", cache.read(lock.kernel)):
        if file.path.endswith(".tar.xz"):
            return file.data
    raise BuildError("kernel", f"{lock.kernel.name} {lock.kernel.version} has no source in it")
