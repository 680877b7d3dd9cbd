"""How facts are printed for people; programs take `--json`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any


def report_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """One line for each fact, name first; registers have a line each, and those that are zero share one."""
    for name, value in found.items():
        if name == "pcrs":
            yield from (_line(register, shown) for register, shown in _registers(value))
        elif name == "verified":
            yield _line(name, "not checked")
        else:
            yield _line(name, _shown(value))


def printable(value: object) -> str:
    """Text that cannot move the cursor, change colours or begin a line of its own."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def first_names(names: Sequence[str], most: int) -> str:
    """The first so many names and how many more there are, `a, b and 3 more`; empty for none."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def percent(bps: int) -> str:
    """Basis points as a percentage, `0.05 %`."""
    return f"{bps // 100}.{bps % 100:02d} %"


def _line(name: str, value: str) -> str:
    return f"{name:<20} {value}"


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None | []:
            return "none"
        case list():
            return ", ".join(map(printable, value))
        case _:
            return printable(value)


def _registers(pcrs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Zero registers that follow each other become one; `groupby` needs a key that stays while they do."""
    ordered = sorted((int(name), value) for name, value in pcrs.items())
    for (is_zero, _), group in groupby(enumerate(ordered), key=_run):
        registers = [register for _, register in group]
        if is_zero:
            yield _named(registers[0][0], registers[-1][0]), "zero"
        else:
            yield from ((_named(index, index), value) for index, value in registers)


def _run(placed: tuple[int, tuple[int, str]]) -> tuple[bool, int]:
    place, (index, value) = placed
    return not value.strip("0"), index - place


def _named(first: int, last: int) -> str:
    return f"PCR{first}" if first == last else f"PCR{first}-{last}"
