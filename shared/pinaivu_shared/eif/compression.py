"""Compressed parts of a ramdisk: gzip is unpacked within a bound, the others are named."""

import zlib
from typing import Final

from pinaivu_shared.eif.budget import Budget
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
_DEFLATE: Final = b"\x08"
_HEADERS: Final = (b"\x00", b"\x08")
"""Flags of a gzip member, none or a file name: Linux knows no others (lib/decompress_inflate.c)."""
_INPUT_STEP_BYTES: Final = 1 << 14
_OUTPUT_STEP_BYTES: Final = 1 << 20


def compression_of(raw: bytes, position: int) -> str | None:
    """The name of the compression that begins here, None for none that Linux knows."""
    head = raw[position : position + 3]
    return next((name for magic, name in _MAGICS if head.startswith(magic)), None)


def unpack_gzip(raw: bytes, start: int, budget: Budget) -> tuple[bytes, int]:
    """The content of the gzip member that begins at `start`, and where it ends.

    Linux skips ten bytes and a file name and inflates what follows, whatever other fields the flags announce. zlib
    would skip those, and two readers would see two contents: such a member is refused.

    Raises EifError("ramdisk") for what is no gzip, is cut off, fails its checksum or exceeds the budget.
    """
    budget.take_member()
    if raw[start + 2 : start + 3] != _DEFLATE or raw[start + 3 : start + 4] not in _HEADERS:
        raise EifError("ramdisk", f"the gzip data at byte {start} has a header that Linux reads in another way")
    member, unpacked, position, pending = zlib.decompressobj(_GZIP_WINDOW), [], start, b""
    try:
        while not member.eof:
            if not pending:
                pending = raw[position : position + _INPUT_STEP_BYTES]
                position += len(pending)
                if not pending:
                    raise EifError("ramdisk", f"ends inside the gzip data that begins at byte {start}")
            unpacked.append(member.decompress(pending, _OUTPUT_STEP_BYTES))
            budget.take_bytes(len(unpacked[-1]))
            pending = member.unconsumed_tail
    except zlib.error as error:
        raise EifError("ramdisk", f"the gzip data at byte {start} cannot be unpacked: {error}") from error
    return b"".join(unpacked), position - len(member.unused_data)
