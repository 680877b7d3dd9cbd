"""What an engine's answer is made of, whatever engine gave it, and how an engine fails.

`index` is the choice that an event belongs to, counted from 0.
"""

from typing import Any, Final, Literal

import msgspec

from pinaivu_shared.errors import PeerError
from pinaivu_shared.wire.node import ToolCallDelta

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
FailureReason = Literal["engine_unavailable", "context_length_exceeded", "unsupported_request"]


class Text(msgspec.Struct, frozen=True):
    """A piece of the answer, made of whole characters. `logprobs` has OpenAI's shape, None unless asked for."""

    content: str
    logprobs: Any = None
    index: int = 0


class ToolCalls(msgspec.Struct, frozen=True):
    """Pieces of tool calls."""

    calls: tuple[ToolCallDelta, ...]
    index: int = 0


class Finish(msgspec.Struct, frozen=True):
    """The choice is whole. Comes once for each, after everything else of all choices."""

    reason: FinishReason
    index: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Token counts; zero where nothing is known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


Event = Text | ToolCalls | Finish
NO_USAGE: Final = Usage()


class EngineError(PeerError):
    """The engine gave no whole answer.

    `reason` is what a node declines with; `down` tells that the engine takes no requests at all (refused connection,
    503), so that nothing more should be sent to it before it passed a probe. `status` is that of its HTTP response, 0
    where it was no refusal.
    """

    code = "engine_error"

    def __init__(self, reason: FailureReason, detail: str, *, down: bool = False, status: int = 0) -> None:
        super().__init__("engine", detail)
        self.reason, self.down, self.status = reason, down, status
