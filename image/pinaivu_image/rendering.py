"""Inspections and differences as lines for people."""

from collections.abc import Iterator
from typing import Any, Final

from pinaivu_image.difference import Change, Difference
from pinaivu_image.inputs import WITHOUT_FILES
from pinaivu_image.inspection import Inspection, inspection_json
from pinaivu_shared.report import printable

ABSENT: Final = "(absent)"
STATED: Final = "inputs, as the image itself states; only a rebuild proves it:"
UNLISTED: Final = "files cannot be listed"


def inspection_lines(found: Inspection) -> Iterator[str]:
    """Inputs, header, measurements, sections, then every file; the notes are for stderr and not among them."""
    shown = inspection_json(found)
    yield STATED
    for number, ramdisk in enumerate(shown["ramdisks"], start=1):
        yield from _summary_lines(f"ramdisk {number}", ramdisk)
    yield ""
    yield from (f"{name:<22} {value}" for name, value in shown["header"].items())
    yield f"{'cmdline':<22} {printable(shown['cmdline'])}"
    yield from _metadata_lines(shown)
    yield from (f"{name:<22} {value}" for name, value in shown["measurements"].items())
    yield ""
    for section in shown["sections"]:
        measured = "measured" if section["measured"] else "not measured"
        yield f"{section['name']:<12} {section['size']:>12}  {section['sha256']}  {measured}"
    for number, ramdisk in enumerate(shown["ramdisks"], start=1):
        yield ""
        files = ramdisk["files"]
        yield f"ramdisk {number}: {_refusal(ramdisk) or f'{len(files)} entries'}"
        yield from (_file_line(file) for file in files)


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
        unlisted = found.unlisted if title == "files" else ()
        if changes or unlisted:
            yield f"{title}:"
            yield from (f"  ramdisk {one['ramdisk']}, {one['side']}: {_refusal(one)}" for one in unlisted)
            yield from (f"  {_name(change)}: {_shown(change['old'])} -> {_shown(change['new'])}" for change in changes)


def _summary_lines(name: str, ramdisk: dict[str, Any]) -> Iterator[str]:
    """A line for each input; one for all of the toolchain, which is long and brought no file."""
    refusal, inputs = _refusal(ramdisk), ramdisk["inputs"] or ()
    yield f"  {name}: {refusal or ('none stated' if ramdisk['inputs'] is None else '')}".rstrip()
    for one in inputs:
        if one["kind"] != "toolchain":
            version = one["version"] or f"sha256 {one['sha256'][:16]}…"
            brought = "no file of it" if one["kind"] in WITHOUT_FILES else _amount(one)
            yield printable(f"    {one['kind']:<13} {one['name']:<24} {version:<34} {brought}".rstrip())
    tools = sum(one["kind"] == "toolchain" for one in inputs)
    if tools:
        yield f"    {'toolchain':<13} {f'{tools} packages, which --json names':<59} no file of them"
    if not refusal:
        yield f"    {'of no input':<73} {_amount(ramdisk['of_no_input'])}"


def _amount(total: dict[str, Any]) -> str:
    return f"{total['files']} files, {total['size']} bytes"


def _refusal(ramdisk: dict[str, Any]) -> str:
    return "" if ramdisk["unlisted"] is None else printable(f"{UNLISTED}: {ramdisk['unlisted']}")


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
