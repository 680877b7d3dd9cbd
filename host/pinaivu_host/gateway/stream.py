"""Server-sent events: what all streams have in common, whatever is in them.

U+2028, U+2029 and U+0085 are escaped: clients that split at them would cut the JSON in two.
"""

from typing import Final

CONTENT_TYPE: Final = "text/event-stream; charset=utf-8"
HEADERS: Final = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
KEEP_ALIVE: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"


def error_event(body: bytes) -> bytes:
    """The event that ends a stream which broke; nothing follows it, no finish_reason and no [DONE]."""
    return b"data: " + one_line(body) + b"\n\n"


def one_line(encoded: bytes) -> bytes:
    """Encoded JSON without the characters at which some readers of lines split. In JSON they stand in strings only."""
    if b"\xe2\x80" not in encoded and b"\xc2\x85" not in encoded:
        return encoded
    escaped = encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return escaped.replace(b"\xc2\x85", b"\\u0085")
