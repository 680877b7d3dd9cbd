"""The node's key: made once, kept, and never readable by others."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pinaivu_node.keys import KEY_FILE, load_identity, load_operator
from pinaivu_shared.errors import CallerError
from pinaivu_shared.ids import node_id_of


def test_a_key_is_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    first, second = load_identity(tmp_path / "new"), load_identity(tmp_path / "new")
    assert first.public_key == second.public_key
    assert first.node_id == node_id_of(first.public_key)
    assert stat.S_IMODE((tmp_path / "new" / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == [KEY_FILE]


def test_two_nodes_have_two_keys(tmp_path: Path) -> None:
    assert load_identity(tmp_path / "a").node_id != load_identity(tmp_path / "b").node_id


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_identity(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(CallerError, match="chmod 600"):
        load_identity(tmp_path)


OTHER_KIND = ec.derive_private_key(5, ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("content", [b"", b"garbage", OTHER_KIND], ids=["empty", "garbage", "another kind of key"])
def test_what_is_no_key_is_refused_and_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CallerError, match=f"^{path} "):
        load_identity(tmp_path)
    assert path.read_bytes() == content


def test_a_key_that_cannot_be_read_is_to_come_from_a_backup(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"half a ke")
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(CallerError, match=f"^{tmp_path}/{KEY_FILE} holds no key that can be read: restore it from a"):
        load_identity(tmp_path)


def test_a_folder_in_the_place_of_the_operators_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=f"^{tmp_path} is a folder, where the file of a key is expected$"):
        load_operator("alice", tmp_path)


def test_a_file_in_the_place_of_the_nodes_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CallerError, match="file is a file, where the node's folder is expected"):
        load_identity(tmp_path / "file")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CallerError, match="file"):
        load_identity(tmp_path / "file" / "below")
