"""Length-prefixed frames: 4 bytes of big-endian length, then that many bytes. Bytes in, frames out; no I/O."""

from typing import Final

from pinaivu_shared.errors import PeerError

PREFIX_BYTES: Final = 4


def frame(payload: bytes, *, max_bytes: int) -> bytes:
    """One frame. A payload above the bound is our own bug."""
    assert len(payload) <= max_bytes, f"frame of {len(payload)} bytes"
    return len(payload).to_bytes(PREFIX_BYTES) + payload


def announced_bytes(prefix: bytes | bytearray, *, peer: str, max_bytes: int) -> int:
    """How many bytes follow the first four of a frame; PeerError, which names `peer`, above the bound."""
    size = int.from_bytes(prefix)
    if size > max_bytes:
        raise PeerError(peer, f"announced a frame of {size} bytes, at most {max_bytes} are allowed")
    return size


class FrameReader:
    """Cuts a byte stream into frames and refuses a length above `max_bytes` before anything of it is kept."""

    def __init__(self, peer: str, *, max_bytes: int) -> None:
        self._peer, self._max_bytes = peer, max_bytes
        self._buffer = bytearray()

    def feed(self, received: bytes | bytearray) -> list[bytes]:
        """Frames completed by these bytes; PeerError when a frame announces more than the bound."""
        self._buffer += received
        frames, start = [], 0
        while len(self._buffer) - start >= PREFIX_BYTES:
            prefix = self._buffer[start : start + PREFIX_BYTES]
            size = announced_bytes(prefix, peer=self._peer, max_bytes=self._max_bytes)
            if len(self._buffer) - start - PREFIX_BYTES < size:
                break
            start += PREFIX_BYTES
            frames.append(bytes(self._buffer[start : start + size]))
            start += size
        del self._buffer[:start]
        return frames
