"""Compressed parts of a ramdisk: gzip is unpacked within a bound, the others are named."""

import zlib
from typing import Final

from pinaivu_shared.eif.errors import EifError

_MAGICS: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"\x1f\x9e", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00", "lzma"),
    (b"\xfd7", "xz"),
    (b"\x89L", "lzo"),
    (b"\x02\x21", "lz4"),
    (b"\x28\xb5", "zstd"),
)
"""First bytes as Linux tells them apart (lib/decompress.c)."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_STEP_BYTES: Final = 1 << 20


def compression_of(raw: bytes, position: int) -> str | None:
    """The name of the compression that begins here, None for none that Linux knows."""
    head = raw[position : position + 3]
    return next((name for magic, name in _MAGICS if head.startswith(magic)), None)


def unpack_gzip(raw: bytes, start: int, max_bytes: int) -> tuple[bytes, int]:
    """The content of the gzip member that begins at `start`, and where it ends.

    Raises EifError("ramdisk") for what is no gzip, is cut off, fails its checksum or unpacks to more than `max_bytes`.
    """
    member, unpacked, view = zlib.decompressobj(_GZIP_WINDOW), bytearray(), memoryview(raw)
    position, pending = start, b""
    try:
        while not member.eof:
            if not pending:
                pending = bytes(view[position : position + _STEP_BYTES])
                position += len(pending)
                if not pending:
                    raise EifError("ramdisk", f"ends inside the gzip data that begins at byte {start}")
            unpacked += member.decompress(pending, _STEP_BYTES)
            pending = member.unconsumed_tail
            if len(unpacked) > max_bytes:
                raise EifError("ramdisk", f"the gzip data at byte {start} unpacks to more than {max_bytes} bytes")
    except zlib.error as error:
        raise EifError("ramdisk", f"the gzip data at byte {start} cannot be unpacked: {error}") from error
    return bytes(unpacked), position - len(member.unused_data)
