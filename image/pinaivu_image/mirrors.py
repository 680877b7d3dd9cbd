"""Where Debian packages come from: what this machine's own apt is configured with, or what the caller names.

An archive may have several mirrors; what one of them lacks, the next is asked for. None of them is trusted.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pinaivu_image.errors import MirrorError
from pinaivu_image.lock import Archive

APT_FOLDER: Final = Path("/etc/apt")
_ONE_LINE: Final = re.compile(r"deb[ \t]+(?:\[[^\]]*\][ \t]+)?(\S+)[ \t]+\S+[ \t]+([^#]+)")
_FIELD: Final = re.compile(r"^(\S+?):((?:.|\n[ \t])*)", re.MULTILINE)
_NO: Final = frozenset({"no", "false", "without", "off", "disable"})
_FOLDER: Final = re.compile(r"/(debian|debian-security)(?=(?:/[0-9TZ]+)?/?\Z)")
"""The archive's folder ends the path, or a date does, as in archives of old packages."""

_ARCHIVES: Final[Mapping[str, Archive]] = {"debian": "debian", "debian-security": "debian-security"}
_BESIDE: Final[Mapping[Archive, Archive]] = {"debian": "debian-security", "debian-security": "debian"}

Mirrors = Mapping[Archive, tuple[str, ...]]
"""Base URLs of each archive, without a slash at the end, in the order in which they are asked."""


def named_mirrors(urls: Iterable[str]) -> Mirrors:
    """Mirrors as the caller named them; MirrorError for an address that is none of an archive."""
    found: list[str] = []
    for url in urls:
        if _archive_of(url) is None:
            raise MirrorError(
                f"{_without_password(url)}: a mirror's address begins with http:// or https:// and ends in the folder "
                "debian or debian-security, with or without a date after it; it has no password in it"
            )
        found.append(url)
    return _by_archive(found)


def machine_mirrors(folder: Path = APT_FOLDER) -> Mirrors:
    """Mirrors of this machine's apt; MirrorError where it has none, as on other distributions."""
    found = [url for url in _apt_sources(folder) if _archive_of(url) is not None]
    if not found:
        raise MirrorError(f"no Debian mirror under {folder}: name one with --mirror URL (…/debian, …/debian-security)")
    return _by_archive(found)


def one_line_sources(text: str) -> Iterator[str]:
    """URLs of the binary packages in component `main`, out of the old format (sources.list(5), one-line-style)."""
    for line in text.splitlines():
        entry = _ONE_LINE.match(line.strip())
        if entry is not None and "main" in entry[2].split():
            yield entry[1]


def deb822_sources(text: str) -> Iterator[str]:
    """The same out of the new format (sources.list(5), deb822-style): stanzas of fields, which may go on for lines."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n[ \t]*(?:\n|\Z)", "\n".join(lines)):
        fields = {name.lower(): value.split() for name, value in _FIELD.findall(stanza)}
        enabled = _NO.isdisjoint(word.lower() for word in fields.get("enabled", []))
        if enabled and "deb" in fields.get("types", []) and "main" in fields.get("components", []):
            yield from fields.get("uris", [])


def _apt_sources(folder: Path) -> Iterator[str]:
    readers = {".list": one_line_sources, ".sources": deb822_sources}
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        if path.suffix in readers and path.is_file():
            yield from readers[path.suffix](path.read_text(encoding="utf-8", errors="replace"))


def _archive_of(url: str) -> Archive | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    folder = _FOLDER.search(parts.path)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or folder is None:
        return None
    return None if parts.query or parts.fragment else _ARCHIVES[folder[1]]


def _by_archive(urls: Iterable[str]) -> Mirrors:
    """Most mirrors have both archives side by side, so one that is not named is looked for beside the other."""
    found: dict[Archive, tuple[str, ...]] = {"debian": (), "debian-security": ()}
    for url in dict.fromkeys(url.rstrip("/") for url in urls):
        archive = _archive_of(url)
        assert archive is not None
        found[archive] += (url,)
    for archive, other in _BESIDE.items():
        if not found[archive]:
            found[archive] = tuple(_FOLDER.sub(f"/{archive}", url) for url in found[other])
    return found


def _without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//…@", url)
