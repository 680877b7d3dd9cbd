"""The WebSocket protocol under the node endpoint: uvicorn's, but no peer's bytes can hold up everybody else's.

A frame may be seven bytes long, and each costs the time of a Python call. Uvicorn works through all frames of a read at
once, tens of thousands of them, before anybody else has a turn: one stranger could stop the gateway with a trickle. And
fragments without content count towards no message size, so a message of them would grow for ever.

Messages must be small (`ws_max_size`) until the application allows larger ones, for strangers shall hold little memory.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

PIECE_BYTES: Final = 4096
"""Worked through in one turn: some hundred of the shortest frames."""
FRAGMENTS_MAX: Final = 1024
"""Of one message. Nodes send whole messages; a proxy between may cut them."""
MESSAGE_SIZE: Final = "pinaivu.message_size"
"""Extension of the ASGI scope; `scope["extensions"][MESSAGE_SIZE]["allow"](size_bytes)` is the new bound."""


class NodeWebSocket(WebSocketsSansIOProtocol):
    """Takes what was read in pieces, one per turn of the event loop, and reads no more until all of it was taken."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **named)
        self._held = bytearray()
        self._turn: asyncio.Handle | None = None

    async def run_asgi(self) -> None:
        """The application, which can say how large messages may be."""
        extensions = self.scope["extensions"]
        assert extensions is not None, "uvicorn has extensions of its own"
        extensions[MESSAGE_SIZE] = {"allow": self._allow}
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        """From the transport."""
        self._held += data
        if self._turn is None:
            self._take_piece()

    async def receive(self) -> Any:  # noqa: ANN401 - an event of ASGI
        """For the application; uvicorn reads on as soon as the last message was taken, we when nothing is held."""
        event = await super().receive()
        if self._turn is not None:
            self.transport.pause_reading()
        return event

    def handle_cont(self, event: Frame) -> None:
        """A fragment after the first; too many end the connection."""
        if self.close_sent:
            return
        if len(self.frames) < FRAGMENTS_MAX:
            super().handle_cont(event)
            return
        self.conn.fail(CloseCode.POLICY_VIOLATION, "a message in too many fragments")
        self.handle_parser_exception()

    def _allow(self, size_bytes: int) -> None:
        self.conn.max_message_size = size_bytes

    def _take_piece(self) -> None:
        self._turn = None
        if self.transport.is_closing():
            self._held.clear()
            return
        piece = bytes(self._held[:PIECE_BYTES])
        del self._held[:PIECE_BYTES]
        super().data_received(piece)
        if self.transport.is_closing():
            self._held.clear()
        elif self._held:
            self.transport.pause_reading()
            self._turn = self.loop.call_soon(self._take_piece)
        elif not self.read_paused:
            self.transport.resume_reading()
