"""The table of errors, walked: every row is provoked over HTTP, and looks as the table and the docs' page say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from tests.host.provoking import PROVOKED
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_host.gateway import error_table
from pinaivu_host.gateway.error_table import TABLE, ErrorKind

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", TABLE, ids=[f"{row} {kind.code}" for row, kind in enumerate(TABLE)])
async def test_every_row_is_provoked_and_looks_like_the_table(
    closed_town: Town, monkeypatch: pytest.MonkeyPatch, kind: ErrorKind
) -> None:
    assert kind in PROVOKED, (
        "a row that nobody can provoke is dead: remove it, or say in provoking.py how it comes about"
    )
    try:
        response = await PROVOKED[kind](closed_town, monkeypatch)
    finally:
        await closed_town.close()
    check_shape(response, kind.status, kind.type, kind.code)
    assert response.headers["x-request-id"].startswith("req_")
    for name, value in kind.headers:
        assert response.headers[name] == value
    if kind.status in {429, 503}:
        assert int(response.headers["retry-after"]) >= 1
    if not kind.retried and kind.status in {409, 429}:
        assert response.headers["x-should-retry"] == "false"


def test_every_error_of_the_module_is_a_row_and_says_what_to_do() -> None:
    assert set(TABLE) == {value for value in vars(error_table).values() if isinstance(value, ErrorKind)}
    for kind in TABLE:
        assert kind.when.endswith(".")
        assert kind.do.endswith(".")
        assert "|" not in kind.when + kind.do


def test_the_page_of_errors_is_what_the_table_says() -> None:
    script = _script()
    page = script.TARGET.read_text()
    assert page == script.with_table(page)
    assert all(page.count(f"| {kind.status} | `{kind.code}` |") for kind in TABLE)


def _script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("write_error_docs", ROOT / "scripts" / "write_error_docs.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
