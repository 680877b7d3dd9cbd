"""Fetches locked inputs into a cache of files named by their SHA-256. What does not match its hash is never kept."""

import hashlib
import http.client
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from pinaivu_image.contents import PYTHON
from pinaivu_image.errors import InputError, MirrorError, MissingInputError
from pinaivu_image.exclusion import alone
from pinaivu_image.lock import Deb, Wheel
from pinaivu_image.mirrors import Mirrors
from pinaivu_image.progress import Reporter, Step

CHUNK_BYTES: Final = 1 << 20
TIMEOUT_SECONDS: Final = 120
GONE: Final = frozenset({403, 404, 410})
WHEEL_PLATFORMS: Final = (
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_17_x86_64",
)
_NO_SUCH_WHEEL: Final = re.compile(r"requirement (\S+?)==(\S+) \(from versions: (?!none\))")
"""pip knows the package, and not the version. Where it knows no version at all, the index may be at fault."""


class InputCache:
    """A folder of inputs by their hashes, shared by all builds of this user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inputs"

    def path(self, sha256: str) -> Path:
        """Where the input of this hash is, or will be."""
        return self.folder / sha256

    def missing(self, inputs: Iterable[Deb | Wheel]) -> list[Deb | Wheel]:
        """Which of these are not here."""
        return [one for one in inputs if not self.path(one.sha256).exists()]

    def read(self, one: Deb | Wheel) -> bytes:
        """An input's bytes. The hash is checked at every use: a disk, or somebody, may have changed the file."""
        path = self.path(one.sha256)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != one.sha256:
            raise InputError(f"{path}: not what was fetched for {one.name} {one.version} any more: delete it")
        return content

    @contextmanager
    def filling(self, reporter: Reporter) -> Iterator[None]:
        """Be the only one to add to the cache; what an interrupted build left half-fetched is gone."""
        with alone(self.folder / ".lock", reporter):
            for left in self.folder.glob("*.new"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield

    def keep(self, content: Path, *, name: str, sha256: str) -> Path:
        """Move a file in, if it is what the lock says; else InputError."""
        with content.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise InputError(f"{name}: SHA-256 is {found}, locked is {sha256}: the mirror gave another file")
        return content.replace(self.path(sha256))


def fetch_debs(debs: Sequence[Deb], mirrors: Mirrors | None, cache: InputCache, reporter: Reporter) -> None:
    """Have every package in the cache. `mirrors` None where all must be there already."""
    if not cache.missing(debs):
        return
    with cache.filling(reporter):
        missing = [deb for deb in debs if deb in cache.missing(debs)]
        if not missing:
            return
        if mirrors is None:
            one = missing[0]
            raise MirrorError(
                f"{one.name} {one.version} is not in the cache, and this machine's apt names no Debian mirror: "
                "name one with --mirror URL (…/debian, …/debian-security)"
            )
        with reporter.step(f"fetching {len(missing)} Debian packages", sum(deb.size for deb in missing)) as step:
            for deb in missing:
                _fetch(deb, mirrors, cache, step)


def fetch_wheels(wheels: Sequence[Wheel], cache: InputCache, reporter: Reporter) -> None:
    """Have every wheel in the cache, through pip and the package index that this machine is configured with."""
    if not cache.missing(wheels):
        return
    with cache.filling(reporter):
        missing = [wheel for wheel in wheels if wheel in cache.missing(wheels)]
        requirements = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in missing]
        with reporter.step(f"fetching {len(missing)} wheels", 1), staging_folder(cache) as folder:
            download_wheels(requirements, folder)
            for wheel in missing:
                path = folder / wheel.filename
                if not path.exists():
                    raise MissingInputError(wheel.name, wheel.version)
                cache.keep(path, name=wheel.filename, sha256=wheel.sha256)


@contextmanager
def staging_folder(cache: InputCache) -> Iterator[Path]:
    """A folder on the cache's file system, so that files move into the cache in one step."""
    with tempfile.TemporaryDirectory(dir=cache.folder, suffix=".new") as folder:
        yield Path(folder)


def download_wheels(requirements: Iterable[str], folder: Path) -> None:
    """Have pip fetch wheels for the image's Python by requirement lines with hashes; MirrorError with pip's words."""
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    platforms = [f"--platform={platform}" for platform in WHEEL_PLATFORMS]
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps",
        "--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *platforms,
        "--disable-pip-version-check", f"--dest={folder}", f"--requirement={listed}",
    ]  # fmt: skip
    ended = subprocess.run(  # noqa: S603 - our own pip
        command, check=False, capture_output=True, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL
    )
    if ended.returncode:
        gone = _NO_SUCH_WHEEL.search(ended.stderr)
        if gone is not None:
            raise MissingInputError(gone[1], gone[2])
        raise MirrorError(f"pip download: {ended.stderr.strip()[-2000:]}")


def _fetch(deb: Deb, mirrors: Mirrors, cache: InputCache, step: Step) -> None:
    """Fetch from the first mirror that has it. What went wrong at another one counts for more than its absence."""
    failed: list[MirrorError] = []
    for mirror in mirrors[deb.archive]:
        with tempfile.NamedTemporaryFile(dir=cache.folder, suffix=".new", delete=False) as staged:
            try:
                _download(f"{mirror}/{deb.path}", deb, staged, step)
                cache.keep(Path(staged.name), name=f"{deb.name} {deb.version}", sha256=deb.sha256)
            except MirrorError as error:
                failed.append(error)
            else:
                return
            finally:
                Path(staged.name).unlink(missing_ok=True)
    raise next((error for error in failed if not isinstance(error, MissingInputError)), failed[0])


def _download(url: str, deb: Deb, staged: IO[bytes], step: Step) -> None:
    """The whole package and no byte more: a mirror could go on until the disk is full."""
    left = deb.size
    for chunk in _chunks(url, deb):
        left -= len(chunk)
        if left < 0:
            raise InputError(f"{url}: more than the locked {deb.size} bytes: the mirror gave another file")
        staged.write(chunk)
        step.advance(len(chunk))
    if left:
        raise MirrorError(f"{url}: cut off {left} bytes before its end: try again")
    staged.flush()


def _chunks(url: str, deb: Deb) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - http(s), see mirrors
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in GONE:
            raise MissingInputError(deb.name, deb.version) from error
        raise MirrorError(f"{url}: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise MirrorError(f"{url}: {error}") from error
