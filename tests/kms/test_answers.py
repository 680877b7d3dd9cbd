"""KMS answers with an envelope under the configured key, or the answer is refused by its name."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.kms.answers import GeneratedSecret, read_decrypted, read_generated
from pinaivu_enclave.kms.failure import AttemptError

from .lab import KEY_ARN

ENVELOPE, SEALED = b"an envelope", b"sealed"
GOOD: dict[str, Any] = {
    "CiphertextBlob": base64.b64encode(SEALED).decode(),
    "CiphertextForRecipient": base64.b64encode(ENVELOPE).decode(),
    "KeyId": KEY_ARN,
}
RAW = json.dumps(GOOD).encode()


def changed(**changes: object) -> bytes:
    fields = GOOD | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "extra",
    [{}, {"Plaintext": None}, {"KeyMaterialId": "0" * 64, "New": [{"deep": 1.5}]}],
    ids=["as is", "null", "new"],
)
def test_a_right_answer_is_read_whatever_aws_adds(extra: dict[str, object]) -> None:
    assert read_generated(changed(**extra), KEY_ARN) == GeneratedSecret(ENVELOPE, SEALED)
    assert read_decrypted(changed(CiphertextBlob=..., **extra), KEY_ARN) == ENVELOPE


FOR_BOTH = {
    "plaintext beside": (changed(Plaintext="c2VjcmV0"), "in the clear"),
    "plaintext instead": (changed(Plaintext="c2VjcmV0", CiphertextForRecipient=...), "in the clear"),
    "plaintext, empty": (changed(Plaintext=""), "in the clear"),
    "plaintext of another type": (changed(Plaintext=[0]), "in the clear"),
    "no envelope": (changed(CiphertextForRecipient=...), "no CiphertextForRecipient"),
    "envelope is null": (changed(CiphertextForRecipient=None), "no CiphertextForRecipient"),
    "envelope is empty": (changed(CiphertextForRecipient=""), "no CiphertextForRecipient"),
    "envelope is no base64": (changed(CiphertextForRecipient="=c2Vj"), "no answer"),
    "envelope too long": (changed(CiphertextForRecipient="A" * 21_856), "no answer"),
    "another key": (changed(KeyId=KEY_ARN.replace("1234abcd", "4321abcd")), "another key"),
    "the key's id without its ARN": (changed(KeyId=KEY_ARN.rpartition("/")[2]), "another key"),
    "no key": (changed(KeyId=...), "another key"),
    "key of another type": (changed(KeyId=1), "no answer"),
    "an array": (b"[]", "no answer"),
    "nothing": (b"", "no answer"),
    "cut": (RAW[:-1], "no answer"),
    "two": (RAW * 2, "no answer"),
    "not UTF-8": (RAW.replace(b"111122223333", b"1111\xff2223333"), "no answer"),
    "nested without end": (RAW[:-1] + b', "x": ' + b"[" * 60_000, "no answer"),
}


@pytest.mark.parametrize(("raw", "said"), FOR_BOTH.values(), ids=FOR_BOTH.keys())
def test_anything_else_is_refused_and_says_what_it_is(raw: bytes, said: str) -> None:
    for read in (read_generated, read_decrypted):
        with pytest.raises(AttemptError, match=f"^kms: .*{said}") as caught:
            read(raw, KEY_ARN)
        assert (caught.value.reason, caught.value.may_pass) == ("answer", False)
        assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize("blob", [..., None, "", "A" * 8196], ids=["missing", "null", "empty", "6147 bytes"])
def test_genesis_is_refused_without_a_ciphertext_to_keep(blob: object) -> None:
    with pytest.raises(AttemptError, match=r"CiphertextBlob|no answer"):
        read_generated(changed(CiphertextBlob=blob), KEY_ARN)


def test_the_longest_ciphertext_is_kept() -> None:
    blob = base64.b64encode(bytes(6144)).decode()
    assert read_generated(changed(CiphertextBlob=blob), KEY_ARN).sealed == bytes(6144)


@given(st.binary(max_size=300), st.integers(0, len(RAW)), st.integers(0, 40))
def test_any_bytes_give_an_answer_or_the_one_error(put_in: bytes, position: int, taken_out: int) -> None:
    for raw in (put_in, RAW[:position] + put_in[:40] + RAW[position + taken_out :]):
        for read in (read_generated, read_decrypted):
            assert outcome(read, raw) in {"read", "answer"}


def outcome(read: Callable[[bytes, str], object], raw: bytes) -> str:
    try:
        read(raw, KEY_ARN)
    except AttemptError as error:
        return error.reason
    return "read"
