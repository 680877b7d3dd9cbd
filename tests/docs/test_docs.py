"""The documentation is true: its links lead somewhere, its commands exist, its code runs."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT, blocks
from tests.network.conftest import running
from tests.shared.evidence import ANSWER, REQUEST, SALT, make_evidence

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_the_page_of_commands_is_what_help_prints() -> None:
    script = ROOT / "scripts" / "write_cli_docs.py"
    specification = importlib.util.spec_from_file_location("write_cli_docs", script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text() == module.cli_docs()


def test_the_commitments_by_hand_are_those_of_the_receipt() -> None:
    """Run the twenty lines of docs/verifying.md as a third party would, on a genuine receipt."""
    (code,) = blocks((ROOT / "docs" / "verifying.md").read_text(), "python")
    assert len(code.splitlines()) <= 25
    names: dict[str, Any] = {"request": REQUEST, "answer": {"choices": ANSWER}, "salt": SALT}
    exec(compile(code, "verifying.md", "exec"), names)  # noqa: S102 - our own documentation
    receipt = make_evidence().bundle["receipt"]
    assert names["request_commitment"] == receipt["request_commitment"]
    assert names["response_commitment"] == receipt["response_commitment"]


def test_the_readmes_python_runs_against_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks((ROOT / "README.md").read_text(), "python")
    with running(tmp_path, "embedded", nodes=1) as network:
        code = code.replace("http://127.0.0.1:8080/v1", network["base_url"]).replace("sk-pnv-…", network["api_key"])
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own documentation
    answer, request_id = capsys.readouterr().out.rsplit(maxsplit=1)
    assert "Paris" in answer
    assert request_id.startswith("req_")


def test_no_page_holds_a_key() -> None:
    for page in PAGES:
        assert not re.search(r"sk-pnv-[A-Za-z0-9_-]{20,}", page.read_text())
