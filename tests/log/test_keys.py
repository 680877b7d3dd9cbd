"""A verifier key line names a signer, and only with the id that belongs to the key in it."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinaivu_shared.errors import VerificationError
from pinaivu_shared.log.keys import Algorithm, VerifierKey, format_vkey, is_key_name, parse_vkey

LOG = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"  # C2SP signed-note
WITNESS = "witness2.example.org+2e55b896+BIZ7fpceQWd60IfqQeS9IAnmNOCZjMDne8lZuguz/bi9"  # sunlight's test data
KEY = base64.b64decode(LOG.split("+", 2)[2])[1:]

# unicode.IsSpace of the Go implementation, and more: what is below U+0020 cannot stand in a note at all.
SPACES = {0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


@pytest.mark.parametrize(("line", "algorithm"), [(LOG, Algorithm.ED25519), (WITNESS, Algorithm.COSIGNATURE_V1)])
def test_a_published_vkey_is_read_and_written_alike(line: str, algorithm: Algorithm) -> None:
    key = parse_vkey(line)
    assert key.algorithm is algorithm
    assert key.key_id.hex() == line.split("+")[1]
    assert format_vkey(key) == line
    assert parse_vkey(line.encode()) == key


def test_one_key_for_two_purposes_has_two_ids() -> None:
    log, witness = (VerifierKey("example.com/foo", one, KEY) for one in Algorithm)
    assert log.key_id != witness.key_id
    assert format_vkey(witness).split("+")[2].startswith("BO")


def typed(number: int) -> str:
    return base64.b64encode(bytes([number]) + KEY).decode()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="empty"),
        pytest.param("example.com/foo+530d903a", id="no key"),
        pytest.param("example.com/foo+530d903a+", id="empty key"),
        pytest.param(LOG.replace("530d903a", "530d903b"), id="another id"),
        pytest.param(LOG.replace("530d903a", "530D903A"), id="upper case id"),
        pytest.param(LOG.replace("530d903a", "0530d903a"), id="long id"),
        pytest.param(LOG.replace("530d903a", "\N{ARABIC-INDIC DIGIT FIVE}30d903a"), id="id in other digits"),
        pytest.param(LOG.replace("foo", "fop"), id="another name"),
        pytest.param(LOG.replace("foo", ""), id="a shorter name"),
        pytest.param(LOG.replace("example.com/foo", ""), id="no name"),
        pytest.param(LOG.replace("/", " "), id="a space in the name"),
        pytest.param(LOG + "\n", id="a newline behind"),
        pytest.param(" " + LOG, id="a space before"),
        pytest.param(LOG[:-1], id="short base64"),
        pytest.param(LOG + "AAAA", id="33 bytes of key"),
        pytest.param(LOG[:-4], id="30 bytes of key"),
        pytest.param(LOG.replace("+Aeky", "+Aeky\n"), id="a newline within"),
        *(
            pytest.param(f"example.com/foo+530d903a+{typed(number)}", id=f"type {number:#04x}")
            for number in (0, 2, 3, 4, 5, 6, 255)
        ),
        pytest.param("x" * 5000, id="too long"),
        pytest.param("\ud800+530d903a+AAAA", id="a lone surrogate"),
    ],
)
def test_another_vkey_is_refused(line: str) -> None:
    with pytest.raises(VerificationError, match=r"^verifier key: "):
        parse_vkey(line)


def test_a_second_spelling_of_the_key_is_refused() -> None:
    with pytest.raises(VerificationError, match="canonical"):
        parse_vkey("example.com/foo+530d903a+Aekyen==")


def test_a_key_name_has_no_space_no_plus_and_nothing_that_no_note_can_hold() -> None:
    refused = {code for code in range(0x110000) if not is_key_name(f"a{chr(code)}b")}
    assert refused == {*range(0x20), ord("+"), *SPACES, *range(0xD800, 0xE000)}
    assert not is_key_name("")


@pytest.mark.parametrize("public_key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_none(public_key: bytes) -> None:
    with pytest.raises(VerificationError, match=r"^verifier key: "):
        VerifierKey("log", Algorithm.ED25519, public_key)


@given(st.text(min_size=1).filter(is_key_name), st.sampled_from(Algorithm), st.binary(min_size=32, max_size=32))
@settings(deadline=None)
def test_any_key_can_be_written_down_and_read(name: str, algorithm: Algorithm, public_key: bytes) -> None:
    key = VerifierKey(name, algorithm, public_key)
    assert parse_vkey(format_vkey(key)) == key
    with pytest.raises(VerificationError, match=r"^forged: "):
        key.check_signature("forged", signature=bytes(64), message=b"")


@given(st.one_of(st.text(), st.binary(), st.from_regex(r"[a-z]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}", fullmatch=True)))
@settings(deadline=None)
def test_anything_gives_a_key_or_the_one_error(line: str | bytes) -> None:
    assert refusal_of(line) in {"", "verifier key"}


def refusal_of(line: str | bytes) -> str:
    try:
        parse_vkey(line)
    except VerificationError as error:
        return error.check
    return ""
