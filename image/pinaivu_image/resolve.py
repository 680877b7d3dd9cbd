"""Makes a lock from what the mirrors have today: apt resolves the packages, pip the wheels. Needs apt."""

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pinaivu_image.contents import BOOT_FILES, BUILD_PACKAGES, KERNEL_SOURCE, SUITE
from pinaivu_image.errors import LockError, MirrorError
from pinaivu_image.fetch import InputCache, download_wheels
from pinaivu_image.lock import Archive, Deb, ImageLock, Wheel
from pinaivu_image.mirrors import Mirrors

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_INSTALL: Final = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)
_SUITES: Final[Mapping[Archive, str]] = {
    "debian": f"{SUITE} {SUITE}-updates",
    "debian-security": f"{SUITE}-security",
}


class PackageIndex:
    """apt in a folder of its own: the machine's packages, sources and settings play no part."""

    def __init__(self, folder: Path, mirrors: Mirrors) -> None:
        for name in ("sources", "lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        self._options = [
            f"-oDir::Etc::SourceList={folder}/none", f"-oDir::Etc::SourceParts={folder}/sources",
            f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache", "-oDir::State::Status=/dev/null",
            "-oAPT::Architecture=amd64", "-oAPT::Architectures=amd64", "-oAPT::Install-Recommends=false",
        ]  # fmt: skip
        for archive, url in mirrors.items():
            (folder / "sources" / f"{archive}.sources").write_text(
                f"Types: deb\nURIs: {url}\nSuites: {_SUITES[archive]}\nComponents: main\nSigned-By: {KEYRING}\n",
                encoding="utf-8",
            )
        _run(["apt-get", *self._options, "update", "--quiet"])

    def closure(self, names: Sequence[str]) -> dict[str, str]:
        """Version by name of these packages and all that they depend on."""
        return dict(_INSTALL.findall(_run(["apt-get", *self._options, "--simulate", "install", *names])))

    def describe(self, name: str, version: str) -> Deb:
        """Where a package is, and its hash, out of the signed index."""
        record = _run(["apt-cache", *self._options, "show", f"{name}={version}"]).split("\n\n")[0]
        fields = dict(line.split(": ", 1) for line in record.splitlines() if ": " in line and not line.startswith(" "))
        path = fields["Filename"]
        archive: Archive = "debian-security" if path.startswith("pool/updates/") else "debian"
        return Deb(
            name=name, version=version, archive=archive, path=path, size=int(fields["Size"]), sha256=fields["SHA256"]
        )


def resolve(mirrors: Mirrors, requirements: Path, cache: InputCache) -> ImageLock:
    """A lock of today's packages; `requirements` is the enclave's lock with hashes. MirrorError, LockError."""
    with tempfile.TemporaryDirectory() as folder:
        index = PackageIndex(Path(folder), mirrors)
        build = index.closure(BUILD_PACKAGES)
        boot = index.closure([*BOOT_FILES])
        kernel = index.closure([KERNEL_SOURCE])[KERNEL_SOURCE]
        for name in boot.keys() & build.keys():
            if boot[name] != build[name]:
                raise LockError(f"{name} has two versions: {boot[name]} and {build[name]}")
        return ImageLock(
            version=1,
            suite=SUITE,
            kernel=index.describe(KERNEL_SOURCE, kernel),
            build=tuple(index.describe(name, build[name]) for name in sorted(build)),
            boot=tuple(index.describe(name, boot[name]) for name in sorted(BOOT_FILES)),
            wheels=tuple(_resolve_wheels(requirements, cache)),
        )


def _resolve_wheels(requirements: Path, cache: InputCache) -> Iterable[Wheel]:
    with tempfile.TemporaryDirectory(dir=cache.folder) as folder:
        download_wheels(requirements.read_text(encoding="utf-8").splitlines(), Path(folder))
        for path in sorted(Path(folder).glob("*.whl")):
            name, version = path.name.split("-")[:2]  # PEP 427: neither has a hyphen
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            yield Wheel(name=name.replace("_", "-").lower(), version=version, filename=path.name, sha256=sha256)
            cache.keep(path, name=path.name, sha256=sha256)


def _run(command: list[str]) -> str:
    try:
        ended = subprocess.run(  # noqa: S603 - apt, by our own arguments
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise MirrorError(f"{command[0]} is missing: a lock is made on a Debian-like machine") from error
    if ended.returncode:
        raise MirrorError(f"{command[0]}: {ended.stderr.strip()[-2000:]}")
    return ended.stdout
