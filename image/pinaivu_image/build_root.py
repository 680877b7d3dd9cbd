"""The build root: the locked compiler and tools, unpacked into a folder in which every step of a build runs.

So neither the machine's compiler nor its folders, locale, time zone, umask or network reach an image: inside, the root
is `/`, the work folder is always `/build`, and the environment is the one below. Entering needs user namespaces or
root; a root without namespaces, in a container, still has the network inside.
"""

import hashlib
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

from pinaivu_image.deb import PackageFile, read_deb
from pinaivu_image.errors import BuildError, InputError
from pinaivu_image.exclusion import alone
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
FOLDERS: Final = ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "tmp", WORK)
LINKS: Final[Mapping[str, str]] = {
    "bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
    "usr/bin/sh": "dash", "usr/bin/awk": "gawk", "usr/bin/gcc": "gcc-14", "usr/bin/cpp": "cpp-14",
}  # fmt: skip
"""What maintainer scripts and base-files would make."""

TAIL_LINES: Final = 30
_NAMESPACES: Final = ("--user", "--map-root-user", "--mount", "--net")
_MOUNT: Final = 'mount --bind /dev/null "$1/dev/null"'


def root_key(debs: Sequence[Deb]) -> str:
    """Names one build root: SHA-256 over its packages and all that is set here."""
    parts = [*(deb.sha256 for deb in debs), repr((dict(LINKS), FOLDERS, dict(ENVIRONMENT)))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class BuildRoot:
    """An unpacked build root. `work` is the folder that it sees as `/build`; `held` is the descriptor of its lock."""

    def __init__(self, folder: Path, *, held: int) -> None:
        self.folder, self.work, self._held = folder, folder / WORK, held

    def run(self, step: str, command: Sequence[str], *, on_line: Callable[[str], None] = lambda _: None) -> None:
        """Run a command inside, from `/build`; each line it prints goes to `on_line`. BuildError has the last ones."""
        tail: list[str] = []
        with subprocess.Popen(  # noqa: S603 - steps of the build, and nothing that anyone else wrote
            [*self._entering, "sh", "-c", f'cd /{WORK} && exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(ENVIRONMENT),
            cwd="/",
            umask=0o022,
            pass_fds=(self._held,),
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                tail = [*tail[1 - TAIL_LINES :], line]
                on_line(line)
        if process.returncode:
            raise BuildError(step, f"exit status {process.returncode}\n{''.join(tail)}")

    def clear(self) -> None:
        """Empty the work folder."""
        if self.work.exists():
            shutil.rmtree(self.work)
        self.work.mkdir()
        self.work.chmod(0o755)

    @cached_property
    def _entering(self) -> list[str]:
        if platform.machine() != "x86_64":
            raise BuildError("build root", f"images are built on x86_64, and this is {platform.machine()}")
        unshare, place = shutil.which("unshare"), str(self.folder.absolute())
        if unshare is not None:
            namespaces = [unshare, *_NAMESPACES]
            inside = [*namespaces, _program("sh"), "-c"]
            allowed = subprocess.run([*inside, _MOUNT, "sh", place], check=False, capture_output=True)  # noqa: S603
            if allowed.returncode == 0:
                return [*inside, f'{_MOUNT} && exec chroot "$@"', "sh", place]
        if os.geteuid() == 0:
            self._make_null_device()
            return [_program("chroot"), place]
        reason = "unshare (util-linux) is missing" if unshare is None else "user namespaces are not allowed here"
        raise BuildError(
            "build root", f"cannot be entered: {reason}; change that, or build as root, in a container say"
        )

    def _make_null_device(self) -> None:
        """A container's root may make a device where it may not mount one."""
        null = self.folder / "dev/null"
        if null.is_char_device():
            return
        staged = null.with_suffix(".new")
        staged.unlink(missing_ok=True)
        try:
            os.mknod(staged, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError as error:
            reason = "neither user namespaces nor mknod are allowed here (a rootless container?)"
            raise BuildError("build root", f"cannot be entered: {reason}") from error
        staged.chmod(0o666)
        staged.replace(null)


@contextmanager
def build_root(cache: Path, debs: Sequence[Deb], inputs: InputCache, reporter: Reporter) -> Iterator[BuildRoot]:
    """The root for these packages, unpacked at its first use and kept; its work folder is empty, and ours alone."""
    folder = cache / "roots" / root_key(debs)
    with alone(folder.with_suffix(".lock"), reporter) as held:
        if not folder.exists():
            with reporter.step(f"unpacking {len(debs)} packages of the build root", len(debs)) as step:
                _unpack(folder, _files(debs, inputs, step.advance))
        root = BuildRoot(folder, held=held)
        root.clear()
        try:
            yield root
        finally:
            shutil.rmtree(root.work, ignore_errors=True)


def _files(debs: Sequence[Deb], inputs: InputCache, unpacked: Callable[[], None]) -> Iterator[PackageFile]:
    for deb in debs:
        yield from read_deb(f"{deb.name} {deb.version}", inputs.read(deb))
        unpacked()


def _unpack(folder: Path, files: Iterator[PackageFile]) -> None:
    """Make the root in one step: what an interrupted build left behind is no root."""
    staged = folder.with_suffix(".new")
    if staged.exists():
        shutil.rmtree(staged)
    for name in FOLDERS:
        (staged / name).mkdir(parents=True)
    (staged / "dev/null").touch()
    for name in ("bin", "sbin", "lib", "lib64"):
        (staged / name).symlink_to(LINKS[name])
    for file in files:
        _write(staged, file)
    for name, target in LINKS.items():
        if not (staged / name).is_symlink():
            (staged / name).symlink_to(target)
    staged.replace(folder)


def _write(root: Path, file: PackageFile) -> None:
    path = root / file.path
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{file.path} lies behind a link that leads out of the build root")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if stat.S_ISLNK(file.mode):
        path.symlink_to(os.fsdecode(file.data))
        return
    path.write_bytes(file.data)
    path.chmod(stat.S_IMODE(file.mode))


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BuildError("build root", f"{name} is missing on this machine")
    return found
