"""Reader and writer of the enclave image format (EIF).

A header of 548 bytes, then sections without gaps: 12 bytes of section header and the section's data. All integers
are big endian. Source: aws-nitro-enclaves-image-format, src/defs/mod.rs.

The format says where sections are twice, and readers believe different halves: AWS's walks the section headers until
the file ends and ignores the offsets and sizes of the file header; QEMU's follows those (hw/core/eif.c). So a file can
show one image to the one and another to the other. `parse_eif` demands that both see the same, in the order that
the measurements are defined for: whatever it returns, `encode_eif` turns into the same bytes again.
"""

import enum
import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

from pinaivu_shared.eif.errors import EifError

MAX_EIF_BYTES: Final = 1 << 31
"""More than any enclave has been given; the commands read no further."""
MAX_SECTIONS: Final = 32
VERSIONS: Final = range(2, 5)
"""Version 2 added the CRC, 3 the signature, 4 the metadata; nitro-cli has written 4 since 2022."""
DEFAULT_MEMORY_BYTES: Final = 1 << 30
DEFAULT_CPUS: Final = 2
AARCH64: Final = 1
"""The only flag of the file header."""

MAGIC: Final = b".eif"
HEADER_BYTES: Final = 548
SECTION_HEADER_BYTES: Final = 12
_HEADER: Final = struct.Struct(">4sHHQQHH32Q32QI")  # all but the CRC, which follows
_CRC: Final = struct.Struct(">I")
_SECTION_HEADER: Final = struct.Struct(">HHQ")


class SectionType(enum.IntEnum):
    """What a section holds. 0 is AWS's "invalid" and stands in no image."""

    KERNEL = 1
    CMDLINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


_NUMBERS: Final = frozenset(int(kind) for kind in SectionType)
MEASURED: Final = (SectionType.KERNEL, SectionType.CMDLINE, SectionType.RAMDISK)
"""The sections that reach a register, in the order in which they are hashed."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its type and its data without the section header. Section flags are always 0."""

    type: SectionType
    data: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Eif:
    """An image of the right form. Nothing here says who made it or that it boots."""

    version: int
    flags: int
    default_memory_bytes: int
    default_cpus: int
    sections: tuple[Section, ...]

    def only(self, kind: SectionType) -> bytes | None:
        """The data of the one section of this type, None where there is none."""
        return next((section.data for section in self.sections if section.type is kind), None)

    @property
    def kernel(self) -> bytes:
        """The kernel: bzImage for x86_64, Image for aarch64."""
        return _present(self.only(SectionType.KERNEL))

    @property
    def cmdline(self) -> bytes:
        """The kernel's command line, without NUL; a newline at its end would count."""
        return _present(self.only(SectionType.CMDLINE))

    @property
    def ramdisks(self) -> tuple[bytes, ...]:
        """The ramdisks in file order; the kernel unpacks them one over the other."""
        return tuple(section.data for section in self.sections if section.type is SectionType.RAMDISK)


def write_eif(
    *, kernel: bytes, cmdline: bytes, metadata: bytes, ramdisks: tuple[bytes, ...], signature: bytes | None = None
) -> bytes:
    """An image for x86_64, its sections in the order AWS's builder writes them.

    `metadata` and `signature` are section contents (`metadata.py`, `signature.py`). Raises EifError for contents
    that no reader would take, for example a command line with a NUL or more than 32 sections.
    """
    sections = [
        Section(SectionType.KERNEL, kernel),
        Section(SectionType.CMDLINE, cmdline),
        Section(SectionType.METADATA, metadata),
        *(Section(SectionType.RAMDISK, ramdisk) for ramdisk in ramdisks),
    ]
    if signature is not None:
        sections.append(Section(SectionType.SIGNATURE, signature))
    return encode_eif(
        Eif(
            version=VERSIONS[-1],
            flags=0,
            default_memory_bytes=DEFAULT_MEMORY_BYTES,
            default_cpus=DEFAULT_CPUS,
            sections=tuple(sections),
        )
    )


def encode_eif(eif: Eif) -> bytes:
    """The bytes of an image, the inverse of `parse_eif`. Raises EifError for an image that could not be read again."""
    _require_header(eif.version, eif.flags, len(eif.sections))
    _require_sections(eif.sections)
    offsets, body = [0] * MAX_SECTIONS, bytearray()
    sizes = [0] * MAX_SECTIONS
    for place, section in enumerate(eif.sections):
        offsets[place], sizes[place] = HEADER_BYTES + len(body), len(section.data)
        body += _SECTION_HEADER.pack(section.type, 0, len(section.data))
        body += section.data
    numbers = (eif.version, eif.flags, eif.default_memory_bytes, eif.default_cpus, 0, len(eif.sections))
    header = _HEADER.pack(MAGIC, *numbers, *offsets, *sizes, 0)
    return header + _CRC.pack(zlib.crc32(body, zlib.crc32(header))) + bytes(body)


