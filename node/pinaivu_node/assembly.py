"""The answer as it was sent, put together again for the node's commitment (DESIGN section 5)."""

from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.wire.node import Delta, ToolCallDelta


class Assembly:
    """Collects the deltas of one answer with so many choices."""

    def __init__(self, choices: int = 1) -> None:
        self._choices = [_Choice() for _ in range(choices)]
        self.begun = False

    def add(self, delta: Delta) -> None:
        """Take a delta that was handed to the connection."""
        self.begun = True
        self._choices[delta.index].add(delta)

    def commitment(self, salt: bytes) -> str:
        """The response commitment over all choices, empty when nothing was generated.

        An unfinished answer has no finish reason in any of them.
        """
        if not self.begun:
            return ""
        finished = all(choice.finish_reason for choice in self._choices)
        shown = ((choice.message(), choice.finish_reason if finished else None) for choice in self._choices)
        return response_commitment(
            [
                {"index": index, "message": message, "finish_reason": reason}
                for index, (message, reason) in enumerate(shown)
            ],
            salt,
        )


class _Choice:
    """One choice: its text and tool calls in pieces."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._calls: dict[int, _Call] = {}
        self.finish_reason = ""

    def add(self, delta: Delta) -> None:
        self._content.append(delta.content)
        for piece in delta.tool_calls:
            self._calls.setdefault(piece.index, _Call()).add(piece)
        self.finish_reason = delta.finish_reason or self.finish_reason

    def message(self) -> dict[str, object]:
        message: dict[str, object] = {"role": "assistant", "content": "".join(self._content)}
        if self._calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self._calls.items())]
        return message


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
