"""Files named on the command line are written whole or not at all, and what is no plain file is not replaced."""

import os
import stat
from pathlib import Path

import pytest

from pinaivu_image.files import write_file
from pinaivu_shared.errors import CallerError


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for content in (b"one", b"another"):
        write_file(tmp_path / "file", content)
        assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"file": content}


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_file(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"content")
    assert os.read(reader, 99) == b"content"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=f"{tmp_path}/absent/file: No such file or directory"):
        write_file(tmp_path / "absent" / "file", b"")
