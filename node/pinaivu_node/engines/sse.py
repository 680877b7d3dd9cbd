"""Server-sent events from a stream of bytes, with bounded lines (WHATWG HTML 9.2.6; only `data` fields matter here)."""

from typing import Final

from pinaivu_node.engines.events import EngineError

MAX_EVENT_BYTES: Final = 1 << 20


class EventReader:
    """Cuts a body into the data of its events. Comments, names and ids of events are passed over."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._fields: list[bytes] = []
        self._field_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of all events that this chunk completes; EngineError for a line or event that is too long."""
        found: list[bytes] = []
        if b"\n" in chunk:
            *lines, rest = (bytes(self._line) + chunk).split(b"\n")
            self._line = bytearray(rest)
            self._take(lines, found)
        else:
            self._line += chunk
        if len(self._line) + self._field_bytes > MAX_EVENT_BYTES:
            raise EngineError("engine_unavailable", f"an event of more than {MAX_EVENT_BYTES} bytes")
        return found

    def _take(self, lines: list[bytes], found: list[bytes]) -> None:
        for whole in lines:
            line = whole[:-1] if whole.endswith(b"\r") else whole
            if line.startswith(b"data:"):
                self._fields.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._field_bytes += len(line)
            elif not line and self._fields:
                found.append(b"\n".join(self._fields) if len(self._fields) > 1 else self._fields[0])
                self._fields, self._field_bytes = [], 0
