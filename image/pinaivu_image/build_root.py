"""The build root: the locked compiler and tools, unpacked into a folder in which every step of a build runs.

So neither the machine's compiler nor its folders, locale, time zone or umask reach an image: inside, the root is `/`,
the work folder is always `/build`, and the environment is the one below. Entering needs user namespaces or root.
"""

import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pinaivu_image.deb import read_deb
from pinaivu_image.errors import BuildError
from pinaivu_image.fetch import InputCache
from pinaivu_image.lock import Deb
from pinaivu_image.progress import Reporter

WORK: Final = "build"
ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/bin:/usr/sbin",
    "HOME": f"/{WORK}",
    "LC_ALL": "C",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SOURCE_DATE_EPOCH": "1",
}
LINKS: Final[Mapping[str, str]] = {
    "bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
    "usr/bin/sh": "dash", "usr/bin/awk": "gawk", "usr/bin/gcc": "gcc-14", "usr/bin/cpp": "cpp-14",
}  # fmt: skip
"""What maintainer scripts and base-files would make."""

_NAMESPACES: Final = ("unshare", "--user", "--map-root-user", "--mount")
_ENTER: Final = 'mount --bind /dev/null "$1/dev/null" && exec chroot "$@"'


class BuildRoot:
    """An unpacked build root. `work` is the folder that it sees as `/build`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / WORK

    def run(self, step: str, command: Sequence[str], *, on_line: Callable[[str], None] = lambda _: None) -> None:
        """Run a command inside, from `/build`; each line it prints goes to `on_line`. BuildError has the last ones."""
        tail: list[str] = []
        with subprocess.Popen(  # noqa: S603 - steps of the build, and nothing that anyone else wrote
            [*self._entering(), "sh", "-c", f'cd /{WORK} && exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(ENVIRONMENT),
            umask=0o022,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                tail = [*tail[-30:], line]
                on_line(line)
        if process.returncode:
            raise BuildError(step, f"exit status {process.returncode}\n{''.join(tail)}")

    def clear(self) -> None:
        """Empty the work folder."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        self.work.chmod(0o755)

    def _entering(self) -> list[str]:
        unshare = _which(_NAMESPACES[0])
        namespaces = [unshare, *_NAMESPACES[1:]]
        allowed = subprocess.run([*namespaces, _which("true")], check=False, capture_output=True)  # noqa: S603
        if allowed.returncode == 0:
            return [*namespaces, _which("sh"), "-c", _ENTER, "sh", str(self.folder)]
        if os.geteuid() == 0:
            self._make_null_device()
            return [_which("chroot"), str(self.folder)]
        raise BuildError("build root", "cannot be entered: allow user namespaces, or build as root, in a container say")

    def _make_null_device(self) -> None:
        """A container's root may make a device where it may not mount one."""
        null = self.folder / "dev/null"
        if not null.is_char_device():
            null.unlink()
            os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            null.chmod(0o666)


@contextmanager
def build_root(folder: Path, debs: Sequence[Deb], cache: InputCache, reporter: Reporter) -> Iterator[BuildRoot]:
    """The root for these packages, unpacked at its first use and kept; its work folder is empty, and ours alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = BuildRoot(folder)
        if not folder.exists():
            _unpack(folder, debs, cache, reporter)
        root.clear()
        try:
            yield root
        finally:
            root.clear()


def _unpack(folder: Path, debs: Sequence[Deb], cache: InputCache, reporter: Reporter) -> None:
    staged = folder.with_suffix(".new")
    shutil.rmtree(staged, ignore_errors=True)
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "tmp", WORK):
        (staged / name).mkdir(parents=True)
    (staged / "dev/null").touch()
    for name in ("bin", "sbin", "lib", "lib64"):
        (staged / name).symlink_to(LINKS[name])
    with reporter.step(f"unpacking {len(debs)} packages of the build root", len(debs)) as step:
        for deb in debs:
            for file in read_deb(cache.path(deb.sha256)):
                _write(staged / file.path, file.mode, file.data)
            step.advance()
    for name, target in LINKS.items():
        if not (staged / name).is_symlink():
            (staged / name).symlink_to(target)
    staged.replace(folder)


def _write(path: Path, mode: int, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if stat.S_ISLNK(mode):
        path.symlink_to(os.fsdecode(data))
        return
    path.write_bytes(data)
    path.chmod(stat.S_IMODE(mode))


def _which(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise BuildError("build root", f"{program} is missing on this machine")
    return found
