"""The image format: what is written is read by others, and whatever is read has one spelling and one meaning."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.image.images import APPLICATION, BOOT, CMDLINE, KERNEL, image, with_crc
from tests.image.qemu_reader import QemuError, read_as_qemu

from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.eif.format import Eif, Section, SectionType, encode_eif, parse_eif, write_eif
from pinaivu_shared.errors import UnreadableError

IMAGE = image()
SMALL = write_eif(kernel=b"k", cmdline=b"c", metadata=b"{}", ramdisks=(b"r",))
SECTIONS = [0x224, 0x224 + 12 + 1, 0x224 + 2 * 13, 0x224 + 2 * 13 + 14]
"""Where the section headers of SMALL are: kernel, cmdline, metadata, ramdisk."""


def test_sections_stand_in_awss_order_and_the_defaults_are_awss() -> None:
    eif = parse_eif(image(signature=b"\x80"))
    assert [section.type.name for section in eif.sections] == [
        "KERNEL",
        "CMDLINE",
        "METADATA",
        "RAMDISK",
        "RAMDISK",
        "SIGNATURE",
    ]
    assert (eif.version, eif.flags, eif.default_memory_bytes, eif.default_cpus) == (4, 0, 1073741824, 2)


def test_the_header_is_where_the_specification_puts_it() -> None:
    assert SMALL[:8] == b".eif\0\4\0\0"
    assert SMALL[0x1A:0x1C] == b"\0\4"
    assert list(struct.unpack_from(">5Q", SMALL, 0x1C)) == [*SECTIONS, 0]
    assert list(struct.unpack_from(">5Q", SMALL, 0x11C)) == [1, 1, 2, 1, 0]
    assert SMALL[0x224:0x231] == b"\0\1\0\0" + bytes(7) + b"\1k"
    assert with_crc(SMALL) == SMALL


def test_qemus_rules_find_the_same_contents() -> None:
    booted = read_as_qemu(IMAGE)
    assert (booted.kernel, booted.cmdline, booted.initrd) == (KERNEL, CMDLINE, BOOT + APPLICATION)
    eif = parse_eif(IMAGE)
    assert (eif.kernel, eif.cmdline, eif.ramdisks) == (KERNEL, CMDLINE, (BOOT, APPLICATION))


def changed(place: int, new: bytes) -> bytes:
    return with_crc(SMALL[:place] + new + SMALL[place + len(new) :])


def number(place: int, value: int, size: int = 8) -> bytes:
    return changed(place, value.to_bytes(size, "big"))


CORRUPT: list[tuple[str, bytes, str, str]] = [
    ("nothing", b"", "magic", "nothing"),
    ("another magic", changed(0, b"\x7fELF"), "magic", "7f454c46"),
    ("half a header", SMALL[:300], "header", "ends after 300"),
    ("version 1, which has no CRC", number(4, 1, 2), "version", "is 1"),
    ("version 5", number(4, 5, 2), "version", "is 5"),
    ("an unknown flag", number(6, 2, 2), "flags", "0x0002"),
    ("a reserved field", number(0x18, 1, 2), "header", "reserved"),
    ("the unused field", number(0x21C, 1, 4), "header", "reserved"),
    ("no section", number(0x1A, 0, 2), "section count", "is 0"),
    ("33 sections", number(0x1A, 33, 2), "section count", "is 33"),
    ("65535 sections", number(0x1A, 65535, 2), "section count", "65535"),
    ("an offset in an unused slot", number(0x1C + 8 * 4, 1), "section table", "unused slot"),
    ("a size in an unused slot", number(0x11C + 8 * 31, 1), "section table", "unused slot"),
    ("fewer sections than the file has", number(0x1A, 3, 2), "section table", "unused slot"),
    ("more sections than the file has", number(0x1A, 5, 2), "section 5", "puts it at byte 0"),
    ("a first section that is not first", number(0x1C, 0x225), "section 1", "puts it at byte 549"),
    ("overlapping sections", number(0x1C + 8, SECTIONS[0]), "section 2", "puts it at byte 548"),
    ("an offset of 2^63", number(0x1C + 8, 1 << 63), "section 2", str(1 << 63)),
    ("an offset of 2^64-1", number(0x1C + 24, (1 << 64) - 1), "section 4", str((1 << 64) - 1)),
    ("a size that only the header has", number(0x11C, 2), "section 1", "its own header says 1"),
    ("a size of 2^63 in the header only", number(0x11C, 1 << 63), "section 1", "its own header says 1"),
    ("a size that only the section has", number(SECTIONS[0] + 4, 2), "section 1", "its own header says 2"),
    ("section type 0", number(SECTIONS[0], 0, 2), "section 1", "no section type 0"),
    ("section type 6", number(SECTIONS[3], 6, 2), "section 4", "no section type 6"),
    ("section flags", number(SECTIONS[1] + 2, 1, 2), "section 2", "0x0001"),
    ("a file that ends inside data", with_crc(SMALL[:-1]), "section 4", "ends at byte"),
    ("a file that ends inside a section's header", with_crc(SMALL[: SECTIONS[3] + 5]), "section 4", "ends at byte"),
    ("a section that only AWS's reader sees", with_crc(SMALL + b"\0\3\0\0" + bytes(7) + b"\1x"), "end", "13 bytes"),
    ("two kernels", number(SECTIONS[1], 1, 2), "sections", "2 of type kernel"),
    ("no kernel", number(SECTIONS[0], 5, 2), "sections", "0 of type kernel"),
    ("no command line", number(SECTIONS[1], 3, 2), "sections", "0 of type cmdline"),
    ("no ramdisk", number(SECTIONS[3], 4, 2), "sections", "0 of type ramdisk"),
    ("a wrong CRC", SMALL[:0x220] + b"\0\0\0\0" + SMALL[0x224:], "CRC", "damaged or changed"),
    ("changed data", SMALL[:-1] + b"R", "CRC", "damaged or changed"),
    ("a command line with a NUL", changed(SECTIONS[1] + 12, b"\0"), "cmdline", "NUL"),
]


@pytest.mark.parametrize(("raw", "part", "detail"), [case[1:] for case in CORRUPT], ids=[case[0] for case in CORRUPT])
def test_a_corrupt_image_is_refused_with_the_place(raw: bytes, part: str, detail: str) -> None:
    with pytest.raises(EifError, match=detail) as refused:
        parse_eif(raw)
    assert refused.value.part == part
    assert isinstance(refused.value, UnreadableError)


def test_sizes_of_2_63_on_both_sides_are_refused_at_no_cost() -> None:
    raw = bytearray(SMALL)
    for place in (0x11C + 24, SECTIONS[3] + 4):
        raw[place : place + 8] = (1 << 63).to_bytes(8, "big")
    with pytest.raises(EifError, match="has 9223372036854775808 bytes"):
        parse_eif(with_crc(bytes(raw)))


def reordered(*order: int) -> bytes:
    """SMALL with its sections in another order, written by hand because the writer refuses most of them."""
    sections = [SMALL[start:end] for start, end in zip(SECTIONS, [*SECTIONS[1:], len(SMALL)], strict=True)]
    chosen = [sections[place] for place in order]
    ends = [sum(map(len, chosen[:place])) for place in range(len(chosen) + 1)]
    offsets = [0x224 + end for end in ends[:-1]] + [0] * (32 - len(chosen))
    sizes = [len(section) - 12 for section in chosen] + [0] * (32 - len(chosen))
    head = SMALL[:0x1A] + struct.pack(">H32Q32Q", len(chosen), *offsets, *sizes) + SMALL[0x21C:0x224]
    return with_crc(head + b"".join(chosen))


def test_measured_sections_in_another_order_are_refused_though_qemu_boots_them() -> None:
    for order in ((1, 0, 2, 3), (3, 0, 1, 2), (0, 3, 1, 2)):
        raw = reordered(*order)
        assert read_as_qemu(raw).pcrs != read_as_qemu(SMALL).pcrs
        with pytest.raises(EifError, match="measurements are defined for kernel, cmdline, ramdisks"):
            parse_eif(raw)


def test_metadata_may_stand_anywhere_as_older_tools_had_it_elsewhere() -> None:
    for order in ((2, 0, 1, 3), (0, 1, 3, 2)):
        assert parse_eif(reordered(*order)).ramdisks == (b"r",)
    assert parse_eif(reordered(0, 1, 3)).only(SectionType.METADATA) is None


def test_two_of_what_there_is_at_most_one_of_are_refused() -> None:
    assert len(parse_eif(reordered(0, 1, 3, 3)).ramdisks) == 2
    with pytest.raises(EifError, match="2 of type metadata, at most one"):
        parse_eif(reordered(0, 1, 2, 2, 3))


def test_versions_2_to_4_are_read_and_qemu_takes_4_only() -> None:
    for version in (2, 3, 4):
        raw = number(4, version, 2)
        assert parse_eif(raw).version == version
    with pytest.raises(QemuError):
        read_as_qemu(number(4, 3, 2))


def test_every_truncation_is_refused() -> None:
    for size in range(len(SMALL)):
        with pytest.raises(EifError):
            parse_eif(SMALL[:size])
        with pytest.raises(EifError):
            parse_eif(with_crc(SMALL[:size]) if size >= 548 else SMALL[:size])


def test_every_flipped_bit_is_noticed() -> None:
    for place in range(8 * len(SMALL)):
        raw = bytearray(SMALL)
        raw[place // 8] ^= 1 << place % 8
        with pytest.raises(EifError):
            parse_eif(bytes(raw))


def test_every_flipped_bit_with_a_mended_crc_is_refused_or_read_as_exactly_these_bytes() -> None:
    read = 0
    for place in range(8 * len(SMALL)):
        raw = bytearray(SMALL)
        raw[place // 8] ^= 1 << place % 8
        read += reads_as_itself(with_crc(bytes(raw)))
    assert read > 8 * 16, "memory, CPUs and contents may have any value"


def reads_as_itself(raw: bytes) -> bool:
    try:
        eif = parse_eif(raw)
    except EifError:
        return False
    assert encode_eif(eif) == raw
    return True


@given(st.sampled_from([b"", b".eif\0\4"]), st.binary(max_size=600))
@example(b".eif", bytes(544))
def test_any_bytes_give_an_image_or_an_eif_error(beginning: bytes, rest: bytes) -> None:
    reads_as_itself(beginning + rest)


EDITS = st.lists(
    st.tuples(st.integers(0, len(SMALL)), st.binary(max_size=9), st.integers(0, 9)), min_size=1, max_size=3
)


@given(EDITS)
def test_a_mutated_image_with_a_mended_crc_is_refused_or_read_as_exactly_these_bytes(
    edits: list[tuple[int, bytes, int]],
) -> None:
    raw = SMALL
    for place, new, old in edits:
        raw = raw[:place] + new + raw[place + old :]
    reads_as_itself(with_crc(raw) if len(raw) >= 548 else raw)


@st.composite
def images(draw: st.DrawFn) -> Eif:
    kinds = [SectionType.KERNEL, SectionType.CMDLINE] + [SectionType.RAMDISK] * draw(st.integers(1, 28))
    for kind in (SectionType.METADATA, SectionType.SIGNATURE):
        if draw(st.booleans()):
            kinds.insert(draw(st.integers(0, len(kinds))), kind)
    contents = st.binary(max_size=40).map(lambda content: content.replace(b"\0", b"0"))
    return Eif(
        version=draw(st.integers(2, 4)),
        flags=draw(st.integers(0, 1)),
        default_memory_bytes=draw(st.integers(0, 2**64 - 1)),
        default_cpus=draw(st.integers(0, 2**64 - 1)),
        sections=tuple(Section(kind, draw(contents)) for kind in kinds),
    )


@given(images())
def test_what_is_written_is_read_and_qemu_agrees(eif: Eif) -> None:
    raw = encode_eif(eif)
    assert parse_eif(raw) == eif
    if (eif.version, eif.flags) == (4, 0):
        booted = read_as_qemu(raw)
        assert (booted.kernel, booted.cmdline) == (eif.kernel, eif.cmdline)
        assert booted.initrd == b"".join(eif.ramdisks)


def test_nothing_is_written_that_could_not_be_read() -> None:
    with pytest.raises(EifError, match="at least one"):
        image(ramdisks=())
    with pytest.raises(EifError, match="is 33"):
        image(ramdisks=(b"r",) * 30)
    with pytest.raises(EifError, match="NUL"):
        write_eif(kernel=b"k", cmdline=b"a\0b", metadata=b"{}", ramdisks=(b"r",))
    assert len(parse_eif(image(ramdisks=(b"r",) * 28, signature=b"\x80")).sections) == 32
