"""Node's tools for the pages' programs: the packages that they need, and the verifier, compiled in strict mode."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.docs.pages import DOCS, ROOT

NODE_MODULES: Final = ROOT / "tests" / "clients" / "node_modules"


def node_modules() -> Path:
    """The installed packages, of the versions in the lock."""
    assert (NODE_MODULES / ".bin" / "tsc").exists(), "TypeScript is missing: `make clients` installs it"
    return NODE_MODULES


def compiled(folder: Path) -> Path:
    """A copy of the verifier, type-checked and compiled; the folder with their JavaScript."""
    shutil.copytree(DOCS / "developers" / "verify", folder / "verify")
    for name in ("verify.ts", "tsconfig.json"):
        shutil.copy(DOCS / "developers" / name, folder)
    (folder / "node_modules").symlink_to(node_modules())
    built = folder / "build"
    ended = run_node([folder / "node_modules/.bin/tsc", "--project", folder, "--outDir", built], folder)
    assert ended.returncode == 0, ended.stdout
    return built


def run_node(command: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=folder, check=False, capture_output=True, text=True)


def judge_all(built: Path, cases: list[dict[str, Any]], folder: Path) -> list[str]:
    """What the compiled verifier says of each case: "valid", or the check that failed."""
    verdicts: list[str] = _run_cases("verify_cases.mjs", built / "verify/bundle.js", cases, folder)
    return verdicts


def read_all(built: Path, answers: list[str], folder: Path) -> list[list[dict[str, Any]] | None]:
    """The choices that the compiled verifier reads in the text of each answer, None where it refuses it."""
    found: list[list[dict[str, Any]] | None] = _run_cases(
        "answer_cases.mjs", built / "verify/answer.js", answers, folder
    )
    return found


def read_requests(built: Path, requests: Sequence[tuple[Any, str | None]], folder: Path) -> list[list[Any]]:
    """How the compiled verifier reads each request at an endpoint: what a node gets, and the limit that it names."""
    found: list[list[Any]] = _run_cases("reading_cases.mjs", built / "verify/forwarded.js", requests, folder)
    return found


def _run_cases(program: str, module: Path, cases: Sequence[Any], folder: Path) -> Any:
    (folder / "cases.json").write_text(json.dumps(cases))
    ended = run_node(["node", Path(__file__).with_name(program), module, folder / "cases.json"], folder)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
