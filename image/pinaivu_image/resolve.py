"""Makes a lock from what the mirrors have today: apt resolves the packages, pip the wheels. Needs apt."""

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from pinaivu_image.contents import BOOT_FILES, BUILD_PACKAGES, KERNEL_SOURCE, SUITE
from pinaivu_image.errors import LockError, MirrorError, machine_faults
from pinaivu_image.fetch import InputCache, download_wheels, staging_folder
from pinaivu_image.lock import Archive, Deb, ImageLock, Wheel
from pinaivu_image.mirrors import Mirrors
from pinaivu_image.progress import Reporter

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INSTALL: Final = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)
_SUITES: Final[Mapping[Archive, str]] = {
    "debian": f"{SUITE} {SUITE}-updates",
    "debian-security": f"{SUITE}-security",
}


def parse_installed(simulated: str) -> dict[str, str]:
    """Version by name of what `apt-get --simulate install` would install, in its order."""
    return dict(_INSTALL.findall(simulated))


def parse_records(shown: str) -> dict[str, Deb]:
    """What `apt-cache show name=version …` shows, by name; of a package in two archives the first. LockError."""
    found: dict[str, Deb] = {}
    for record in shown.split("\n\n"):
        if record.strip():
            deb = parse_record(record)
            found.setdefault(deb.name, deb)
    return found


def parse_record(record: str) -> Deb:
    """A package out of its fields (deb-control(5)); LockError for a record that is none."""
    fields = dict(line.split(": ", 1) for line in record.splitlines() if ": " in line and not line.startswith(" "))
    path = fields.get("Filename", "")
    archive: Archive = "debian-security" if path.startswith("pool/updates/") else "debian"
    found = {"name": "Package", "version": "Version", "size": "Size", "sha256": "SHA256"}
    stated = {ours: fields.get(theirs) for ours, theirs in found.items()} | {"archive": archive, "path": path}
    try:
        return msgspec.convert(stated, Deb, strict=False)
    except msgspec.ValidationError as error:
        raise LockError(f"apt says of {fields.get('Package', 'a package')} what no lock can hold: {error}") from error


class PackageIndex:
    """apt in a folder of its own: neither the packages of this machine play a part, nor its sources or preferences.

    What it is configured with otherwise (a proxy, say) does. The index is checked by Debian's signature.
    """

    def __init__(self, folder: Path, mirrors: Mirrors) -> None:
        if not KEYRING.exists():
            raise MirrorError(f"{KEYRING} is missing: install debian-archive-keyring")
        for name in ("sources", "preferences", "lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        self._options = [
            f"-oDir::Etc::SourceList={folder}/none", f"-oDir::Etc::SourceParts={folder}/sources",
            f"-oDir::Etc::Preferences={folder}/none", f"-oDir::Etc::PreferencesParts={folder}/preferences",
            f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache", "-oDir::State::Status=/dev/null",
            "-oAPT::Architecture=amd64", "-oAPT::Architectures=amd64", "-oAPT::Install-Recommends=false",
        ]  # fmt: skip
        for archive, (url, *_) in mirrors.items():
            (folder / "sources" / f"{archive}.sources").write_text(
                f"Types: deb\nURIs: {url}\nSuites: {_SUITES[archive]}\nComponents: main\nSigned-By: {KEYRING}\n",
                encoding="utf-8",
            )
        _run(["apt-get", *self._options, "update", "--quiet", "--error-on=any"])

    def closure(self, names: Sequence[str]) -> dict[str, str]:
        """Version by name of these packages and all that they depend on; LockError where one has no version."""
        versions = parse_installed(_run(["apt-get", *self._options, "--simulate", "install", *names]))
        for name in names:
            if name not in versions:
                raise LockError(f"apt would install no package {name}")
        return versions

    def describe(self, versions: Mapping[str, str]) -> dict[str, Deb]:
        """Where these packages are, and their hashes, out of the signed index; LockError where one is not there."""
        wanted = [f"{name}={version}" for name, version in versions.items()]
        found = parse_records(_run(["apt-cache", *self._options, "show", *wanted]))
        for name, version in versions.items():
            if name not in found or found[name].version != version:
                raise LockError(f"apt would install {name} {version}, and does not say where it is")
        return found


def resolve(mirrors: Mirrors, requirements: Path, cache: InputCache, reporter: Reporter) -> ImageLock:
    """A lock of today's packages; `requirements` is the enclave's lock with hashes. MirrorError, LockError."""
    with machine_faults(cache.folder), tempfile.TemporaryDirectory() as folder:
        with reporter.step("reading the package index", 1):
            index = PackageIndex(Path(folder), mirrors)
        build, boot = index.closure(BUILD_PACKAGES), index.closure([*BOOT_FILES])
        kernel = index.closure([KERNEL_SOURCE])[KERNEL_SOURCE]
        require_one_version(build, boot)
        with reporter.step("fetching wheels", 1), cache.filling(reporter), staging_folder(cache) as wheels:
            download_wheels(requirements.read_text(encoding="utf-8").splitlines(), wheels)
            locked = tuple(_keep_wheels(wheels, cache))
        debs = index.describe({**build, **boot, KERNEL_SOURCE: kernel})
    return ImageLock(
        version=1,
        suite=SUITE,
        kernel=debs[KERNEL_SOURCE],
        build=tuple(debs[name] for name in sorted(build)),
        boot=tuple(debs[name] for name in sorted(BOOT_FILES)),
        wheels=locked,
    )


def require_one_version(build: Mapping[str, str], boot: Mapping[str, str]) -> None:
    """The extension is compiled with the one and runs with the other: LockError where they differ."""
    for name in sorted(boot.keys() & build.keys()):
        if boot[name] != build[name]:
            raise LockError(f"{name} has two versions: {boot[name]} and {build[name]}")


def parse_wheel_name(filename: str) -> tuple[str, str]:
    """Name, normalized, and version out of a wheel's file name (PEP 427: neither has a hyphen)."""
    name, version = filename.split("-")[:2]
    return re.sub(r"[-_.]+", "-", name).lower(), version


def _keep_wheels(folder: Path, cache: InputCache) -> Iterator[Wheel]:
    for path in sorted(folder.glob("*.whl")):
        name, version = parse_wheel_name(path.name)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        yield Wheel(name=name, version=version, filename=path.name, sha256=sha256)
        cache.keep(path, name=path.name, sha256=sha256)


def _run(command: Iterable[str]) -> str:
    program, *arguments = command
    try:
        ended = subprocess.run(  # noqa: S603 - apt, by our own arguments
            [program, *arguments], check=False, capture_output=True, encoding="utf-8", errors="replace",
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MirrorError(f"{program} is missing: a lock is made on a Debian-like machine") from error
    if ended.returncode:
        raise MirrorError(f"{program}: {ended.stderr.strip()[-2000:]}")
    return ended.stdout
