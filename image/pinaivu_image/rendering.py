"""Inspections and differences as lines for people."""

from collections.abc import Iterator
from typing import Any

from pinaivu_image.difference import Change, Difference
from pinaivu_image.inspection import Inspection, inspection_json
from pinaivu_image.printable import printable

ABSENT = "(absent)"


def inspection_lines(found: Inspection) -> Iterator[str]:
    """Header, sections, measurements, then every file; the notes are for stderr and not among them."""
    shown = inspection_json(found)
    yield from (f"{name:<22} {value}" for name, value in shown["header"].items())
    yield f"{'cmdline':<22} {printable(shown['cmdline'])}"
    yield from _metadata_lines(shown)
    yield from (f"{name:<22} {value}" for name, value in shown["measurements"].items())
    yield ""
    for section in shown["sections"]:
        measured = "measured" if section["measured"] else "not measured"
        yield f"{section['name']:<12} {section['size']:>12}  {section['sha256']}  {measured}"
    for number, ramdisk in enumerate(shown["ramdisks"], start=1):
        yield f"\nramdisk {number}: {len(ramdisk['files'])} entries"
        yield from (_file_line(file) for file in ramdisk["files"])


def difference_lines(found: Difference) -> Iterator[str]:
    """What differs, inputs first; one line that says so where nothing does."""
    if found.same:
        yield "the images are the same, byte for byte"
    for title, changes in (
        ("inputs", found.inputs),
        ("header", found.header),
        ("sections", found.sections),
        ("measurements", found.measurements),
        ("files", found.files),
    ):
        if changes:
            yield f"{title}:"
            yield from (f"  {_name(change)}: {_shown(change['old'])} -> {_shown(change['new'])}" for change in changes)


def _metadata_lines(shown: dict[str, Any]) -> Iterator[str]:
    metadata, signature = shown["metadata"], shown["signature"]
    if metadata is not None:
        yield f"{'name':<22} {printable(metadata['ImageName'])} {printable(metadata['ImageVersion'])} (not measured)"
    if signature is not None:
        issuer = ", ".join(f"{name}={value}" for name, value in signature["certificate"]["IssuerName"].items())
        verdict = "holds" if signature["holds"] else "DOES NOT HOLD"
        yield f"{'signed by':<22} {printable(issuer)}; the signature {verdict}"


def _file_line(file: dict[str, Any]) -> str:
    content = file.get("sha256") or f"{file['kind']} {file.get('target', file.get('device', ''))}".rstrip()
    source = f"  [{file['input']}]" if "input" in file else ""
    return printable(f"{file['mode']} {file.get('size', 0):>10}  {content:<64}  {file['path']}{source}")


def _name(change: Change) -> str:
    """What changed: the first keys of a change, those that are not `old` and `new`."""
    return printable(" ".join(str(value) for name, value in change.items() if name not in {"old", "new"}))


def _shown(side: object) -> str:
    if side is None:
        return ABSENT
    if isinstance(side, dict):
        return printable(", ".join(f"{name} {value}" for name, value in side.items()))
    return printable(side)
