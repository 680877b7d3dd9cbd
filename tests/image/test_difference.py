"""`pinaivu image diff`: which input, section and file two images differ in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.image.images import (
    APPLICATION,
    BOOT,
    KERNEL,
    TRAILER,
    file,
    image,
    inputs_file,
    link,
    raw_entry,
    with_crc,
    zipped,
)

from pinaivu_image.difference import Difference, compare_images
from pinaivu_image.inputs import APPLICATION_INPUTS
from pinaivu_image.inspection import inspect_image
from pinaivu_image.rendering import difference_lines
from pinaivu_shared.eif.cpio import CpioEntry, with_parents, write_cpio


def compare(old: bytes, new: bytes) -> Difference:
    return compare_images(inspect_image(old), inspect_image(new))


def built(version: str, content: bytes = b"code", *more: CpioEntry) -> bytes:
    """One of our images, with a file that came from a wheel."""
    stated = inputs_file(version, {"lib/msgspec.so": "msgspec"})
    return image(ramdisks=(BOOT, write_cpio(with_parents([file("lib/msgspec.so", content), stated, *more]))))


def tree(*entries: CpioEntry) -> bytes:
    return image(ramdisks=(BOOT, write_cpio(with_parents(entries))))


def changes(found: tuple[dict[str, Any], ...], label: str) -> dict[str, tuple[Any, Any]]:
    return {change[label]: (change["old"], change["new"]) for change in found}


def test_an_image_is_the_same_as_itself() -> None:
    assert compare(image(), image()) == Difference()
    assert compare(image(), image()).same
    assert list(difference_lines(compare(image(), image()))) == ["the images are the same, byte for byte"]


def test_a_changed_input_is_named_with_both_versions_and_first() -> None:
    found = compare(built("1.0", b"old code"), built("1.1", b"new code"))
    (change,) = found.inputs
    assert (change["input"], change["kind"]) == ("msgspec", "wheel")
    assert (change["old"]["version"], change["new"]["version"]) == ("1.0", "1.1")
    assert change["old"]["sha256"] != change["new"]["sha256"]
    lines = list(difference_lines(found))
    assert lines[0] == "inputs:"
    assert lines[1].startswith("  msgspec wheel: version 1.0, sha256 ")


def test_a_changed_file_names_its_input_sizes_and_hashes() -> None:
    found = compare(built("1.0", b"old"), built("1.0", b"newer"))
    assert found.inputs == ()
    old, new = changes(found.files, "path")["lib/msgspec.so"]
    assert (old["input"], old["size"], new["size"]) == ("msgspec", 3, 5)
    assert old["sha256"] != new["sha256"]


def test_an_input_that_is_new_or_gone_has_nothing_on_the_other_side() -> None:
    kernel_only = image(ramdisks=(BOOT, write_cpio(with_parents([file(APPLICATION_INPUTS, NO_WHEEL)]))))
    assert changes(compare(kernel_only, built("1.0")).inputs, "input")["msgspec"][0] is None
    assert changes(compare(built("1.0"), kernel_only).inputs, "input")["msgspec"][1] is None


NO_WHEEL = (
    b'{"inputs":[{"kind":"kernel-source","name":"linux","version":"6.12","sha256":"' + b"2" * 64 + b'"}],"files":{}}'
)


def test_a_changed_kernel_is_a_section_and_two_registers() -> None:
    found = compare(image(), image(kernel=KERNEL + b"!"))
    assert set(changes(found.sections, "section")) == {"kernel"}
    assert set(changes(found.measurements, "register")) == {"PCR0", "PCR1"}
    assert found.files == ()


def test_unmeasured_changes_are_differences_without_a_register() -> None:
    more_memory = with_crc(image()[:8] + (1 << 31).to_bytes(8, "big") + image()[16:])
    found = compare(image(), more_memory)
    assert changes(found.header, "field") == {"default_memory_bytes": (1 << 30, 1 << 31)}
    assert (found.same, found.measurements, found.sections) == (False, (), ())


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (file("a", mode=0o644), file("a", mode=0o755), "mode"),
        (link("a", "b"), link("a", "c"), "target"),
        (file("a"), link("a", "b"), "kind"),
        (file("a"), CpioEntry(path="a", mode=0o100644, uid=5), "uid"),
        (file("a"), CpioEntry(path="a", mode=0o100644, mtime_s=5), "mtime_s"),
        (CpioEntry(path="a", mode=0o20600, rdev=(1, 3)), CpioEntry(path="a", mode=0o20600, rdev=(1, 5)), "device"),
    ],
    ids=["mode", "target", "kind", "owner", "time", "device"],
)
def test_every_property_of_a_file_counts(old: CpioEntry, new: CpioEntry, field: str) -> None:
    before, after = changes(compare(tree(old), tree(new)).files, "path")["a"]
    assert before.get(field) != after.get(field)
    assert {name for name in before | after if before.get(name) != after.get(name)} >= {field}


def test_added_and_removed_files_have_nothing_on_the_other_side() -> None:
    found = changes(compare(tree(file("a"), file("b")), tree(file("b"), file("c"))).files, "path")
    assert set(found) == {"a", "c"}
    assert found["a"][1] is None
    assert found["c"][0] is None


def test_a_ramdisk_that_only_one_image_has_is_listed_file_by_file() -> None:
    found = compare(image(ramdisks=(BOOT,)), image())
    assert changes(found.sections, "section")["ramdisk 2"][0] is None
    assert {(change["ramdisk"], change["path"]) for change in found.files} == {
        (2, "app"),
        (2, "app/latest"),
        (2, "app/main.py"),
    }


def test_the_same_files_packed_otherwise_are_a_warning_since_a_list_may_be_blind() -> None:
    found = compare(image(), image(ramdisks=(BOOT, zipped(APPLICATION))))
    assert not found.same
    assert found.files == ()
    (note,) = found.notes
    assert note.startswith("ramdisk 2: WARNING: the listed files are the same, but the measured bytes are not")
    assert "do not accept" in note


def test_files_that_cannot_be_listed_are_not_called_the_same() -> None:
    found = compare(image(ramdisks=(BOOT, b"junk")), image(ramdisks=(BOOT, b"rubbish")))
    assert [note.split(":")[0] for note in found.notes] == ["old ramdisk 2", "new ramdisk 2"]


def test_nothing_of_a_ramdisk_that_cannot_be_listed_is_called_absent() -> None:
    for old, new, side in ((built("1.0"), JUNK, "new"), (JUNK, built("1.0"), "old")):
        found = compare(old, new)
        assert (found.inputs, found.files) == ((), ())
        assert [(one["ramdisk"], one["side"]) for one in found.unlisted] == [(2, side)]
        lines = list(difference_lines(found))
        (said,) = lines[lines.index("files:") + 1 :]
        assert said.startswith(f"  ramdisk 2, {side}: files cannot be listed: at byte 0: 6a756e6b")
        assert "(absent)" not in "".join(lines)
        assert not [note for note in found.notes if "states its inputs" in note]


JUNK = image(ramdisks=(BOOT, b"junk"))


def test_what_can_be_listed_beside_it_is_compared() -> None:
    stated = [write_cpio(with_parents([file("a", version.encode()), inputs_file(version)])) for version in ("1", "2")]
    old, new = (image(ramdisks=(ramdisk, last)) for ramdisk, last in zip(stated, (APPLICATION, b"junk"), strict=True))
    found = compare(old, new)
    assert [change["input"] for change in found.inputs] == ["msgspec"]
    assert {(change["ramdisk"], change["path"]) for change in found.files} == {(1, "a"), (1, APPLICATION_INPUTS)}


def test_a_ramdisk_that_cannot_be_listed_and_is_the_same_is_no_difference() -> None:
    assert compare(JUNK, JUNK).unlisted == ()
    assert list(difference_lines(compare(JUNK, JUNK))) == ["the images are the same, byte for byte"]


def test_inputs_that_only_one_image_states_in_a_ramdisk_are_not_absent_in_the_other() -> None:
    mute = write_cpio([file("a")])
    stating = write_cpio(with_parents([file("b"), inputs_file("1.0")]))
    found = compare(image(ramdisks=(stating, mute)), image(ramdisks=(stating, stating)))
    assert found.inputs == ()
    assert any(note.startswith("ramdisk 2: only one") for note in found.notes)


def test_images_of_other_tools_are_compared_by_section_and_file() -> None:
    found = compare(tree(file("a", b"1")), tree(file("a", b"2")))
    assert found.inputs == ()
    assert set(changes(found.files, "path")) == {"a"}


def test_inputs_of_one_side_only_are_not_compared_and_that_is_said() -> None:
    found = compare(tree(file("a")), built("1.0"))
    assert found.inputs == ()
    assert "ramdisk 2: only one of the images states its inputs, so they were not compared" in found.notes


def test_prefixes_of_other_tools_do_not_make_paths_differ() -> None:
    plain = write_cpio([file("a", b"1")])
    for path in (b"./a\0", b"/a\0", b".//./a\0"):
        other = raw_entry(path, b"1") + TRAILER
        assert compare(image(ramdisks=(BOOT, plain)), image(ramdisks=(BOOT, other))).files == ()


@given(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9))
def test_same_means_equal_byte_for_byte(kernel: bytes, ramdisk: bytes, other_kernel: bytes, other: bytes) -> None:
    one, two = image(kernel=kernel, ramdisks=(ramdisk,)), image(kernel=other_kernel, ramdisks=(other,))
    assert compare(one, two).same == (one == two)
    assert compare(one, one).same
