"""Whether a node's tool calls come as a caller's client can put them together."""

from typing import Final

from pinaivu_shared.wire.node import Delta


class CallOrder:
    """Calls begin one after the other, numbered from 0 in each choice; the first piece has the name, no other has.

    A client appends each call that begins to its list, and a verifier does: any other number would be no place in it.
    """

    def __init__(self, choices: int) -> None:
        self._begun: Final = [0] * choices

    def takes(self, delta: Delta) -> bool:
        """Whether these pieces may come next; if so they have."""
        for piece in delta.tool_calls:
            begun = self._begun[delta.index]
            begins = piece.index == begun
            if piece.index > begun or begins != bool(piece.name) or (piece.id and not begins):
                return False
            self._begun[delta.index] += begins
        return True
