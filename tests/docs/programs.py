"""The programs of a page, each with the output that the page shows for it; run as its reader would, in one folder."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.docs.pages import DOCS
from tests.docs.shell import run_blocks
from tests.docs.typescript import node_modules

LANGUAGES: Final = ("python", "js", "ts", "sh")
OUTPUT: Final = "text"


class Program(NamedTuple):
    """One fenced block, and the `text` block right after it: what it prints, or None where the page does not say."""

    page: Path
    line: int
    language: str
    code: str
    output: str | None


def programs_of(page: Path) -> Iterator[Program]:
    """All programs of a page, in order."""
    text = page.read_text()
    blocks = list(re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    for found, after in zip(blocks, [*blocks[1:], None], strict=True):
        language, code = found.groups()
        if language in LANGUAGES:
            output = after.group(2) if after is not None and after.group(1) == OUTPUT else None
            yield Program(page, text.count("\n", 0, found.start()) + 1, language, code, output)


def prepare(folder: Path) -> None:
    """What a reader has beside a checkout: its pages, and the packages for Node."""
    (folder / "docs").symlink_to(DOCS)
    (folder / "node_modules").symlink_to(node_modules())


def run(program: Program, folder: Path, given: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one program; a shell's commands as they are, the others saved as a file."""
    name = f"program_{program.line}"
    match program.language:
        case "python":
            (folder / f"{name}.py").write_text(program.code)
            command = f"{sys.executable} {name}.py"
        case "js":
            (folder / f"{name}.mjs").write_text(program.code)
            command = f"node {name}.mjs"
        case "ts":
            (folder / f"{name}.ts").write_text(program.code)
            command = f"npx tsc --outDir build/{name}\nnode build/{name}/{name}.js"
        case _:
            command = program.code
    return run_blocks([command], folder, given)


def shows(output: str, printed: str) -> bool:
    """Whether this is the output that a page shows: `…` is anything on a line, or any lines where it stands alone."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*?") + r"\n" for line in output.splitlines()
    ]
    return re.fullmatch("".join(lines), printed.rstrip("\n") + "\n") is not None
