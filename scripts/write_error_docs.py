"""Write the table of docs/developers/errors.md from the gateway's own. A test fails when the page is not up to date."""

from collections.abc import Iterator
from pathlib import Path

from pinaivu_host.gateway.error_table import TABLE, ErrorKind

TARGET = Path(__file__).parents[1] / "docs" / "developers" / "errors.md"
BEGIN, END = "<!-- begin: written by scripts/write_error_docs.py -->\n", "<!-- end -->\n"


def with_table(page: str) -> str:
    """The page with its table written anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{error_table()}{END}{after}"


def error_table() -> str:
    """A row of Markdown per row of the table, in the order of their statuses."""
    rows = [_row(kind) for kind in sorted(TABLE, key=lambda kind: kind.status)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [*_head(), *rows])


def _head() -> Iterator[tuple[str, ...]]:
    yield ("status", "`code`", "`type`", "when", "what to do", "SDKs retry", "headers")
    yield ("---",) * 7


def _row(kind: ErrorKind) -> tuple[str, ...]:
    headers = ", ".join(f"`{name}: {value}`" for name, value in kind.headers)
    retried = "yes" if kind.retried else "no"
    return (str(kind.status), f"`{kind.code}`", f"`{kind.type}`", kind.when, kind.do, retried, headers)


if __name__ == "__main__":
    TARGET.write_text(with_table(TARGET.read_text()))
