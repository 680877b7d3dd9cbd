"""`pinaivu image inspect`: everything an image says, with a note on what of it nobody measures."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from stat import S_ISDIR, S_ISREG
from typing import Any, Final

import msgspec

from pinaivu_image.inputs import WITHOUT_FILES, BuildInput
from pinaivu_image.ramdisk import Ramdisk, describe_entries, open_ramdisks
from pinaivu_image.rootfs import plain_path
from pinaivu_shared.eif.description import describe_certificate, signature_holds
from pinaivu_shared.eif.format import (
    AARCH64,
    HEADER_BYTES,
    MEASURED,
    SECTION_HEADER_BYTES,
    Eif,
    Section,
    SectionType,
    parse_eif,
)
from pinaivu_shared.eif.measurements import Measurements, measure
from pinaivu_shared.eif.metadata import parse_metadata
from pinaivu_shared.eif.signature import parse_signature

UNMEASURED: Final = (
    "not measured: the header (memory, CPUs, order of sections), the metadata, the signature, and where one section "
    "ends and the next begins; whoever holds the file can change them and PCR0 stays"
)
RAMDISK_ALIGNMENT: Final = 4
"""Linux looks for the next ramdisk at multiples of this only."""

NOTHING: Final[Mapping[str, int]] = {"files": 0, "size": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """A parsed image with everything derived from it."""

    eif: Eif
    measurements: Measurements
    ramdisks: tuple[Ramdisk, ...]
    metadata: dict[str, Any] | None
    signature: dict[str, Any] | None
    notes: tuple[str, ...]

    @property
    def listed(self) -> bool:
        """Whether the files of every ramdisk could be listed."""
        return all(ramdisk.unlisted is None for ramdisk in self.ramdisks)


def inspect_image(raw: bytes) -> Inspection:
    """Read and measure an image. Raises EifError; a ramdisk whose files cannot be listed is a note instead."""
    eif = parse_eif(raw)
    measured = measure(eif)
    ramdisks = open_ramdisks(eif.ramdisks)
    metadata = eif.only(SectionType.METADATA)
    signature = eif.only(SectionType.SIGNATURE)
    return Inspection(
        eif=eif,
        measurements=measured,
        ramdisks=ramdisks,
        metadata=None if metadata is None else msgspec.to_builtins(parse_metadata(metadata)),
        signature=None if signature is None else _signature(signature, measured.pcr0),
        notes=tuple(_notes(eif, ramdisks)),
    )


def inspection_json(found: Inspection) -> dict[str, Any]:
    """One object with all of it; sizes and offsets in bytes, hashes in lowercase hex."""
    return {
        "header": header_json(found.eif),
        "cmdline": found.eif.cmdline.decode("utf-8", "replace"),
        "sections": list(sections_json(found.eif)),
        "measurements": found.measurements.as_hex(),
        "metadata": found.metadata,
        "signature": found.signature,
        "ramdisks": [ramdisk_json(ramdisk) for ramdisk in found.ramdisks],
        "notes": list(found.notes),
    }


def header_json(eif: Eif) -> dict[str, Any]:
    """What the file header says besides where the sections are."""
    return {
        "version": eif.version,
        "architecture": "aarch64" if eif.flags & AARCH64 else "x86_64",
        "default_memory_bytes": eif.default_memory_bytes,
        "default_cpus": eif.default_cpus,
    }


def sections_json(eif: Eif) -> Iterator[dict[str, Any]]:
    """Each section in file order; `offset` is that of its header."""
    offset, ramdisks = HEADER_BYTES, 0
    for section in eif.sections:
        ramdisks += section.type is SectionType.RAMDISK
        yield {
            "name": section_name(section, ramdisks),
            "offset": offset,
            "size": len(section.data),
            "sha256": hashlib.sha256(section.data).hexdigest(),
            "measured": section.type in MEASURED,
        }
        offset += SECTION_HEADER_BYTES + len(section.data)


def ramdisk_json(ramdisk: Ramdisk) -> dict[str, Any]:
    """Its files, and the inputs that it states (null where it states none); `unlisted` says why there is nothing."""
    came = _origins(ramdisk)
    stated = ramdisk.inputs
    return {
        "inputs": None if stated is None else [_input(one, came) for one in stated.inputs],
        "of_no_input": came.get(None, NOTHING),
        "files": list(_files(ramdisk)),
        "unlisted": ramdisk.unlisted,
        "notes": list(ramdisk.notes),
    }


def section_name(section: Section, number: int) -> str:
    """`kernel`, `cmdline`, `ramdisk 1` and so on."""
    name = section.type.name.lower()
    return f"{name} {number}" if section.type is SectionType.RAMDISK else name


def _signature(section: bytes, pcr0: bytes) -> dict[str, Any]:
    certificate = describe_certificate(parse_signature(section).certificate)
    return {"holds": signature_holds(section, pcr0), "certificate": certificate}


def _origins(ramdisk: Ramdisk) -> Mapping[str | None, Mapping[str, int]]:
    """How much came from each input, by its name; None for what the image names no input for. Folders do not count."""
    came: dict[str | None, Mapping[str, int]] = {}
    for path, entry in ramdisk.files.items():
        if not S_ISDIR(entry.mode):
            name, size = ramdisk.input_of(path), len(entry.data) if S_ISREG(entry.mode) else 0
            before = came.get(name, NOTHING)
            came[name] = {"files": before["files"] + 1, "size": before["size"] + size}
    return came


def _input(one: BuildInput, came: Mapping[str | None, Mapping[str, int]]) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), **(NOTHING if one.kind in WITHOUT_FILES else came.get(one.name, NOTHING))}


def _files(ramdisk: Ramdisk) -> Iterator[dict[str, Any]]:
    for entry, described in describe_entries(ramdisk.entries):
        source = ramdisk.input_of(plain_path(entry.path))
        yield {"path": entry.path, **described, **({} if source is None else {"input": source})}


def _notes(eif: Eif, ramdisks: tuple[Ramdisk, ...]) -> Iterator[str]:
    yield UNMEASURED
    if len(ramdisks) == 1:
        yield "there is one ramdisk only: PCR2 is the same constant for all such images and says nothing"
    for number, (section, ramdisk) in enumerate(zip(eif.ramdisks, ramdisks, strict=True), start=1):
        if number < len(ramdisks) and len(section) % RAMDISK_ALIGNMENT:
            yield f"ramdisk {number} is not padded to {RAMDISK_ALIGNMENT} bytes: the kernel skips the next in silence"
        for note in ramdisk.notes:
            yield f"ramdisk {number}: {note}"
