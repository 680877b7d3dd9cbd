"""The documentation is true: its links lead somewhere, its commands exist, its code runs."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT, blocks, section
from tests.docs.shell import run_blocks
from tests.network.conftest import running
from tests.shared.evidence import ANSWER, REQUEST, SALT, make_evidence

from pinaivu_host.gateway.openapi.document import OPERATIONS

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_the_readme_names_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)\)", section(ROOT / "README.md", "All pages")))
    there = {str(page.relative_to(ROOT)) for page in PAGES if page.parent.name in {"docs", "developers"}}
    assert linked == there


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_every_route_that_a_page_names_exists() -> None:
    known = {(one.method, re.sub(r"\{[^}]*\}", "{}", one.path)) for one in OPERATIONS}
    pages = [page for page in PAGES if page.name != "design.md"]  # which is about later releases, too
    named = {one for page in pages for one in re.findall(r"`(GET|POST) (/[^ `?]+)", page.read_text())}
    assert ("GET", "/v1/transcripts/{digest}") in named
    assert {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in named} <= known


def test_every_file_that_the_architecture_names_is_there() -> None:
    named = set(re.findall(r"`([a-z_…/]+\.py)`", (ROOT / "docs" / "architecture.md").read_text()))
    assert {"statements.py", "shared/…/ledger.py"} < named
    ours = [f"/{path.relative_to(ROOT)}" for path in ROOT.glob("[a-z]*/**/*.py")]
    for name in named:
        pattern = "/" + re.escape(name).replace("…", "[a-z_/]+") + "$"
        assert any(re.search(pattern, path) for path in ours), name


def test_every_folder_of_tests_is_explained() -> None:
    table = section(ROOT / "docs" / "testing.md", "What is where")
    named = {name.split("/")[0] for name in re.findall(r"`([a-z_/.]+)`(?=[^|]*\|[^|]*\|[^|]*\|$)", table, re.MULTILINE)}
    there = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert named == there


def test_what_is_said_not_to_be_there_yet_is_not() -> None:
    missing = (ROOT / "CHANGELOG.md").read_text().split("### Not there yet")[1]
    assert "served as tiles" in missing
    assert "`pinaivu audit`" in missing
    assert "## pinaivu audit\n" not in (ROOT / "docs" / "cli.md").read_text()
    assert "/tile/" not in (ROOT / "host" / "pinaivu_host" / "host.py").read_text()


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


def test_the_readme_leads_from_a_question_to_a_verified_receipt(tmp_path: Path) -> None:
    (code,) = blocks((ROOT / "README.md").read_text(), "python")
    commands = blocks(section(ROOT / "README.md", "Verify a receipt"), "sh")
    with running(tmp_path / ".pinaivu", "embedded", nodes=1) as network:
        exported = {
            "OPENAI_BASE_URL": network["base_url"],
            "OPENAI_API_KEY": network["api_key"],
            "PINAIVU_TRUST": network["trust"],
        }
        asked = run_blocks([shlex.join([sys.executable, "-c", code])], tmp_path, exported)
        assert asked.returncode == 0, asked.stderr
        answer, request_id = asked.stdout.rsplit(maxsplit=1)
        assert "Paris" in answer
        ended = run_blocks(commands, tmp_path, {**exported, "REQUEST_ID": request_id})
        assert ended.returncode == 0, ended.stderr
        assert request_id in ended.stdout
        ended = run_blocks(commands, tmp_path, {**exported, "REQUEST_ID": "req_" + "0" * 26})
        assert "404" in ended.stderr, "curl --fail, so that no error is saved as a bundle"
        assert ended.returncode not in {0, 1, 2}, "curl's own status: nothing was verified"


def test_what_testing_needs_is_what_ci_installs_and_the_tests_look_for() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    (line,) = re.findall(r"^for package in (.*libcbor.*); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert [package for package in line.split() if package not in page] == []
    for text in ("qemu-system-x86_64", "vhost-device-vsock"):
        assert f"`{text}`" in page
        assert text in (ROOT / "simulator" / "pinaivu_simulator" / "qemu.py").read_text()
    conftest = (ROOT / "tests" / "boot" / "conftest.py").read_text()
    assert "`PINAIVU_QEMU`" in page
    assert "PINAIVU_QEMU" in conftest
    assert '"shared" / "qemu-nitro"' in conftest


def written_by_the_pages() -> set[str]:
    """Files that a reader's commands leave in the checkout."""
    text = "\n".join(block for page in PAGES for block in blocks(page.read_text(), "sh"))
    redirected = re.findall(r" > ([A-Za-z][A-Za-z./-]*)", text)
    named = re.findall(r"--output[= ](\S+)", text)
    copied = re.findall(r"^cp \S+ (\S+)$", text, re.MULTILINE)
    return {*redirected, *named, *copied, "configuration.json", "pinaivu.eif.json", "build/pinaivu.eif", "ask.py"}


def test_a_checkout_stays_clean_while_the_pages_are_followed() -> None:
    written = written_by_the_pages()
    assert {"pinaivu.eif", "pcrs.json", "bundle.json", "trust.json"} < written
    asked = ["git", "-C", str(ROOT), "check-ignore", "--no-index", *written]
    ignored = subprocess.run(asked, check=False, capture_output=True, text=True).stdout.split()
    assert written - set(ignored) == set()


def test_no_page_holds_a_key() -> None:
    for page in PAGES:
        assert not re.search(r"sk-pnv-[A-Za-z0-9_-]{20,}", page.read_text())
