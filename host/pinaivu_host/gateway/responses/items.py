"""The output items of a response: what the model said, and the functions it calls, each as it grows and as it is."""

from typing import Any, Final, Literal

from pinaivu_host.gateway.answer import TokenLogprob

Status = Literal["in_progress", "completed", "incomplete"]
CONTENT_INDEX: Final = 0
"""A message has one part, its text."""


class MessageItem:
    """What the model said."""

    def __init__(self, item_id: str, output_index: int) -> None:
        self.item_id, self.output_index = item_id, output_index
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def add(self, text: str, logprobs: list[TokenLogprob]) -> None:
        """Take the next piece."""
        self._text.append(text)
        self._logprobs += logprobs

    def text(self) -> str:
        """All of it so far."""
        return "".join(self._text)

    def part(self) -> dict[str, Any]:
        """The part of type `output_text`."""
        return {"type": "output_text", "text": self.text(), "annotations": [], "logprobs": self._logprobs}

    def shown(self, status: Status, *, begun: bool = False) -> dict[str, Any]:
        """The item; one that has just begun has no part yet."""
        return {
            "id": self.item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [] if begun else [self.part()],
        }


class CallItem:
    """A function that the model calls."""

    def __init__(self, item_id: str, output_index: int, *, call_id: str, name: str) -> None:
        self.item_id, self.output_index = item_id, output_index
        self.call_id, self.name = call_id, name
        self._arguments: list[str] = []

    def add(self, arguments: str) -> None:
        """Take the next piece."""
        self._arguments.append(arguments)

    def arguments(self) -> str:
        """All of them so far: JSON as text."""
        return "".join(self._arguments)

    def shown(self, status: Status) -> dict[str, Any]:
        """The item."""
        return {
            "id": self.item_id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments(),
        }


Item = MessageItem | CallItem
