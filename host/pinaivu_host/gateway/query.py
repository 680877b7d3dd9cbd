"""The parameters of a GET. A parameter that is not known is refused: an answer that ignored it would be another one."""

from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Scope

from pinaivu_host.gateway.error_table import INVALID_REQUEST, UNSUPPORTED_PARAMETER
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.store.api_keys import is_key_id

TIME_S_MAX: Final = (2**48 - 1) // 1000
"""The last second that a request id can name."""


class Query:
    """At most one value each, but for lists; `name[]`, as OpenAI's clients write them, is the same as `name`."""

    def __init__(self, scope: Scope, known: Collection[str], *, lists: Collection[str] = ()) -> None:
        self._values: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        for written, values in given.items():
            name = written.removesuffix("[]")
            if name not in known:
                reason = f"there is no parameter {name[:100]!r} here, only {', '.join(sorted(known))}"
                raise ApiError(UNSUPPORTED_PARAMETER, reason, param=name[:100])
            if name in lists:
                self._lists[name] = [*self._lists.get(name, ()), *values]
                continue
            if len(values) > 1 or name in self._values:
                raise wrong_parameter(name, "can be given once only")
            self._values[name] = values[0]

    def text(self, name: str) -> str | None:
        """What was given, or None."""
        return self._values.get(name)

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """One of the choices, or None; ApiError for anything else."""
        value = self._values.get(name)
        if value is not None and value not in choices:
            raise wrong_parameter(name, f"must be {' or '.join(choices)}")
        return value

    def choices(self, name: str, choices: Sequence[str]) -> frozenset[str]:
        """Any of the choices, of a parameter that is a list; ApiError for anything else."""
        given = self._lists.get(name, ())
        if len(set(given)) < len(given) or any(one not in choices for one in given):
            raise wrong_parameter(name, f"must be {' or '.join(choices)}, each once at most")
        return frozenset(one for one in choices if one in given)

    def key_id(self, name: str) -> str | None:
        """The id of an API key, or None; ApiError for what is none."""
        value = self._values.get(name)
        if value is not None and not is_key_id(value):
            raise wrong_parameter(name, "must be the id of an API key, such as key_0123456789abcdef")
        return value

    def number(self, name: str, *, least: int = 0, most: int, of: str = "") -> int | None:
        """A whole number, or None; ApiError, which says what it is a number `of`, for anything else."""
        text = self._values.get(name)
        if text is None:
            return None
        short = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
        if not short or not least <= int(text) <= most:
            raise wrong_parameter(name, f"must be {of}a whole number from {least} to {most}")
        return int(text)

    def time_s(self, name: str) -> int | None:
        """Seconds since 1970, or None."""
        return self.number(name, most=TIME_S_MAX, of="seconds since 1970, ")

    def period_s(self, start: str, end: str) -> tuple[int | None, int | None]:
        """Two such times, of which the second, where both are given, is the later one."""
        start_s, end_s = self.time_s(start), self.time_s(end)
        if start_s is not None and end_s is not None:
            check_later(start, start_s, end, end_s)
        return start_s, end_s


def check_later(start: str, start_s: int, end: str, end_s: int) -> None:
    """ApiError, for the end, of a period without a second in it."""
    if start_s >= end_s:
        raise wrong_parameter(end, f"must be after {start}: {end_s} is not after {start_s}")


def wrong_parameter(name: str, reason: str) -> ApiError:
    """The error for one parameter."""
    return ApiError(INVALID_REQUEST, f"{name} {reason}", param=name)
