"""docs/developers: every program of every page runs against a network, and prints what its page shows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import DOCS, section
from tests.docs.programs import LANGUAGES, OUTPUT, Program, prepare, programs_of, run, shows
from tests.network.conftest import Description, http, running

DEVELOPERS = DOCS / "developers"
PAGES = sorted(DEVELOPERS.glob("*.md"))
PROGRAMS = [program for page in PAGES for program in programs_of(page)]
SWITCHING = DEVELOPERS / "switching.md"
BODY: dict[str, Any] = {"model": "pinaivu-tiny", "messages": [{"role": "user", "content": "Hello"}]}
UNSUPPORTED: dict[str, Any] = {
    "logit_bias": {"1": 5},
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "audio": {"voice": "alloy", "format": "wav"},
    "web_search_options": {},
    "n": 9,
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Description]:
    """As `make dev` starts it, with one node."""
    with running(tmp_path_factory.mktemp("developers"), "embedded", nodes=1) as found:
        yield found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """A folder for each page: its programs run in it in the page's order, and may use what those before have left."""
    found = {page: tmp_path_factory.mktemp(page.stem) for page in PAGES}
    for folder in found.values():
        prepare(folder)
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"{program.page.stem}-{program.line}")
def test_every_program_prints_what_its_page_shows(
    program: Program, network: Description, folders: dict[Path, Path]
) -> None:
    given = {
        "OPENAI_BASE_URL": network["base_url"],
        "OPENAI_API_KEY": network["api_key"],
        "PINAIVU_TRUST": network["trust"],
    }
    ended = run(program, folders[program.page], given)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    assert program.output is None or shows(program.output, ended.stdout), ended.stdout


def test_programs_are_of_languages_that_are_run_and_say_what_they_print() -> None:
    assert {program.language for program in PROGRAMS} == set(LANGUAGES)
    assert [program for program in PROGRAMS if program.output is None] == []
    for page in PAGES:
        fences = re.findall(r"^```(\w*)$", page.read_text(), re.MULTILINE)
        assert set(fences) <= {*LANGUAGES, OUTPUT, "json", ""}, page


def test_another_output_than_the_page_shows_is_noticed() -> None:
    assert shows("req_…\n…\nend\n", "req_1\na\nb\nend\n")
    assert not shows("req_…\n", "id_1\n")
    assert not shows("Paris\n", "Paris\nand more\n")
    assert not shows("req_…\n", "req_1\nand more\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short(page: Path) -> None:
    assert len(page.read_text().splitlines()) < 150


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_parameter_that_is_said_to_be_missing_is_refused_by_its_name(network: Description, name: str) -> None:
    with http(network) as client:
        answer = client.post("/chat/completions", json={**BODY, name: UNSUPPORTED[name]})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", name)


def test_the_page_names_these_parameters_and_these_paths_are_404(network: Description) -> None:
    told = section(SWITCHING, "What is not there")
    assert set(re.findall(r"`([a-z_]+)`", told.split("| 400")[0])) == set(UNSUPPORTED)
    paths = re.findall(r"`/v1(/[a-z_/]+)`", told)
    assert len(paths) > 5
    with http(network) as client:
        for path in paths:
            answer = client.post(path, json={})
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path


def test_what_says_who_the_end_user_is_is_accepted(network: Description) -> None:
    text = " ".join(SWITCHING.read_text().split())
    (listed,) = re.findall(r"who your end user is \(([^)]*)\)", text)
    body = {**BODY, **dict.fromkeys(re.findall(r"`([a-z_]+)`", listed), "x"), "metadata": {"a": "b"}, "store": True}
    with http(network) as client:
        assert client.post("/chat/completions", json={**body, "route": "fallback"}).status_code == 200
