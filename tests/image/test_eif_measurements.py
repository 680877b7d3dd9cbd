"""Measurements: what reaches which register, and what reaches none."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from tests.image.images import APPLICATION, BOOT, CMDLINE, KERNEL, image
from tests.image.qemu_reader import read_as_qemu

from pinaivu_shared.eif.format import parse_eif, write_eif
from pinaivu_shared.eif.measurements import Measurements, measure

PCR2_OF_ONE_RAMDISK = "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"
"""What nitro-cli prints for every image with a single ramdisk."""


def measured(raw: bytes) -> Measurements:
    return measure(parse_eif(raw))


def by_hand(*contents: bytes) -> bytes:
    return hashlib.sha384(bytes(48) + hashlib.sha384(b"".join(contents)).digest()).digest()


def test_each_register_covers_what_awss_guide_says() -> None:
    found = measured(image())
    assert found.pcr0 == by_hand(KERNEL, CMDLINE, BOOT, APPLICATION)
    assert found.pcr1 == by_hand(KERNEL, CMDLINE, BOOT)
    assert found.pcr2 == by_hand(APPLICATION)
    assert found.pcr8 is None


def test_with_one_ramdisk_pcr2_is_the_known_constant() -> None:
    found = measured(image(ramdisks=(BOOT,)))
    assert found.as_hex()["PCR2"] == PCR2_OF_ONE_RAMDISK
    assert found.pcr0 == found.pcr1


def test_hex_is_lowercase_in_the_order_of_the_registers() -> None:
    assert list(measured(image()).as_hex()) == ["PCR0", "PCR1", "PCR2"]
    assert measured(image()).as_hex()["PCR0"] == measured(image()).pcr0.hex()


@given(st.binary(max_size=50), st.binary(max_size=50), st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_qemu_computes_the_same(kernel: bytes, cmdline: bytes, ramdisks: list[bytes]) -> None:
    cmdline = cmdline.replace(b"\0", b"0")
    raw = write_eif(kernel=kernel, cmdline=cmdline, metadata=b"{}", ramdisks=tuple(ramdisks))
    found = measured(raw)
    assert read_as_qemu(raw).pcrs == {0: found.pcr0.hex(), 1: found.pcr1.hex(), 2: found.pcr2.hex()}


def test_a_head_of_the_command_line_moved_into_the_kernel_changes_no_register() -> None:
    """The reason why init compares /proc/cmdline with the line built into it."""
    moved = write_eif(kernel=KERNEL + CMDLINE[:8], cmdline=CMDLINE[8:], metadata=b"other", ramdisks=(BOOT, APPLICATION))
    assert measured(moved) == measured(image())


def test_bytes_moved_between_ramdisks_keep_pcr0_and_change_the_others() -> None:
    """The reason why a policy pins three registers."""
    moved = measured(image(ramdisks=(BOOT + APPLICATION[:512], APPLICATION[512:])))
    original = measured(image())
    assert moved.pcr0 == original.pcr0
    assert moved.pcr1 != original.pcr1
    assert moved.pcr2 != original.pcr2
