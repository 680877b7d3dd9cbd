"""Fetches locked inputs into a cache of files named by their SHA-256. What does not match its hash is never kept."""

import hashlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pinaivu_image.contents import PYTHON
from pinaivu_image.errors import InputError, MirrorError, MissingInputError
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


class InputCache:
    """A folder of verified inputs, shared by all builds of this user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inputs"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the input of this hash is, or will be."""
        return self.folder / sha256

    def keep(self, content: Path, *, name: str, sha256: str) -> Path:
        """Move a file in, if it is what the lock says; else InputError."""
        with content.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise InputError(f"{name}: SHA-256 is {found}, locked is {sha256}: the mirror gave another file")
        return content.replace(self.path(sha256))


def fetch_debs(debs: Sequence[Deb], mirrors: Mirrors | None, cache: InputCache, reporter: Reporter) -> None:
    """Have every package in the cache. `mirrors` None where all must be there already."""
    missing = [deb for deb in debs if not cache.path(deb.sha256).exists()]
    if not missing:
        return
    if mirrors is None:
        raise MirrorError(f"{missing[0].name} {missing[0].version} is not in the cache, and no mirror is known")
    with reporter.step(f"fetching {len(missing)} Debian packages", sum(deb.size for deb in missing)) as step:
        for deb in missing:
            _fetch(f"{mirrors[deb.archive]}/{deb.path}", deb, cache, step)


def _fetch(url: str, deb: Deb, cache: InputCache, step: Step) -> None:
    with tempfile.NamedTemporaryFile(dir=cache.folder, delete=False) as staged:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - what apt is configured with
                while chunk := answer.read(CHUNK_BYTES):
                    staged.write(chunk)
                    step.advance(len(chunk))
            staged.flush()
            cache.keep(Path(staged.name), name=f"{deb.name} {deb.version}", sha256=deb.sha256)
        except urllib.error.HTTPError as error:
            if error.code in GONE:
                raise MissingInputError(deb.name, deb.version) from error
            raise MirrorError(f"{url}: {error}") from error
        except OSError as error:
            raise MirrorError(f"{url}: {error}") from error
        finally:
            Path(staged.name).unlink(missing_ok=True)


def fetch_wheels(wheels: Sequence[Wheel], cache: InputCache, reporter: Reporter) -> None:
    """Have every wheel in the cache, through pip and the package index that this machine is configured with."""
    missing = [wheel for wheel in wheels if not cache.path(wheel.sha256).exists()]
    if not missing:
        return
    requirements = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in missing]
    with reporter.step(f"fetching {len(missing)} wheels", 1), tempfile.TemporaryDirectory(dir=cache.folder) as folder:
        download_wheels(requirements, Path(folder))
        for wheel in missing:
            path = Path(folder) / wheel.filename
            if not path.exists():
                raise MissingInputError(wheel.name, wheel.version)
            cache.keep(path, name=wheel.filename, sha256=wheel.sha256)


def download_wheels(requirements: Iterable[str], folder: Path) -> None:
    """Have pip fetch wheels for the image's Python by requirement lines with hashes; MirrorError with pip's words."""
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    platforms = [f"--platform={platform}" for platform in WHEEL_PLATFORMS]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={PYTHON}", *platforms, f"--dest={folder}", f"--requirement={listed}",
    ]  # fmt: skip
    ended = subprocess.run(  # noqa: S603 - our own pip
        command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if ended.returncode:
        raise MirrorError(f"pip download: {ended.stderr.strip()[-2000:]}")