def parse_eif(raw: bytes) -> Eif:
    """Read an image strictly. Raises EifError, whose `part` names what is wrong, for every other bytes."""
    if raw[:4] != MAGIC:
        raise EifError("magic", f"the file begins with {raw[:4].hex() or 'nothing'}, an EIF with {MAGIC.hex()}")
    if len(raw) < HEADER_BYTES:
        raise EifError("header", f"the file ends after {len(raw)} bytes, an EIF's header has {HEADER_BYTES}")
    _, version, flags, memory_bytes, cpus, reserved, count, *rest = _HEADER.unpack_from(raw)
    offsets, sizes, unused = rest[:MAX_SECTIONS], rest[MAX_SECTIONS:-1], rest[-1]
    _require_header(version, flags, count)
    if reserved or unused:
        raise EifError("header", f"reserved fields are {reserved} and {unused}, not 0")
    if any(offsets[count:]) or any(sizes[count:]):
        raise EifError("section table", f"there are {count} sections, but an unused slot of the table is not 0")
    sections, end = [], HEADER_BYTES
    for place, (offset, size) in enumerate(zip(offsets[:count], sizes[:count], strict=True), start=1):
        if offset != end:
            raise EifError(f"section {place}", f"the header puts it at byte {offset}, but the one before ends at {end}")
        sections.append(_section_at(raw, place, offset, size))
        end += SECTION_HEADER_BYTES + size
    if end != len(raw):
        raise EifError("end", f"{len(raw) - end} bytes follow the last section, where one reader sees more sections")
    _require_sections(tuple(sections))
    _require_crc(raw)
    return Eif(
        version=version,
        flags=flags,
        default_memory_bytes=memory_bytes,
        default_cpus=cpus,
        sections=tuple(sections),
    )


def _section_at(raw: bytes, place: int, offset: int, size: int) -> Section:
    part, start = f"section {place}", offset + SECTION_HEADER_BYTES
    if start > len(raw):
        raise EifError(part, f"the file ends at byte {len(raw)}, inside the section's header")
    number, flags, own_size = _SECTION_HEADER.unpack_from(raw, offset)
    if own_size != size:
        raise EifError(part, f"its own header says {own_size} bytes, the file's header {size}")
    if number not in _NUMBERS:
        raise EifError(part, f"there is no section type {number}")
    if flags:
        raise EifError(part, f"section flags are 0x{flags:04x}, not 0")
    if size > len(raw) - start:
        raise EifError(part, f"has {size} bytes from byte {start} on, but the file ends at byte {len(raw)}")
    return Section(SectionType(number), raw[start : start + size])


def _require_header(version: int, flags: int, count: int) -> None:
    if version not in VERSIONS:
        raise EifError("version", f"is {version}; {VERSIONS[0]} to {VERSIONS[-1]} can be read")
    if flags & ~AARCH64:
        raise EifError("flags", f"are 0x{flags:04x}; only bit 0, aarch64, has a meaning")
    if not 0 < count <= MAX_SECTIONS:
        raise EifError("section count", f"is {count}, an EIF has 1 to {MAX_SECTIONS}")


def _require_sections(sections: tuple[Section, ...]) -> None:
    """The counts both readers want, and the measured sections in the order in which they are hashed."""
    for kind, least, most in (
        (SectionType.KERNEL, 1, 1),
        (SectionType.CMDLINE, 1, 1),
        (SectionType.RAMDISK, 1, MAX_SECTIONS),
        (SectionType.METADATA, 0, 1),
        (SectionType.SIGNATURE, 0, 1),
    ):
        found = sum(section.type is kind for section in sections)
        if not least <= found <= most:
            wanted = "one" if least == most else "at least one" if least else "at most one"
            raise EifError("sections", f"{found} of type {kind.name.lower()}, {wanted} is needed")
    measured = [section.type for section in sections if section.type in MEASURED]
    if measured != sorted(measured, key=MEASURED.index):
        names = ", ".join(kind.name.lower() for kind in measured)
        raise EifError("sections", f"in the order {names}; measurements are defined for kernel, cmdline, ramdisks")
    cmdline = next(section.data for section in sections if section.type is SectionType.CMDLINE)
    if b"\0" in cmdline:
        raise EifError("cmdline", "holds a NUL, where some readers stop and others do not")


def _require_crc(raw: bytes) -> None:
    """CRC-32 (ISO-HDLC) of everything but the four bytes that hold it."""
    (stated,) = _CRC.unpack_from(raw, _HEADER.size)
    view = memoryview(raw)
    actual = zlib.crc32(view[HEADER_BYTES:], zlib.crc32(view[: _HEADER.size]))
    if stated != actual:
        raise EifError("CRC", f"the header says {stated:08x}, the file has {actual:08x}: it was damaged or changed")


def _present(data: bytes | None) -> bytes:
    assert data is not None, "an Eif has a kernel and a command line"
    return data
