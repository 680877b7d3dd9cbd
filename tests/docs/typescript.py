"""Node's tools for the pages' programs: the packages that they need, and the verifier, compiled in strict mode."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from tests.docs.pages import DOCS

NODE: Final = Path(__file__).with_name("node")
needs_node: Final = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed on this machine"
)


def node_modules() -> Path:
    """The installed packages, of the versions in the lock."""
    found = NODE / "node_modules"
    if not (found / ".bin" / "tsc").exists():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=NODE, check=True)
    return found


def compiled(folder: Path, *programs: Path) -> Path:
    """Copies of the verifier and of more programs, type-checked and compiled; the folder with their JavaScript."""
    shutil.copytree(DOCS / "developers" / "verify", folder / "verify")
    for program in (DOCS / "developers" / "verify.ts", DOCS / "developers" / "tsconfig.json", *programs):
        shutil.copy(program, folder)
    (folder / "node_modules").symlink_to(node_modules())
    built = folder / "build"
    ended = run_node([folder / "node_modules/.bin/tsc", "--project", folder, "--outDir", built], folder)
    assert ended.returncode == 0, ended.stdout
    return built


def run_node(command: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=folder, check=False, capture_output=True, text=True)


def judge_all(built: Path, cases: list[dict[str, Any]], folder: Path) -> list[str]:
    """What the compiled verifier says of each case: "valid", or the check that failed."""
    (folder / "cases.json").write_text(json.dumps(cases))
    ended = run_node(["node", NODE / "verify_cases.mjs", built / "verify/bundle.js", folder / "cases.json"], folder)
    assert ended.returncode == 0, ended.stderr
    verdicts: list[str] = json.loads(ended.stdout)
    return verdicts
