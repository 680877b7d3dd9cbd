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
        self._line += chunk
        if b"\n" not in chunk:
            self._check_size()
            return []
        *lines, rest = self._line.split(b"\n")
        self._line = rest
        found = [data for line in lines if (data := self._take(line)) is not None]
        self._check_size()
        return found

    def _take(self, line: bytearray) -> bytes | None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if line.startswith(b"data:"):
            self._fields.append(bytes(line[6:] if line.startswith(b"data: ") else line[5:]))
            self._field_bytes += len(line)
            self._check_size()
        elif not line and self._fields:
            data = b"\n".join(self._fields)
            self._fields, self._field_bytes = [], 0
            return data
        return None

    def _check_size(self) -> None:
        if len(self._line) + self._field_bytes > MAX_EVENT_BYTES:
            raise EngineError("engine_unavailable", f"an event of more than {MAX_EVENT_BYTES} bytes")
