"""Where Debian packages come from: what this machine's own apt is configured with, or what the caller names."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pinaivu_image.errors import MirrorError
from pinaivu_image.lock import Archive

APT_FOLDER: Final = Path("/etc/apt")
_ONE_LINE: Final = re.compile(r"^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s", re.MULTILINE)
_DEB822: Final = re.compile(r"^URIs:\s*(.+)$", re.MULTILINE | re.IGNORECASE)
_KNOWN: Final[Mapping[str, Archive]] = {"debian": "debian", "debian-security": "debian-security"}

Mirrors = Mapping[Archive, str]
"""Base URLs, without a slash at the end."""


def named_mirrors(urls: Iterable[str]) -> Mirrors:
    """Mirrors as the caller named them; each must end in `debian` or `debian-security` (or a date after it)."""
    found: dict[Archive, str] = {}
    for url in urls:
        archive = _archive_of(url)
        if archive is None:
            raise MirrorError(f"{url}: a mirror's address has the folder `debian` or `debian-security` in it")
        found[archive] = url.rstrip("/")
    return _complete(found)


def machine_mirrors(folder: Path = APT_FOLDER) -> Mirrors:
    """Mirrors of this machine's apt; MirrorError where it has none, as on other distributions."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in files if path.suffix in {".list", ".sources"} and path.is_file()
    )
    urls = [*_ONE_LINE.findall(text), *(url for line in _DEB822.findall(text) for url in line.split())]
    found: dict[Archive, str] = {}
    for url in urls:
        archive = _archive_of(url)
        if archive is not None:
            found.setdefault(archive, url.rstrip("/"))
    if not found:
        raise MirrorError(f"no Debian mirror under {folder}: name one with --mirror URL (…/debian, …/debian-security)")
    return _complete(found)


def _archive_of(url: str) -> Archive | None:
    parts = [part for part in url.split("://", 1)[-1].split("/")[1:] if part]
    return next((_KNOWN[part] for part in reversed(parts) if part in _KNOWN), None)


def _complete(found: Mapping[Archive, str]) -> Mirrors:
    """Most mirrors have both archives side by side."""
    complete = dict(found)
    for one, other in (("debian", "debian-security"), ("debian-security", "debian")):
        if one not in complete and other in complete:
            complete[_KNOWN[one]] = re.sub(rf"/{other}(?=/|$)", f"/{one}", complete[_KNOWN[other]])
    return complete
