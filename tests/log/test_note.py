"""A note opens when every known key's line holds and one at least is there, and never otherwise."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.checkpoint import parse_checkpoint
from pinaivu_shared.log.keys import Algorithm, VerifierKey, parse_vkey
from pinaivu_shared.log.merkle import leaf_hash
from pinaivu_shared.log.note import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    add_signature,
    cosign,
    format_note,
    open_note,
    sign,
    split_note,
)
from pinaivu_shared.log.tree import CompactRange

VECTORS = Path(__file__).parents[1] / "vectors" / "tlog" / "notes.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]

ALICE_KEY, WITNESS_KEY, MALLORY_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
ALICE = VerifierKey("alice", Algorithm.ED25519, ALICE_KEY.public_key().public_bytes_raw())
WITNESS = VerifierKey("witness", Algorithm.COSIGNATURE_V1, WITNESS_KEY.public_key().public_bytes_raw())
TEXT = "a text\n\nof two paragraphs\n"
BY_ALICE = sign(TEXT, name="alice", key=ALICE_KEY)
BY_WITNESS = cosign(TEXT, name="witness", key=WITNESS_KEY, time_s=1_700_000_000)
BY_MALLORY = sign(TEXT, name="mallory", key=MALLORY_KEY)
AS_ALICE = BY_ALICE[: len("— alice ") + 6] + BY_MALLORY[len("— mallory ") + 6 :]  # her id, not her signature
BY_WITNESS_OVER_NOTE = cosign(f"{TEXT}\n{BY_MALLORY}", name="witness", key=WITNESS_KEY, time_s=1)
NOTE = format_note(TEXT, [BY_ALICE, BY_WITNESS])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_published_note_is_judged_as_published(case: dict[str, Any]) -> None:
    keys = [parse_vkey(one) for one in case["vkeys"]]
    if not case["valid"]:
        with pytest.raises(VerificationError, match=r"^note signature: "):
            open_note(case["note"], keys)
        return
    signed = open_note(case["note"], keys)
    assert [one.key for one in signed.signatures] == keys
    assert format_note(signed.text, [one.line for one in signed.signatures]) == case["note"]
    assert signed.signatures[0].time_s == case.get("cosignature_time")
    if expected := case.get("checkpoint"):
        stated = parse_checkpoint(signed.text)
        assert (stated.origin, stated.size) == (expected["origin"], expected["size"])
        assert stated.root == base64.b64decode(expected["root"])
        assert expected["extensions"] == []
    if "leaves" in case:
        tree = CompactRange()
        for leaf in case["leaves"]:
            tree.append(leaf_hash(leaf.encode()))
        assert tree.root() == parse_checkpoint(signed.text).root


def test_a_signature_is_byte_for_byte_that_of_the_go_implementation() -> None:
    """The example of golang.org/x/mod sumdb/note, whose private key is published with it."""
    seed = base64.b64decode("gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    assert sign(text, name="PeterNeumann", key=Ed25519PrivateKey.from_private_bytes(seed)) == (
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )


def test_a_cosignature_covers_its_time_and_the_text() -> None:
    blob = base64.b64decode(BY_WITNESS.split(" ")[2])
    message = b"cosignature/v1\ntime 1700000000\n" + TEXT.encode()
    assert blob[:4] == WITNESS.key_id
    assert int.from_bytes(blob[4:12], "big") == 1_700_000_000
    WITNESS_KEY.public_key().verify(blob[12:], message)


def test_a_note_opens_with_any_of_its_keys_and_names_those() -> None:
    for keys in ([ALICE], [WITNESS], [ALICE, WITNESS], [ALICE, ALICE]):
        signed = open_note(NOTE, keys)
        assert signed.text == TEXT
        assert {one.key for one in signed.signatures} == set(keys)
    assert open_note(NOTE.encode(), [ALICE]) == open_note(NOTE, [ALICE])


def test_lines_of_unknown_keys_are_ignored_whatever_is_in_them() -> None:
    stranger = "— alice " + base64.b64encode(b"????" + bytes(2420)).decode() + "\n"  # her name, another id
    loose = "— stranger AAAAAAF=\n"  # base64 as Go would read it
    note = format_note(TEXT, [stranger, loose, BY_MALLORY, BY_ALICE])
    assert [one.line for one in open_note(note, [ALICE, WITNESS]).signatures] == [BY_ALICE]


@pytest.mark.parametrize("lines", [[AS_ALICE, BY_ALICE], [BY_ALICE, AS_ALICE], [BY_WITNESS, AS_ALICE]])
def test_one_failing_line_of_a_known_key_spoils_the_note(lines: list[str]) -> None:
    with pytest.raises(VerificationError, match=r"^note signature: .*'alice' does not hold"):
        open_note(format_note(TEXT, lines), [ALICE, WITNESS])


def test_a_second_spelling_of_a_known_line_is_a_failing_signature() -> None:
    assert BY_ALICE.endswith("=\n"), "an Ed25519 line has two unused bits to play with"
    last = BY_ALICE[-3]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = BY_ALICE[:-3] + alphabet[alphabet.index(last) + 1] + "=\n"
    assert base64.b64decode(other.split(" ")[2]) == base64.b64decode(BY_ALICE.split(" ")[2])
    with pytest.raises(VerificationError, match=r"^note signature: "):
        open_note(format_note(TEXT, [other]), [ALICE])


def test_a_repeated_key_counts_once_and_its_latest_time_counts() -> None:
    times = [cosign(TEXT, name="witness", key=WITNESS_KEY, time_s=at) for at in (5, 9, 7)]
    signed = open_note(format_note(TEXT, [BY_ALICE, *times, BY_ALICE]), [ALICE, WITNESS])
    assert [(one.key.name, one.time_s) for one in signed.signatures] == [("alice", None), ("witness", 9)]


def test_a_note_nobody_known_signed_is_refused() -> None:
    for keys in ([], [VerifierKey("alice", ALICE.algorithm, WITNESS.public_key)]):
        with pytest.raises(VerificationError, match=r"^note signature: no signature by a known key"):
            open_note(NOTE, keys)


def test_a_cosignature_is_no_signature_by_the_same_key_and_the_other_way_round() -> None:
    as_log = VerifierKey("witness", Algorithm.ED25519, WITNESS.public_key)
    with pytest.raises(VerificationError, match=r"^note signature: no signature"):
        open_note(NOTE, [as_log])
    signature = base64.b64decode(BY_ALICE.split(" ")[2])[4:]
    as_witness = VerifierKey("alice", Algorithm.COSIGNATURE_V1, ALICE.public_key)
    for blob in (signature, bytes(8) + signature, signature[:5]):
        line = f"— alice {base64.b64encode(as_witness.key_id + blob).decode()}\n"
        with pytest.raises(VerificationError, match=r"^note signature: .* does not hold"):
            open_note(format_note(TEXT, [line]), [as_witness])


def test_a_time_beyond_63_bits_is_refused_though_it_is_signed() -> None:
    late = 2**63
    signature = WITNESS_KEY.sign(f"cosignature/v1\ntime {late}\n{TEXT}".encode())
    line = f"— witness {base64.b64encode(WITNESS.key_id + late.to_bytes(8, 'big') + signature).decode()}\n"
    with pytest.raises(VerificationError, match=r"^note signature: "):
        open_note(format_note(TEXT, [line]), [WITNESS])


def test_two_keys_that_share_name_and_id_are_refused() -> None:
    twin = VerifierKey("alice", Algorithm.ED25519, MALLORY_KEY.public_key().public_bytes_raw())
    vars(twin)["key_id"] = ALICE.key_id  # finding a true one takes 2**32 tries
    with pytest.raises(VerificationError, match=r"^verifier key: "):
        open_note(NOTE, [ALICE, twin])


@pytest.mark.parametrize(
    "note",
    [
        pytest.param("", id="empty"),
        pytest.param(TEXT, id="no signature"),
        pytest.param(f"{TEXT}\n", id="no signature after the empty line"),
        pytest.param(f"{TEXT}{BY_ALICE}", id="no empty line"),
        pytest.param(NOTE[:-1], id="no newline at the end"),
        pytest.param(f"{NOTE}\n", id="an empty line at the end"),
        pytest.param(f"\n{BY_ALICE}", id="no text"),
        pytest.param(NOTE.replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(NOTE.replace("a text", "a\ttext"), id="a tab"),
        pytest.param(NOTE.replace("—", "-"), id="a hyphen for the dash"),
        pytest.param(NOTE.replace("— ", "—\N{NO-BREAK SPACE}"), id="another space"),
        pytest.param(NOTE.replace("— alice", "—  alice"), id="two spaces"),
        pytest.param(NOTE.replace("— alice", "— al+ice"), id="a plus in the name"),
        pytest.param(f"{NOTE}— alice\n", id="no signature in a line"),
        pytest.param(f"{NOTE}— alice \n", id="an empty signature"),
        pytest.param(f"{NOTE}— alice AAAAAA==\n", id="an id without a signature"),
        pytest.param(f"{NOTE}— alice AAAAAAA\n", id="no padding"),
        pytest.param(f"{NOTE}— alice AAAA_AAA\n", id="the other base64"),
        pytest.param(f"{NOTE}— alice AAAAAAAÄ\n", id="no base64"),
        pytest.param(f"{NOTE}— alice AAAAAAAA \n", id="a space behind"),
        pytest.param(f"{NOTE}— bob AAAAAAAA\u2028— bob AAAAAAAA\n", id="a line separator for a newline"),
        pytest.param(NOTE + BY_ALICE * (SIGNATURES_MAX - 1), id="101 signatures"),
        pytest.param("a" * NOTE_BYTES_MAX + f"\n\n{BY_ALICE}", id="too long"),
        pytest.param(NOTE.replace("a text", "a \ud800"), id="a lone surrogate"),
        pytest.param(NOTE.encode().replace(b"a text", b"a \xff"), id="no UTF-8"),
        pytest.param(NOTE.encode("utf-16"), id="UTF-16"),
    ],
)
def test_what_is_no_note_is_refused(note: str | bytes) -> None:
    with pytest.raises(VerificationError, match=r"^note: "):
        open_note(note, [ALICE])
    with pytest.raises(VerificationError, match=r"^note: "):
        split_note(note)


def test_line_separators_of_other_alphabets_separate_nothing() -> None:
    text = "one\u2028line\u0085and\x7fmore\n"
    note = format_note(text, [sign(text, name="alice", key=ALICE_KEY)])
    assert open_note(note, [ALICE]).text == text


def test_as_many_signatures_as_allowed_are_read() -> None:
    note = format_note(TEXT, [BY_MALLORY] * (SIGNATURES_MAX - 1) + [BY_ALICE])
    assert len(split_note(note)[1]) == SIGNATURES_MAX
    assert open_note(note, [ALICE]).text == TEXT


@pytest.mark.parametrize("text", ["", "no newline", "carriage\rreturn\n", "\ud800\n", "a" * NOTE_BYTES_MAX + "\n"])
def test_a_text_that_fits_no_note_is_not_signed(text: str) -> None:
    with pytest.raises(VerificationError, match=r"^note: "):
        sign(text, name="alice", key=ALICE_KEY)
    with pytest.raises(VerificationError, match=r"^note: "):
        cosign(text, name="alice", key=ALICE_KEY, time_s=1)


@pytest.mark.parametrize("time_s", [-1, 0, 2**63])
def test_no_cosignature_without_a_time(time_s: int) -> None:
    with pytest.raises(VerificationError, match=r"^note: "):
        cosign(TEXT, name="witness", key=WITNESS_KEY, time_s=time_s)


@pytest.mark.parametrize("lines", [[], ["\n"], [BY_ALICE[:-1]], [f"\n{BY_ALICE}"], [BY_ALICE, f"x\n\n{BY_ALICE}"]])
def test_a_note_is_made_of_signature_lines_only(lines: list[str]) -> None:
    with pytest.raises(VerificationError, match=r"^note: "):
        format_note(TEXT, lines)


def test_a_witness_answer_replaces_its_older_line_and_brings_nothing_else() -> None:
    newer = cosign(TEXT, name="witness", key=WITNESS_KEY, time_s=1_700_000_060)
    assert add_signature(NOTE, f"{BY_MALLORY}{newer}", WITNESS) == format_note(TEXT, [BY_ALICE, newer])
    assert add_signature(format_note(TEXT, [BY_ALICE]), newer.encode(), WITNESS) == format_note(TEXT, [BY_ALICE, newer])


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        pytest.param("", "note", id="empty"),
        pytest.param("hello\n", "note", id="no signature line"),
        pytest.param(BY_WITNESS[:-1], "note", id="no newline"),
        pytest.param(BY_MALLORY, "note signature", id="by somebody else"),
        pytest.param(
            cosign("another\n", name="witness", key=WITNESS_KEY, time_s=1), "note signature", id="over another text"
        ),
        pytest.param(
            f"{BY_MALLORY}\n{BY_WITNESS_OVER_NOTE}",
            "note",
            id="over the note as text",
        ),
        pytest.param(b"\xff", "note", id="no UTF-8"),
    ],
)
def test_a_witness_answer_without_its_cosignature_is_refused(answer: str | bytes, check: str) -> None:
    with pytest.raises(VerificationError, match=rf"^{check}: "):
        add_signature(format_note(TEXT, [BY_ALICE]), answer, WITNESS)


LINES = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]))
TEXTS = st.lists(LINES, min_size=1).map(lambda lines: "\n".join(lines) + "\n")


@given(TEXTS, st.integers(1, 2**63 - 1))
@settings(deadline=None)
def test_any_text_can_be_signed_and_opened(text: str, time_s: int) -> None:
    lines = [sign(text, name="alice", key=ALICE_KEY), cosign(text, name="witness", key=WITNESS_KEY, time_s=time_s)]
    signed = open_note(format_note(text, lines), [ALICE, WITNESS])
    assert signed.text == text
    assert [one.time_s for one in signed.signatures] == [None, time_s]
    assert [one.line for one in signed.signatures] == lines


PIECES = st.sampled_from(
    [TEXT, BY_ALICE, BY_WITNESS, AS_ALICE, "— ", "— alice ", "\n", "\n\n", " ", "AAAAAAAA", "\u2028"]
)


@given(st.one_of(st.text(), st.binary(), st.lists(st.one_of(PIECES, st.text(max_size=3))).map("".join)))
@settings(max_examples=300, deadline=None)
def test_anything_gives_a_note_or_the_one_error(note: str | bytes) -> None:
    assert refusal_of(note) in {"", "note", "note signature"}


def refusal_of(note: str | bytes) -> str:
    try:
        signed = open_note(note, [ALICE, WITNESS])
    except VerificationError as error:
        return error.check
    assert signed.signatures
    return ""
