"""Whether somebody still wants the answer, and how whoever works on it hears that nobody does."""

from collections.abc import Callable
from typing import Literal

from starlette.types import Receive

Reason = Literal["", "client_disconnected", "client_stalled", "shutting_down"]


class CallerLeftError(Exception):
    """Nobody wants the answer any more."""


class Departure:
    """`reason` is empty while the answer is wanted. Leaving wakes whatever the job waits for.

    `outcome` is what the caller was told in the end, for the log: `completed`, an error's code, or nothing yet.
    """

    __slots__ = ("_wake", "outcome", "reason")

    def __init__(self) -> None:
        self.reason: Reason = ""
        self.outcome = ""
        self._wake: Callable[[], None] | None = None

    def attend(self, wake: Callable[[], None]) -> None:
        """Call this on leaving, instead of what was named before; at once if that has happened."""
        self._wake = wake
        if self.reason:
            wake()

    def leave(self, reason: Reason) -> None:
        """The answer is wanted no more; the first reason stays."""
        if not self.reason:
            self.reason = reason
            if self._wake is not None:
                self._wake()

    @property
    def caller_gone(self) -> bool:
        """Whether nobody is left to be told anything."""
        return self.reason in {"client_disconnected", "client_stalled"}


async def watch_caller(receive: Receive, departure: Departure) -> None:
    """Wait, after the body was read, until the caller closes the connection. Needs no polling: ASGI says so."""
    message = await receive()
    assert message["type"] == "http.disconnect", "the body has not been read to its end"
    departure.leave("client_disconnected")
