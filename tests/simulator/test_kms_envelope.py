"""`CiphertextForRecipient` as the simulated KMS writes it is, but for random parts, what AWS has written."""

import json
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.kms_bench import RECIPIENT, open_envelope

from pinaivu_enclave.kms import envelope as enclave
from pinaivu_simulator.kms.envelope import EnvelopeForm, key_identifier, seal_for_recipient

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "nitro" / "aws-kms-cms-envelopes.json").read_text())
CONSTRUCTED = bytes.fromhex(VECTORS["constructed_octets"]["input_ber"])
PRIMITIVE = bytes.fromhex(VECTORS["primitive_octets"]["input_ber_w_ctx"])
RANDOM_PARTS = [(33, 65), (131, 387), (415, 431)]  # key identifier, encrypted key, initialisation vector


def sealed(content: bytes, form: EnvelopeForm = "constructed") -> bytes:
    return seal_for_recipient(content, RECIPIENT.public_key(), entropy=random.Random("seal").randbytes, form=form)


def blanked(raw: bytes, *parts: tuple[int, int]) -> bytes:
    for start, end in parts:
        raw = raw[:start] + bytes(end - start) + raw[end:]
    return raw


@pytest.mark.parametrize(
    ("form", "vector", "content", "encrypted"),
    [("constructed", CONSTRUCTED, bytes(32), (435, 483)), ("primitive", PRIMITIVE, b"fifteen bytes!!", (433, 449))],
)
def test_structure_and_offsets_are_those_of_aws(
    form: EnvelopeForm, vector: bytes, content: bytes, encrypted: tuple[int, int]
) -> None:
    parts = (*RANDOM_PARTS, encrypted)
    assert blanked(sealed(content, form), *parts) == blanked(vector, *parts)


def test_the_parts_left_out_above_are_what_the_vectors_say_they_are() -> None:
    expected = VECTORS["constructed_octets"]
    found = [CONSTRUCTED[start:end].hex() for start, end in ((131, 387), (415, 431), (435, 483))]
    assert found == [expected["encrypted_key_out"], expected["iv_out"], expected["ciphertext_out"]]


@given(st.binary(max_size=112), st.sampled_from(["constructed", "primitive"]))
def test_the_recipient_opens_it(content: bytes, form: EnvelopeForm) -> None:
    assert open_envelope(sealed(content, form)) == content


@pytest.mark.parametrize("form", ["constructed", "primitive"])
def test_the_enclaves_strict_reader_opens_it(form: EnvelopeForm) -> None:
    assert enclave.open_envelope(sealed(bytes(32), form), RECIPIENT) == bytes(32)


def test_long_contents_get_long_lengths() -> None:
    raw = sealed(bytes(4096), "primitive")
    assert raw[431:435] == bytes.fromhex("80821010")
    assert raw[435 + 4112 :] == bytes(8)


def test_nobody_else_opens_it() -> None:
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    with pytest.raises(ValueError, match="ecryption"):
        open_envelope(sealed(b"secret"), other)


def test_every_envelope_has_a_key_and_a_vector_of_its_own() -> None:
    entropy = random.Random(1).randbytes
    first, second = (seal_for_recipient(bytes(32), RECIPIENT.public_key(), entropy=entropy) for _ in range(2))
    assert first[33:65] == second[33:65] == key_identifier(RECIPIENT.public_key())
    for start, end in (*RANDOM_PARTS[1:], (435, 483)):
        assert first[start:end] != second[start:end]
