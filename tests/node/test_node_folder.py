"""A node's folder: one node at a time runs on it, and whoever only looks is not kept out."""

import stat
from pathlib import Path

import pytest
from tests.node.operator import run, status

from pinaivu_node.node_folder import LOCK_FILE, NodeFolder
from pinaivu_node.status import StatusFile
from pinaivu_shared.errors import CallerError

RUN = (
    *("run", "--gateway", "http://127.0.0.1:9", "--trust", "/nowhere", "--operator", "alice"),
    *("--input-price", "1", "--output-price", "1", "--engine", "echo", "--data-dir"),
)


def test_a_second_node_on_the_same_folder_is_refused_at_its_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with NodeFolder(str(tmp_path)).in_use():
        assert run(*RUN, tmp_path) == 2
    told = capsys.readouterr()
    advice = "stop it, or give this one a --data-dir of its own"
    assert (told.out, told.err) == ("", f"pinaivu node: another node runs on {tmp_path}: {advice}\n")
    assert [one.name for one in tmp_path.iterdir()] == [LOCK_FILE], "not even a key was made"


def test_the_folder_is_free_again_when_its_node_has_ended(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), NodeFolder(str(tmp_path)).in_use():
        raise ZeroDivisionError
    with NodeFolder(str(tmp_path)).in_use(), pytest.raises(CallerError), NodeFolder(str(tmp_path)).in_use():
        pass


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with NodeFolder(str(tmp_path / "a" / "node")).in_use():
        assert stat.S_IMODE((tmp_path / "a" / "node").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CallerError, match=f"^{tmp_path}/file"), NodeFolder(str(tmp_path / "file")).in_use():
        pass


def test_looking_at_a_node_needs_no_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    StatusFile(tmp_path).write(status())
    with NodeFolder(str(tmp_path)).in_use():
        assert run("key", "--data-dir", tmp_path) == 0
        assert run("status", "--data-dir", tmp_path, "--json") == 1, "it has not written for long"
    assert len(capsys.readouterr().out.splitlines()) == 2
