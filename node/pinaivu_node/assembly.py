"""The answer as it was sent, put together again for the node's commitment (DESIGN section 5)."""

from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.wire.node import Delta, ToolCallDelta


class Assembly:
    """Collects the deltas of one answer."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._finish_reason: str | None = None
        self.begun = False

    def add(self, delta: Delta) -> None:
        """Take a delta that was handed to the connection."""
        self.begun = True
        self._content.append(delta.content)
        for piece in delta.tool_calls:
            self._calls.setdefault(piece.index, _Call()).add(piece)
        if delta.finish_reason:
            self._finish_reason = delta.finish_reason

    def commitment(self, salt: bytes) -> str:
        """The response commitment, empty when nothing was generated. An unfinished answer has no finish reason."""
        if not self.begun:
            return ""
        message: dict[str, object] = {"role": "assistant", "content": "".join(self._content)}
        if self._calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self._calls.items())]
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        return response_commitment([choice], salt)


class _Call:
    """One tool call: its id and name come once, its arguments in pieces."""

    def __init__(self) -> None:
        self._id, self._name = "", ""
        self._arguments: list[str] = []

    def add(self, piece: ToolCallDelta) -> None:
        self._id, self._name = self._id or piece.id, self._name or piece.name
        self._arguments.append(piece.arguments)

    def whole(self) -> dict[str, object]:
        function = {"name": self._name, "arguments": "".join(self._arguments)}
        return {"id": self._id, "type": "function", "function": function}
