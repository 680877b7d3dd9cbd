"""A proof file says offline where a leaf stands, and no byte of it can be changed."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.checkpoint import cosign_checkpoint, open_checkpoint, sign_checkpoint
from pinaivu_shared.log.keys import Algorithm, VerifierKey
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.note import NOTE_BYTES_MAX
from pinaivu_shared.log.proof import (
    EXTRA_BYTES_MAX,
    PROOF_BYTES_MAX,
    UnverifiedProof,
    VerifiedInclusion,
    format_proof,
    parse_proof,
    verify_proof,
)
from pinaivu_shared.log.tree import CompactRange, inclusion_proof

ORIGIN = "log.example/one"
LOG_KEY, WITNESS_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
LOG = VerifierKey(ORIGIN, Algorithm.ED25519, LOG_KEY.public_key().public_bytes_raw())
WITNESS = VerifierKey("w.example", Algorithm.COSIGNATURE_V1, WITNESS_KEY.public_key().public_bytes_raw())
NOW_S = 1_700_000_000
HASH = base64.b64encode(leaf_hash(b"")).decode()
HEAD = "c2sp.org/tlog-proof@v1\n"


def leaf(index: int) -> bytes:
    return b"receipt %d" % index


def proof_text(index: int, size: int) -> str:
    tree, table = CompactRange(), dict[tuple[int, int], bytes]()
    for number in range(size):
        table.update(((level, at), one) for level, at, one in tree.append(leaf_hash(leaf(number))))
    checkpoint = sign_checkpoint(ORIGIN, size, tree.root(), LOG_KEY)
    head = open_checkpoint(checkpoint, ORIGIN, log_keys=[LOG], witnesses=[], quorum=0)
    checkpoint += cosign_checkpoint(head, name="w.example", key=WITNESS_KEY, time_s=NOW_S)
    hashes = inclusion_proof(index, size, lambda level, at: table[level, at])
    return format_proof(index, hashes, checkpoint)


def verified(text: str | bytes, *, entry: bytes, origin: str = ORIGIN) -> VerifiedInclusion:
    return verify_proof(text, leaf=entry, origin=origin, log_keys=[LOG], witnesses=[WITNESS], quorum=1)


GOOD = proof_text(4, 7)
FRAMING, CHECKPOINT = GOOD.split("\n\n", 1)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_every_leaf_of_a_log_can_be_proved_offline(size: int) -> None:
    for index in range(size):
        found = verified(proof_text(index, size), entry=leaf(index))
        assert (found.index, found.size) == (index, size)
        assert [(one.witness, one.time_s) for one in found.cosigned_by] == [(WITNESS, NOW_S)]


def test_a_proof_is_written_as_the_specification_has_it() -> None:
    lines = FRAMING.split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 4"]
    assert len(lines) == 2 + 3
    assert CHECKPOINT.startswith(f"{ORIGIN}\n7\n")
    assert proof_text(0, 1).startswith(f"{HEAD}index 0\n\n{ORIGIN}\n1\n"), "no hash lines at size 1"
    assert parse_proof(GOOD.encode()) == parse_proof(GOOD)


def test_another_leaf_is_not_what_the_proof_is_for() -> None:
    for entry in (leaf(5), leaf(4) + b" ", b""):
        with pytest.raises(VerificationError, match=r"^inclusion proof: "):
            verified(GOOD, entry=entry)


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        pytest.param(GOOD.replace("index 4", "index 5"), "inclusion proof", id="another index"),
        pytest.param(GOOD.replace("index 4", "index 7"), "inclusion proof", id="index beyond the tree"),
        pytest.param(GOOD.replace("\n7\n", "\n8\n"), "checkpoint signature", id="another size"),
        pytest.param(GOOD[: GOOD.index("— w.example")], "witness quorum", id="without its witness"),
        pytest.param(GOOD.replace("log.example", "log.exampla"), "checkpoint signature", id="another name"),
        pytest.param(f"{FRAMING}\n\n\n{CHECKPOINT}", "checkpoint signature", id="two empty lines"),
        pytest.param(f"{FRAMING}\n{HASH}\n\n{CHECKPOINT}", "inclusion proof", id="one hash more"),
        pytest.param(f"{FRAMING}\n\nno checkpoint\n", "checkpoint", id="no checkpoint"),
    ],
)
def test_a_changed_proof_is_refused_by_the_check_that_it_fails(changed: str, check: str) -> None:
    verified(GOOD, entry=leaf(4))
    with pytest.raises(VerificationError, match=rf"^{check}: "):
        verified(changed, entry=leaf(4))


def test_the_proof_of_another_log_is_refused() -> None:
    with pytest.raises(VerificationError, match=r"^checkpoint origin: "):
        verified(GOOD, entry=leaf(4), origin="log.example/two")


def test_no_single_byte_of_a_proof_can_be_changed() -> None:
    text = GOOD.encode()
    for place in range(len(text)):
        for new in (b"", text[place : place + 1] * 2, bytes([text[place] ^ 1]), b"\n", b" ", b"1", b"A", b"\r"):
            changed = text[:place] + new + text[place + 1 :]
            if changed != text:
                with pytest.raises(VerificationError):
                    verified(changed, entry=leaf(4))


def test_extra_data_is_read_and_believed_by_nobody() -> None:
    text = GOOD.replace("index", "extra aGVsbG8=\nindex", 1)
    assert parse_proof(text).extra == b"hello"
    assert parse_proof(GOOD).extra is None
    assert verified(text, entry=leaf(4)) == verified(GOOD, entry=leaf(4))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(HEAD, id="head only"),
        pytest.param(f"{HEAD}index 0\n", id="no checkpoint"),
        pytest.param(f"{HEAD}index 0\n\n", id="empty checkpoint"),
        pytest.param(f"{HEAD}\nc\n", id="no index"),
        pytest.param("index 0\n\nc\n", id="no head"),
        pytest.param("c2sp.org/tlog-proof@v2\nindex 0\n\nc\n", id="another version"),
        pytest.param(f"\n{HEAD}index 0\n\nc\n", id="an empty line before"),
        pytest.param(f"{HEAD}index 0\n\nc\n".replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(f"{HEAD}index 0\n\nc\n".replace("\n", "\u2028"), id="line separators"),
        *(
            pytest.param(f"{HEAD}index {index}\n\nc\n", id=f"index {index!a}")
            for index in ("", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "0x1", "\u0661", "9" * 19, "9" * 5000)
        ),
        pytest.param(f"{HEAD}Index 0\n\nc\n", id="upper case"),
        pytest.param(f"{HEAD}index 0\nindex 0\n\nc\n", id="two indexes"),
        pytest.param(f"{HEAD}index 0\nextra AA==\n\nc\n", id="extra behind"),
        pytest.param(f"{HEAD}extra AA==\nextra AA==\nindex 0\n\nc\n", id="two extras"),
        pytest.param(f"{HEAD}extra AA==\n\nc\n", id="extra without index"),
        pytest.param(f"{HEAD}extra \nindex 0\n\nc\n", id="empty extra"),
        pytest.param(f"{HEAD}extra\nindex 0\n\nc\n", id="bare extra"),
        pytest.param(f"{HEAD}extra AB==\nindex 0\n\nc\n", id="extra in a second spelling"),
        pytest.param(f"{HEAD}extra {'A' * 4 * (EXTRA_BYTES_MAX // 3 + 1)}\nindex 0\n\nc\n", id="long extra"),
        pytest.param(f"{HEAD}{HASH}\nindex 0\n\nc\n", id="hash before the index"),
        pytest.param(f"{HEAD}index 0\n{HASH[:-1]}\n\nc\n", id="hash without padding"),
        pytest.param(f"{HEAD}index 0\n {HASH}\n\nc\n", id="hash with a space"),
        pytest.param(f"{HEAD}index 0\nAAAA\n\nc\n", id="short hash"),
        pytest.param(f"{HEAD}index 0\n" + f"{HASH}\n" * 64 + "\nc\n", id="64 hashes"),
        pytest.param(f"{HEAD}index 0\n\n" + "c" * PROOF_BYTES_MAX, id="too long"),
        pytest.param(f"{HEAD}index 0\n\nc\ud800\n", id="a lone surrogate"),
        pytest.param(f"{HEAD}index 0\n\nc\n".encode() + b"\xff", id="no UTF-8"),
    ],
)
def test_a_text_outside_the_grammar_is_no_proof(text: str | bytes) -> None:
    with pytest.raises(VerificationError, match=r"^log proof: "):
        parse_proof(text)


def test_the_largest_proof_there_is_can_be_read() -> None:
    extra = base64.b64encode(bytes(EXTRA_BYTES_MAX)).decode()
    text = f"{HEAD}extra {extra}\nindex {2**63 - 1}\n" + f"{HASH}\n" * 63 + "\n" + "c" * NOTE_BYTES_MAX
    proof = parse_proof(text)
    assert (proof.index, len(proof.hashes), len(proof.checkpoint)) == (2**63 - 1, 63, NOTE_BYTES_MAX)


@pytest.mark.parametrize(
    ("index", "hashes", "checkpoint"),
    [(-1, [], "c\n"), (2**63, [], "c\n"), (0, [b"short"], "c\n"), (0, [bytes(32)] * 64, "c\n"), (0, [], "")],
)
def test_no_proof_is_written_that_could_not_be_read(index: int, hashes: list[bytes], checkpoint: str) -> None:
    with pytest.raises(VerificationError, match=r"^log proof: "):
        format_proof(index, hashes, checkpoint)


CHECKPOINTS = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1)


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63), CHECKPOINTS)
@settings(deadline=None)
def test_what_is_written_is_read(index: int, hashes: list[bytes], checkpoint: str) -> None:
    expected = UnverifiedProof(index, tuple(hashes), checkpoint)
    assert parse_proof(format_proof(index, hashes, checkpoint)) == expected


PIECES = st.sampled_from([HEAD, "extra ", "index ", "0", "AA==", HASH, "\n", "\n\n", CHECKPOINT, "\u2028"])


@given(st.one_of(st.text(), st.binary(), st.lists(PIECES).map("".join)))
@settings(max_examples=300, deadline=None)
def test_anything_gives_an_inclusion_or_the_one_error(text: str | bytes) -> None:
    with pytest.raises(VerificationError):
        verified(text, entry=b"never logged")
