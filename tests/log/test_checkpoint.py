"""A checkpoint is believed when its own log signed it and a quorum of distinct, configured witnesses knows it."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.checkpoint import (
    Checkpoint,
    VerifiedCheckpoint,
    check_quorum,
    cosign_checkpoint,
    format_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
    unverified_origin,
)
from pinaivu_shared.log.keys import Algorithm, VerifierKey, parse_vkey
from pinaivu_shared.log.merkle import EMPTY_ROOT, leaf_hash
from pinaivu_shared.log.note import add_signature, cosign, format_note, sign

VECTORS = Path(__file__).parents[1] / "vectors" / "tlog" / "notes.json"
NOTES = {case["name"]: case for case in json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]}

ORIGIN = "log.example/one"
ROOT = leaf_hash(b"a")
ROOT_TEXT = base64.b64encode(ROOT).decode()
TEXT = f"{ORIGIN}\n1\n{ROOT_TEXT}\n"
NOW_S = 1_700_000_000


def private(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def log_key(name: str, number: int) -> VerifierKey:
    return VerifierKey(name, Algorithm.ED25519, private(number).public_key().public_bytes_raw())


def witness_key(number: int, name: str = "") -> VerifierKey:
    public = private(number).public_key().public_bytes_raw()
    return VerifierKey(name or f"w{number}.example", Algorithm.COSIGNATURE_V1, public)


LOG = log_key(ORIGIN, 100)
WITNESSES = [witness_key(number) for number in (1, 2, 3)]
SIGNED = sign_checkpoint(ORIGIN, 1, ROOT, private(100))


def opened(
    note: str | bytes,
    *,
    origin: str = ORIGIN,
    log_keys: Sequence[VerifierKey] = (LOG,),
    witnesses: Sequence[VerifierKey] = tuple(WITNESSES),
    quorum: int = 0,
) -> VerifiedCheckpoint:
    return open_checkpoint(note, origin, log_keys=log_keys, witnesses=witnesses, quorum=quorum)


def cosigned(*numbers: int, times: tuple[int, ...] = (NOW_S,)) -> str:
    head = opened(SIGNED)
    lines = [
        cosign_checkpoint(head, name=f"w{number}.example", key=private(number), time_s=time_s)
        for number in numbers
        for time_s in times
    ]
    return SIGNED + "".join(lines)


def test_a_signed_checkpoint_says_origin_size_and_root() -> None:
    head = opened(SIGNED)
    assert SIGNED.startswith(TEXT + "\n— " + ORIGIN + " ")
    assert (head.origin, head.size, head.root, head.cosigned_by) == (ORIGIN, 1, ROOT, ())
    assert opened(SIGNED.encode()) == head


@pytest.mark.parametrize("name", ["checkpoint-size-3", "checkpoint-empty-tree", "checkpoint-go-sumdb"])
def test_a_published_checkpoint_opens_under_its_logs_key(name: str) -> None:
    case = NOTES[name]
    keys = [parse_vkey(one) for one in case["vkeys"]]
    head = opened(case["note"], origin=case["checkpoint"]["origin"], log_keys=keys, witnesses=[])
    assert (head.size, base64.b64encode(head.root).decode()) == (
        case["checkpoint"]["size"],
        case["checkpoint"]["root"],
    )


def test_a_quorum_of_distinct_witnesses_is_counted_and_named() -> None:
    head = opened(cosigned(3, 1), quorum=2)
    assert [(one.witness, one.time_s) for one in head.cosigned_by] == [
        (WITNESSES[2], NOW_S),
        (WITNESSES[0], NOW_S),
    ]
    assert len(opened(cosigned(1, 2, 3), quorum=2).cosigned_by) == 3
    assert len(opened(cosigned(1)).cosigned_by) == 1, "reported without being asked for"


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(SIGNED, id="none"),
        pytest.param(cosigned(1), id="one"),
        pytest.param(cosigned(1, 1, times=(NOW_S, NOW_S + 1)), id="one, several times"),
        pytest.param(cosigned(1, 4, 5), id="one, and strangers"),
    ],
)
def test_a_quorum_that_is_not_there_is_refused(note: str) -> None:
    with pytest.raises(VerificationError, match=r"^witness quorum: [01] of 2 "):
        opened(note, quorum=2)


def test_a_witness_that_cosigned_something_else_spoils_the_checkpoint() -> None:
    stale = cosign(TEXT.replace("\n1\n", "\n2\n"), name="w3.example", key=private(3), time_s=NOW_S)
    with pytest.raises(VerificationError, match=r"^checkpoint signature: .*w3\.example"):
        opened(cosigned(1, 2) + stale, quorum=2)


@pytest.mark.parametrize(("quorum", "count"), [(0, 0), (0, 3), (1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (3, 5)])
def test_a_quorum_that_any_two_share_a_witness_of_is_a_policy(quorum: int, count: int) -> None:
    check_quorum(quorum, [witness_key(number) for number in range(1, count + 1)])


@pytest.mark.parametrize(
    ("quorum", "count"), [(1, 0), (-1, 0), (-1, 3), (1, 2), (1, 3), (2, 4), (3, 2), (4, 3), (2, 5)]
)
def test_a_quorum_that_two_trees_could_both_have_is_none(quorum: int, count: int) -> None:
    witnesses = [witness_key(number) for number in range(1, count + 1)]
    with pytest.raises(VerificationError, match=r"^witness policy: "):
        check_quorum(quorum, witnesses)
    with pytest.raises(VerificationError, match=r"^witness policy: "):
        opened(cosigned(*range(1, count + 1)), witnesses=witnesses, quorum=quorum)


@pytest.mark.parametrize(
    ("log_keys", "witnesses"),
    [
        pytest.param([LOG], [WITNESSES[0], WITNESSES[0], WITNESSES[1]], id="a witness twice"),
        pytest.param([LOG], [WITNESSES[0], witness_key(1, "other"), WITNESSES[1]], id="under two names"),
        pytest.param([LOG], [log_key("w1.example", 1), WITNESSES[1]], id="a log key for a witness"),
        pytest.param([witness_key(100, ORIGIN)], WITNESSES, id="a witness key for the log"),
        pytest.param([LOG], [witness_key(100), WITNESSES[0]], id="the log as its own witness"),
    ],
)
def test_a_policy_that_counts_somebody_twice_is_refused(
    log_keys: list[VerifierKey], witnesses: list[VerifierKey]
) -> None:
    for quorum in (0, 2):
        with pytest.raises(VerificationError, match=r"^witness policy: "):
            opened(cosigned(1, 2), log_keys=log_keys, witnesses=witnesses, quorum=quorum)


def test_witnesses_do_not_stand_in_for_the_log() -> None:
    lines = cosigned(1, 2, 3).split("\n\n")[1].split("\n", 1)[1]
    for log_keys in ([LOG], [], [log_key(ORIGIN, 101)]):
        with pytest.raises(VerificationError, match=r"^checkpoint signature: no key of the log"):
            opened(f"{TEXT}\n{lines}", log_keys=log_keys, quorum=2)


def test_a_key_that_is_not_the_logs_is_ignored_and_not_enough() -> None:
    other = format_note(TEXT, [sign(TEXT, name=ORIGIN, key=private(101))])
    with pytest.raises(VerificationError, match=r"^checkpoint signature: no signature by a known key"):
        opened(other)


def test_the_checkpoint_of_another_log_is_refused_though_the_key_signed_it() -> None:
    other = TEXT.replace("one", "two")
    note = format_note(other, [sign(other, name=ORIGIN, key=private(100))])
    with pytest.raises(VerificationError, match=r"^checkpoint origin: "):
        opened(note)


def test_what_is_no_note_is_no_checkpoint() -> None:
    with pytest.raises(VerificationError, match=r"^checkpoint: "):
        opened(TEXT)


def test_a_signed_text_that_is_no_checkpoint_is_refused() -> None:
    text = TEXT + "extension\n"
    with pytest.raises(VerificationError, match=r"^checkpoint: extension line 'extension' is not accepted"):
        opened(format_note(text, [sign(text, name=ORIGIN, key=private(100))]))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(TEXT[:-1], id="no newline at the end"),
        pytest.param(f"{ORIGIN}\n1\n", id="no root"),
        pytest.param(f"\n1\n{ROOT_TEXT}\n", id="no origin"),
        pytest.param(f"{ORIGIN}\n\n{ROOT_TEXT}\n", id="no size"),
        pytest.param(f"{ORIGIN}\n1\n\n", id="empty root"),
        pytest.param(f"{TEXT}\n", id="an empty extension line"),
        pytest.param(f"{TEXT}time 5\n", id="an extension line"),
        pytest.param(f"{TEXT}x\ny\n", id="two extension lines"),
        pytest.param(f"{TEXT}x", id="something behind the last newline"),
        pytest.param(TEXT.replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(TEXT.replace("\n1\n", "\u20281\u2028"), id="line separators"),
        *(
            pytest.param(f"{ORIGIN}\n{size}\n{ROOT_TEXT}\n", id=f"size {size!a}")
            for size in ("01", "00", "+1", "-1", " 1", "1 ", "1_0", "0x1", "1.0", "1e3", "\u0661", "\u00b2")
        ),
        pytest.param(f"{ORIGIN}\n{2**63}\n{ROOT_TEXT}\n", id="size beyond 63 bits"),
        pytest.param(f"{ORIGIN}\n{'9' * 5000}\n{ROOT_TEXT}\n", id="size beyond what int reads"),
        *(
            pytest.param(f"{ORIGIN}\n1\n{root}\n", id=f"root {name}")
            for name, root in {
                "in hex": ROOT.hex(),
                "without padding": ROOT_TEXT[:-1],
                "with more padding": f"{ROOT_TEXT}=",
                "of 31 bytes": base64.b64encode(ROOT[:31]).decode(),
                "of 33 bytes": base64.b64encode(ROOT + b"x").decode(),
                "for URLs": base64.urlsafe_b64encode(b"\xff" * 32).decode(),
                "with a space": ROOT_TEXT[:20] + " " + ROOT_TEXT[20:],
                "in a second spelling": ROOT_TEXT[:42] + chr(ord(ROOT_TEXT[42]) + 1) + "=",
            }.items()
        ),
    ],
)
def test_a_text_outside_the_grammar_is_no_checkpoint(text: str) -> None:
    assert parse_checkpoint(TEXT) == Checkpoint(ORIGIN, 1, ROOT)
    with pytest.raises(VerificationError, match=r"^checkpoint: "):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        pytest.param("", 1, ROOT, id="no origin"),
        pytest.param("go.sum database tree", 1, ROOT, id="spaces"),
        pytest.param("log+one", 1, ROOT, id="plus"),
        pytest.param("log\n", 1, ROOT, id="newline"),
        pytest.param("l\u00f6g", 1, ROOT, id="not ASCII"),
        pytest.param("l" * 256, 1, ROOT, id="256 characters"),
        pytest.param(ORIGIN, -1, ROOT, id="negative"),
        pytest.param(ORIGIN, 2**63, ROOT, id="beyond 63 bits"),
        pytest.param(ORIGIN, 1, ROOT[:31], id="short root"),
    ],
)
def test_a_log_of_ours_signs_nothing_else(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(VerificationError, match=r"^checkpoint: "):
        sign_checkpoint(origin, size, root, private(100))


def test_every_visible_character_but_plus_may_be_in_an_origin() -> None:
    origin = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "+")
    note = sign_checkpoint(origin, 0, EMPTY_ROOT, private(100))
    assert opened(note, origin=origin, log_keys=[log_key(origin, 100)]).size == 0
    assert unverified_origin(note) == origin


@pytest.mark.parametrize("note", ["", "no newline", "\nsecond", b"\xff\n"])
def test_no_origin_without_a_first_line(note: str | bytes) -> None:
    with pytest.raises(VerificationError, match=r"^checkpoint: "):
        unverified_origin(note)


def test_a_witness_does_not_cosign_a_log_of_its_own_name() -> None:
    with pytest.raises(VerificationError, match=r"^checkpoint: "):
        cosign_checkpoint(opened(SIGNED), name=ORIGIN, key=private(1), time_s=NOW_S)


def test_a_renewed_cosignature_takes_the_place_of_the_old_one() -> None:
    line = cosign_checkpoint(opened(SIGNED), name="w1.example", key=private(1), time_s=NOW_S + 60)
    renewed = add_signature(cosigned(1, 2), line, WITNESSES[0])
    times = {one.witness.name: one.time_s for one in opened(renewed, quorum=2).cosigned_by}
    assert times == {"w1.example": NOW_S + 60, "w2.example": NOW_S}


def test_no_single_byte_of_a_cosigned_checkpoint_can_be_changed() -> None:
    note = cosigned(1, 2).encode()
    opened(note, quorum=2)
    for place in range(len(note)):
        for new in (b"", note[place : place + 1] * 2, bytes([note[place] ^ 1]), b"\n", b" ", b"A", b"=", b"\0"):
            changed = note[:place] + new + note[place + 1 :]
            if changed != note:
                with pytest.raises(VerificationError):
                    opened(changed, quorum=2)


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.text(min_size=1))
@settings(deadline=None)
def test_a_text_that_is_read_is_the_only_one_for_its_checkpoint(size: int, root: bytes, origin: str) -> None:
    stated = Checkpoint(origin, size, root)
    try:
        text = format_checkpoint(stated)
    except VerificationError:
        assert any(one < " " or "\ud800" <= one <= "\udfff" for one in origin)
    else:
        assert parse_checkpoint(text) == stated


PIECES = st.sampled_from([ORIGIN, "\n", "0", "1", ROOT_TEXT, "extension", "\u2028", "\u0661"])


@given(st.one_of(st.text(), st.binary(), st.lists(PIECES).map("".join)))
@settings(deadline=None)
def test_anything_gives_the_one_checkpoint_or_the_one_error(text: str | bytes) -> None:
    assert refusal_of(text) in {"", "checkpoint"}


def refusal_of(text: str | bytes) -> str:
    try:
        stated = parse_checkpoint(text)
    except VerificationError as error:
        return error.check
    assert format_checkpoint(stated) == (text if isinstance(text, str) else text.decode())
    return ""
