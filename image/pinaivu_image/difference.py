"""`pinaivu image diff`: which input, section and file two images differ in.

Inputs come first, because one changed input explains many changed files. Images of other tools state no inputs:
for them there are sections and files. A ramdisk that cannot be listed is compared by section only, and that is said.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final

from pinaivu_image.inputs import BuildInput, BuildInputs
from pinaivu_image.inspection import Inspection, header_json, sections_json
from pinaivu_image.ramdisk import Ramdisk, describe_entries
from pinaivu_image.rootfs import plain_path

Change = dict[str, Any]
"""`{"old": …, "new": …}` with what names the thing; null on the side where it is absent."""

REPACKED: Final = (
    "WARNING: the listed files are the same, but the measured bytes are not, be it order, compression, padding or "
    "something that no list shows; do not accept these measurements because the lists agree"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Everything that differs, old before new. All empty for two equal images.

    `unlisted` are the ramdisks that differ and were not compared file by file: `{"ramdisk", "side", "unlisted": why}`.
    """

    header: tuple[Change, ...] = ()
    measurements: tuple[Change, ...] = ()
    inputs: tuple[Change, ...] = ()
    sections: tuple[Change, ...] = ()
    files: tuple[Change, ...] = ()
    unlisted: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the images are equal byte for byte: every byte of a readable image is header or section."""
        return not (self.header or self.sections)


def compare_images(old: Inspection, new: Inspection) -> Difference:
    """Compare two images."""
    sections = tuple(_changes("section", _sections(old), _sections(new)))
    files = tuple(_changed_files(old, new))
    return Difference(
        header=tuple(_changes("field", header_json(old.eif), header_json(new.eif))),
        measurements=tuple(_changes("register", old.measurements.as_hex(), new.measurements.as_hex())),
        inputs=tuple(_changed_inputs(old, new)),
        sections=sections,
        files=files,
        unlisted=tuple(_unlisted(old, new, {change["section"] for change in sections})),
        notes=tuple(_notes(old, new, sections, files)),
    )


def difference_json(found: Difference) -> dict[str, Any]:
    """One object with all of it."""
    return {
        "same": found.same,
        "inputs": list(found.inputs),
        "header": list(found.header),
        "sections": list(found.sections),
        "measurements": list(found.measurements),
        "files": list(found.files),
        "unlisted": list(found.unlisted),
        "notes": list(found.notes),
    }


def _changes(label: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield {label: name, "old": old.get(name), "new": new.get(name)}


def _sections(found: Inspection) -> dict[str, Any]:
    """Sections by name. The place in the file is part of it: a changed order is a difference too."""
    return {
        section["name"]: {"place": place, "size": section["size"], "sha256": section["sha256"]}
        for place, section in enumerate(sections_json(found.eif), start=1)
    }


def _changed_inputs(old: Inspection, new: Inspection) -> Iterator[Change]:
    """Those of all ramdisks together that state some in both images."""
    stating = [(one.inputs, other.inputs) for _, one, other in _pairs(old, new) if one and other]
    compared = [(one, other) for one, other in stating if one and other]
    before, after = (_by_name(side) for side in ([one for one, _ in compared], [other for _, other in compared]))
    for kind, name in sorted(before.keys() | after.keys()):
        one, other = before.get((kind, name)), after.get((kind, name))
        if one != other:
            yield {"input": name, "kind": kind, "old": _version(one), "new": _version(other)}


def _by_name(stated: Iterable[BuildInputs]) -> dict[tuple[str, str], BuildInput]:
    return {(one.kind, one.name): one for inputs in stated for one in inputs.inputs}


def _pairs(old: Inspection, new: Inspection) -> Iterator[tuple[int, Ramdisk | None, Ramdisk | None]]:
    """The ramdisks of both by number, None where one image has fewer; without those whose files cannot be listed."""
    for number, pair in enumerate(zip_longest(old.ramdisks, new.ramdisks), start=1):
        if all(ramdisk is None or ramdisk.unlisted is None for ramdisk in pair):
            yield number, *pair


def _unlisted(old: Inspection, new: Inspection, differing: set[str]) -> Iterator[dict[str, Any]]:
    for side, found in (("old", old), ("new", new)):
        for number, ramdisk in enumerate(found.ramdisks, start=1):
            if ramdisk.unlisted is not None and f"ramdisk {number}" in differing:
                yield {"ramdisk": number, "side": side, "unlisted": ramdisk.unlisted}


def _version(one: BuildInput | None) -> dict[str, str] | None:
    return None if one is None else {"version": one.version, "sha256": one.sha256}


def _changed_files(old: Inspection, new: Inspection) -> Iterator[Change]:
    for number, one, other in _pairs(old, new):
        before, after = _files(one), _files(other)
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path):
                yield {"ramdisk": number, "path": path, "old": before.get(path), "new": after.get(path)}


def _files(ramdisk: Ramdisk | None) -> dict[str, Any]:
    if ramdisk is None:
        return {}
    described = {plain_path(entry.path): properties for entry, properties in describe_entries(ramdisk.entries)}
    return {path: properties | _source(ramdisk, path) for path, properties in described.items()}


def _source(ramdisk: Ramdisk, path: str) -> dict[str, str]:
    name = ramdisk.input_of(path)
    return {} if name is None else {"input": name}


def _notes(old: Inspection, new: Inspection, sections: tuple[Change, ...], files: tuple[Change, ...]) -> Iterator[str]:
    for side, found in (("old", old), ("new", new)):
        for number, ramdisk in enumerate(found.ramdisks, start=1):
            yield from (f"{side} ramdisk {number}: {note}" for note in ramdisk.notes)
    differing = {change["section"] for change in sections}
    explained = {change["ramdisk"] for change in files}
    for number, one, other in _pairs(old, new):
        if (one is None or one.inputs is None) != (other is None or other.inputs is None):
            yield f"ramdisk {number}: only one of the images states its inputs, so they were not compared"
        if one is not None and other is not None and f"ramdisk {number}" in differing and number not in explained:
            yield f"ramdisk {number}: {REPACKED}"
