"""Whose fault a failed request to an engine is: by status first, then by what the body says.

Sources: protocol code and tests of Ollama, vLLM, llama.cpp's server and SGLang. Overflow of the context is told in four
spellings; llama.cpp answers 500 to a picture that it cannot see, and to messages and tools that it cannot read.
"""

import re
from typing import Any, Final

import httpcore
import msgspec

from pinaivu_node.engines.events import EngineError

TRANSPORT_ERRORS: Final = (
    httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.UnsupportedProtocol,
)  # fmt: skip
"""All that httpcore raises where no whole answer came; it has no common name for them."""
_SEARCHED_BYTES: Final = 64 * 1024
_MAX_DETAIL: Final = 500
_OVERFLOW: Final = re.compile(
    "maximum context length|exceed_context_size|longer than the model's context length"
    "|input length exceeds the context length|exceeds the available context size",
    re.IGNORECASE,
)
_UNSUPPORTED: Final = re.compile("(image|audio|video|multimodal)[a-z_ ]* (is|are) not supported", re.IGNORECASE)
_UNREADABLE: Final = re.compile("Failed to parse (messages|tools): ")
_KIND: Final = re.compile("[A-Za-z_]{1,40}")
_KEY_REFUSED: Final = frozenset({401, 403})
_KEY_ADVICE: Final = ": is its API key right? See --engine-api-key-file, PINAIVU_ENGINE_API_KEY, or its api-key-file"
_DOWN: Final = frozenset({502, 503, 504})
_OPERATORS_FAULT: Final = frozenset({401, 402, 403, 404, 405, 407, 408, 409, 425, 429})


def failure_of_response(status: int, body: bytes) -> EngineError:
    """The error in a response whose status is not 200, or whose body is not a stream."""
    return _failure(status, body[:_SEARCHED_BYTES].decode("utf-8", "replace"), parsed(body))


def failure_of_event(data: bytes) -> EngineError:
    """The error in an event of a stream; its own `code` stands for the status."""
    body = parsed(data)
    envelope = body.get("error")
    told = envelope.get("code") if isinstance(envelope, dict) else body.get("code")
    status = told if isinstance(told, int) and 400 <= told <= 599 else 500
    return _failure(status, data[:_SEARCHED_BYTES].decode("utf-8", "replace"), body)


def _failure(status: int, text: str, body: dict[str, Any]) -> EngineError:
    if status not in _OPERATORS_FAULT and status not in _DOWN:
        if _OVERFLOW.search(text):
            detail = _told(body) or "the conversation exceeds the context"
            return EngineError("context_length_exceeded", detail, status=status)
        told = _told(body)
        if _UNSUPPORTED.search(text) or _UNREADABLE.match(told) or 400 <= status <= 499:
            return EngineError("unsupported_request", told or f"the engine answered {status}", status=status)
    detail = f"the engine answered {status}{_kind(body)}{_KEY_ADVICE if status in _KEY_REFUSED else ''}"
    return EngineError("engine_unavailable", detail, down=status in _DOWN, status=status)


def _kind(body: dict[str, Any]) -> str:
    """What the engine calls its error. Its message is not for logs: engines quote the request in it."""
    envelope = body.get("error")
    kind = envelope.get("type") if isinstance(envelope, dict) else body.get("type")
    return f" ({kind})" if isinstance(kind, str) and _KIND.fullmatch(kind) else ""


def _told(body: dict[str, Any]) -> str:
    envelope = body.get("error")
    message = envelope.get("message") if isinstance(envelope, dict) else envelope or body.get("message")
    return message[:_MAX_DETAIL] if isinstance(message, str) else ""


def parsed(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body, empty where there is none."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
