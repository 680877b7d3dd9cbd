"""Whether what a build takes of a checkout is what its git commit has: only then can others rebuild the image.

Contents are compared, not what git remembers of files: a flag in its index hides no change, and a file that git
ignores counts where the build takes it.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinaivu_image.contents import APPLICATION_FILES, APPLICATION_PACKAGES
from pinaivu_image.errors import CheckoutError
from pinaivu_image.selection import matches

BUILDER: Final = Path(__file__).parent
BUILDER_PLACE: Final = "image/pinaivu_image"
BUILDER_FILES: Final = ("*.py", "kernel.config")
LOCK_PLACE: Final = f"{BUILDER_PLACE}/image.lock.json"
PROJECT: Final = "pyproject.toml"
UNKNOWN: Final = "whether {} is as its commit has it cannot be said"


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckoutState:
    """The commit that is checked out, and what a build takes that is not as it has it, sorted."""

    commit: str
    changed: tuple[str, ...]


def compare_with_commit(source: Path, lock: Path) -> CheckoutState | None:
    """Compare with HEAD; None where `source` is no repository's root, or git is not there. CheckoutError.

    The builder that runs and the lock that is used stand for those of the checkout, wherever they lie.
    """
    git = shutil.which("git")
    if git is None or not (source / ".git").exists():
        return None
    commit = _git(git, source, "rev-parse", "--verify", "HEAD^{commit}").strip()
    committed = {
        place: blob for place, blob in _blobs(_git(git, source, "ls-tree", "-r", "-z", commit)) if _taken(place)
    }
    try:
        present = dict(_present(source, lock))
        changed = [
            _shown(present.get(place), source) or place
            for place in committed.keys() | present.keys()
            if place not in present or _blob(present[place], like=committed.get(place, "")) != committed.get(place)
        ]
    except OSError as error:
        raise CheckoutError(f"{UNKNOWN.format(source)}: {error.filename}: {error.strerror}") from error
    return CheckoutState(commit=commit, changed=tuple(sorted(changed)))


def _taken(place: str) -> bool:
    folder, _, name = place.rpartition("/")
    ours = any(place.startswith(f"{package}/") for package in APPLICATION_PACKAGES)
    return (
        place in {LOCK_PLACE, PROJECT}
        or (folder == BUILDER_PLACE and matches(name, BUILDER_FILES))
        or (ours and matches(name, APPLICATION_FILES))
    )


def _present(source: Path, lock: Path) -> Iterator[tuple[str, Path]]:
    """Each place in the checkout with the file that stands there for this build."""
    for package in APPLICATION_PACKAGES:
        for path in (source / package).rglob("*"):
            if path.is_file() and matches(path.name, APPLICATION_FILES):
                yield path.relative_to(source).as_posix(), path
    for path in BUILDER.iterdir():
        if path.is_file() and matches(path.name, BUILDER_FILES):
            yield f"{BUILDER_PLACE}/{path.name}", path
    yield LOCK_PLACE, lock
    if (source / PROJECT).is_file():
        yield PROJECT, source / PROJECT


def _blobs(listed: str) -> Iterator[tuple[str, str]]:
    """Path and object name out of `MODE TYPE OBJECT<tab>PATH`, each ended by NUL (git-ls-tree(1))."""
    for line in listed.split("\0")[:-1]:
        described, _, path = line.partition("\t")
        yield path, described.split(" ")[2]


def _blob(path: Path, *, like: str) -> str:
    """The object name of a file's content: SHA-1, or SHA-256 in a repository of that kind (gitformat-pack(5))."""
    content = path.read_bytes()
    algorithm = "sha256" if len(like) == hashlib.sha256().digest_size * 2 else "sha1"
    return hashlib.new(algorithm, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _shown(path: Path | None, source: Path) -> str:
    """As people know it: below the checkout, or where else it lies; nothing for what is not there."""
    if path is None:
        return ""
    return os.path.relpath(path, source) if path.resolve().is_relative_to(source.resolve()) else str(path)


def _git(git: str, source: Path, *arguments: str) -> str:
    """What a git command prints that runs no hook and reads no index."""
    ended = subprocess.run(  # noqa: S603 - reads objects only
        [git, "-C", str(source), *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        env=_environment(os.environ),
    )
    if ended.returncode:
        raise CheckoutError(f"{UNKNOWN.format(source)}: git: {ended.stderr.strip()}")
    return ended.stdout


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Without those by which git would look at another repository, and without replaced objects (git-replace(1))."""
    ours = {name: value for name, value in variables.items() if not name.startswith("GIT_")}
    return ours | {"GIT_NO_REPLACE_OBJECTS": "1"}
