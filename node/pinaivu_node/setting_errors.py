"""What is wrong with an operator's settings, in the operator's words: the flag, what it takes, and what was meant.

A setting of the node is named by its flag, which is also its key in the file. What stands in a table of the file is
named by its place there, engines counted from 0.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pinaivu_shared.flags import variable_of

_PRICE: Final = "whole micro-USDC per million tokens, 1 or more: 20000 is 0.02 USDC"
_EXPECTED: Final[Mapping[str, str]] = {
    "input_price": _PRICE,
    "output_price": _PRICE,
    "operator": "1 to 31 printable ASCII characters, no blanks and no @",
    "log_level": "debug, info, warning or error",
    "quote_lifetime": "whole seconds from 2 to 86400",
    "drain_seconds": "seconds from 0 to 86400",
    "slots": "a whole number from 0 to 65536, 0 for the engine's default",
    "context_length": "a whole number of tokens, 0 for the engine's own",
}
_MISTYPED: Final = "extra_forbidden"
_DEPTH_OF_NAMES: Final = 4
"""`engines.0.model_slots.NAME` ends with the name of a model, not of a setting."""
_OWN_WORDS: Final = frozenset({"value_error", "missing"})


def told(error: ValidationError, of_the_node: Iterable[str], of_an_engine: Iterable[str]) -> str:
    """Everything that is wrong, in one line. The fields of both tables are what a mistyped key is compared with.

    Mistyped keys come first: what is missing may be missing for that.
    """
    known = {1: tuple(of_the_node), 3: tuple(of_an_engine)}  # by how deep a key lies: `x`, `engines.0.x`
    found = sorted(error.errors(include_url=False), key=lambda one: one["type"] != _MISTYPED)
    return "; ".join(_one(one, known.get(len(one["loc"]), ())) for one in found)


def _one(error: ErrorDetails, known: tuple[str, ...]) -> str:
    path = tuple(map(str, error["loc"]))
    if not path:
        return error["msg"].removeprefix("Value error, ")
    name = ".".join(path) if len(path) > 1 else f"--{path[0].replace('_', '-')}"
    if error["type"] == _MISTYPED:
        return f"{'.'.join(path)}: there is no such setting{_meant(path[-1], known)}"
    if error["type"] == "missing" and len(path) == 1:
        return f"{name}: missing; it is a flag, a key of the file or {variable_of(name[2:])}"
    if error["type"] not in _OWN_WORDS and path[-1] in _EXPECTED and len(path) != _DEPTH_OF_NAMES:
        return f"{name}: expected {_EXPECTED[path[-1]]}"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"


def _meant(key: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(key, known, n=1)
    return f", did you mean {close[0].replace('_', '-')}?" if close else ""
