"""Whole characters from pieces of text that engines cut inside of them.

Engines detokenise bytes: a piece may end in the middle of a UTF-8 sequence (its bytes then arrive as the surrogates of
PEP 383) or hold one half of a UTF-16 surrogate pair. What is incomplete is held back until the rest arrives; what never
becomes whole turns into U+FFFD.
"""

import codecs
import re
from typing import Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_utf8_decoder: Final = codecs.getincrementaldecoder("utf-8")


class WholeCharacters:
    """Joins the pieces of one text."""

    def __init__(self) -> None:
        self._decoder = _utf8_decoder("replace")
        self._high = ""
        self._clean = True

    def push(self, piece: str) -> str:
        """As much of the text as is whole by now."""
        if self._clean and (piece.isascii() or _SURROGATE.search(piece) is None):
            return piece
        text = _join_pairs(self._high + piece)
        self._high = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        complete = self._decode(text.removesuffix(self._high), final=False)
        self._clean = not self._high and not self._decoder.getstate()[0]
        return complete

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        rest, self._high, self._clean = self._high, "", True
        return self._decode(rest, final=True)

    def _decode(self, text: str, *, final: bool) -> str:
        raw = _NO_BYTE.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8", "surrogateescape")
        return self._decoder.decode(raw, final)


def whole(text: str) -> str:
    """A text that is complete by itself, without halves of characters."""
    characters = WholeCharacters()
    return characters.push(text) + characters.flush()


def _join_pairs(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
