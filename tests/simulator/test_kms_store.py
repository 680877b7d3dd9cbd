"""The key behind the simulated KMS: the same after a restart, and bound to the encryption context."""

import stat
from pathlib import Path

import boto3
import pytest
from tests.simulator.kms_bench import KEY_ID

from pinaivu_shared.errors import CallerError
from pinaivu_simulator.kms.fault import KmsFault
from pinaivu_simulator.kms.folder import KmsFolder
from pinaivu_simulator.kms.store import MotoKeyStore, StoredKey

CONTEXT = {"pinaivu:origin": "market.example", "purpose": "vault"}


@pytest.fixture(scope="module")
def store() -> MotoKeyStore:
    return MotoKeyStore(StoredKey(id=KEY_ID, material=bytes(range(32))))


def refused(store: MotoKeyStore, ciphertext: bytes, context: dict[str, str]) -> str:
    with pytest.raises(KmsFault) as fault:
        store.decrypt(ciphertext, context)
    return fault.value.code


def test_a_data_key_has_32_bytes_and_is_never_the_same(store: MotoKeyStore) -> None:
    first, second = store.generate(CONTEXT), store.generate(CONTEXT)
    assert len(first.plaintext) == len(second.plaintext) == 32
    assert first.plaintext != second.plaintext
    assert first.plaintext not in first.ciphertext
    assert store.decrypt(first.ciphertext, CONTEXT) == first.plaintext


def test_a_restart_finds_what_was_encrypted_before(tmp_path: Path) -> None:
    made = MotoKeyStore(KmsFolder(tmp_path).key).generate(CONTEXT)
    again = MotoKeyStore(KmsFolder(tmp_path).key)
    assert again.decrypt(made.ciphertext, CONTEXT) == made.plaintext


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"purpose": "vault"},
        CONTEXT | {"more": "x"},
        CONTEXT | {"purpose": "other"},
        {"pinaivu:originm": "arket.example", "purpose": "vault"},
        {"pinaivu:origin": "market.examplepurposevault"},
    ],
)
def test_another_context_is_refused(store: MotoKeyStore, context: dict[str, str]) -> None:
    assert refused(store, store.generate(CONTEXT).ciphertext, context) == "InvalidCiphertextException"


def test_the_order_of_a_context_does_not_matter(store: MotoKeyStore) -> None:
    made = store.generate(CONTEXT)
    assert store.decrypt(made.ciphertext, dict(reversed(CONTEXT.items()))) == made.plaintext


def test_what_another_key_or_nobody_encrypted_is_refused(store: MotoKeyStore) -> None:
    same_id = MotoKeyStore(StoredKey(id=KEY_ID, material=bytes(32)))
    other_id = MotoKeyStore(StoredKey(id=KEY_ID.replace("1111", "2222"), material=bytes(range(32))))
    good = store.generate(CONTEXT).ciphertext
    for ciphertext in (
        same_id.generate(CONTEXT).ciphertext,
        other_id.generate(CONTEXT).ciphertext,
        b"x",
        b"x" * 200,
        bytes(6144),
        good[:-1],
        good + b"x",
        good[:-1] + bytes([good[-1] ^ 1]),
    ):
        assert refused(store, ciphertext, CONTEXT) == "InvalidCiphertextException"


def test_moto_is_there_for_one_call_only(store: MotoKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside, the process's AWS clients are AWS's: what they ask goes out, here to a port where nobody is."""
    from botocore.exceptions import EndpointConnectionError  # noqa: PLC0415

    store.generate(CONTEXT)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    client = boto3.client(
        "kms",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    with pytest.raises(EndpointConnectionError):
        client.list_keys()


def test_the_environments_credentials_stay_as_they_are(store: MotoKeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine too")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    made = store.generate(CONTEXT)
    assert store.decrypt(made.ciphertext, CONTEXT) == made.plaintext
    found = boto3.Session().get_credentials()
    assert found is not None
    assert (found.access_key, found.secret_key) == ("mine", "mine too")


def test_the_folder_keeps_everything_and_shows_it_to_its_owner_only(tmp_path: Path) -> None:
    first, second = KmsFolder(tmp_path), KmsFolder(tmp_path)
    first.tls()
    assert (first.key_arn, first.tls_root, first.credentials) == (
        second.key_arn,
        second.tls_root,
        second.credentials,
    )
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert {path.name for path in tmp_path.iterdir()} == {
        "kms-key.json",
        "kms-root.pem",
        "kms-server.pem",
        "credentials",
    }


def test_boto3_reads_the_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KmsFolder(tmp_path)
    ((access_key, known),) = kept.credentials.items()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(kept.credentials_file))
    found = boto3.Session().get_credentials()
    assert found is not None
    assert (found.access_key, found.secret_key, found.token) == (access_key, known.secret, None)


def test_credentials_that_somebody_else_wrote_are_used_or_refused(tmp_path: Path) -> None:
    kept = KmsFolder(tmp_path)
    kept.credentials_file.write_text(
        "[default]\naws_access_key_id = A\naws_secret_access_key = 100%\naws_session_token = T\n"
    )
    assert (kept.credentials["A"].secret, kept.credentials["A"].session_token) == ("100%", "T")
    for content in (b"", b"[default]\n", b"aws_access_key_id = A", b"\xff"):
        kept.credentials_file.write_bytes(content)
        with pytest.raises(CallerError, match="credentials"):
            _ = kept.credentials


def test_secrets_show_in_no_repr(tmp_path: Path, store: MotoKeyStore) -> None:
    key, made = KmsFolder(tmp_path).key, store.generate(CONTEXT)
    (known,) = KmsFolder(tmp_path).credentials.values()
    assert known.secret not in repr(known)
    assert repr(key.material) not in repr(key)
    assert repr(made.plaintext) not in repr(made)
