"""An image as QEMU reads it (hw/core/eif.c), written from that description and without any code of ours.

It follows the offsets of the header, takes the CRC in the order of the sections and computes the registers itself.
"""

import binascii
import hashlib
import io
import struct
from dataclasses import dataclass

KERNEL, CMDLINE, RAMDISK, SIGNATURE = 1, 2, 3, 4


class QemuError(Exception):
    """QEMU would print this and not start."""


@dataclass(frozen=True)
class Booted:
    """What the guest gets, and PCR0, 1 and 2 in hex."""

    kernel: bytes
    initrd: bytes
    cmdline: bytes
    pcrs: dict[int, str]


def read_as_qemu(raw: bytes) -> Booted:
    stream = io.BytesIO(raw)
    magic, version, flags = struct.unpack(">4sHH", stream.read(8))
    _memory, _cpus, _reserved, count = struct.unpack(">QQHH", stream.read(20))
    offsets, sizes = struct.unpack(">32Q", stream.read(256)), struct.unpack(">32Q", stream.read(256))
    _unused, stated = struct.unpack(">II", stream.read(8))
    if magic != b".eif" or version < 4 or flags or count > 32 or any(size >= 1 << 63 for size in sizes):
        raise QemuError("header")
    crc = binascii.crc32(raw[:0x220])
    contents: dict[int, list[bytes]] = {kind: [] for kind in range(6)}
    image, boot, application = hashlib.sha384(), hashlib.sha384(), hashlib.sha384()
    for offset, size in zip(offsets[:count], sizes[:count], strict=True):
        stream.seek(offset)
        header = stream.read(12)
        kind, section_flags, own_size = struct.unpack(">HHQ", header)
        content = stream.read(own_size)
        if section_flags or own_size != size or len(content) != size:
            raise QemuError("section")
        crc = binascii.crc32(content, binascii.crc32(header, crc))
        if kind in (KERNEL, CMDLINE, RAMDISK):
            image.update(content)
            first = kind != RAMDISK or not contents[RAMDISK]
            (boot if first else application).update(content)
        contents[kind].append(content)
    if stated != crc:
        raise QemuError("CRC mismatch")
    if [len(contents[KERNEL]), len(contents[CMDLINE])] != [1, 1] or not contents[RAMDISK]:
        raise QemuError("count")
    digests = {index: digest.digest() for index, digest in enumerate((image, boot, application))}
    pcrs = {index: hashlib.sha384(bytes(48) + digest).hexdigest() for index, digest in digests.items()}
    return Booted(contents[KERNEL][0], b"".join(contents[RAMDISK]), contents[CMDLINE][0], pcrs)
