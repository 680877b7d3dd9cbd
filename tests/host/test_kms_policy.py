"""The key policy: one image with one configuration opens the vault of one log, and there is no way around it.

`allowed` is a reading of IAM's evaluation rules made for this test, with an account as careless as can be: everybody in
it is allowed everything that the key's policy leaves to the account, and `granted` stands for grants of everything.
"""

import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.host.town import CONFIGURATION

from pinaivu_host.cli import host
from pinaivu_host.kms_policy import key_policy
from pinaivu_shared.attestation.policy import configuration_pcr
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import KmsTerms
from pinaivu_shared.enrolment import read_measurements
from pinaivu_shared.errors import CallerError, UnreadableError

ROLE = "arn:aws:iam::111122223333:role/pinaivu/parent"
ADMINISTRATOR = "arn:aws:iam::111122223333:user/ann"
STRANGER = "arn:aws:iam::111122223333:role/another"
KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
RAW = encode(replace(CONFIGURATION, kms=KmsTerms(key_arn=KEY, tls_root="00")))
PCRS = {0: b"\xa0" * 48, 1: b"\xa1" * 48, 2: b"\xa2" * 48}
ATTESTED = {
    "kms:RecipientAttestation:ImageSha384": "a0" * 48,
    "kms:RecipientAttestation:PCR0": "a0" * 48,
    "kms:RecipientAttestation:PCR1": "a1" * 48,
    "kms:RecipientAttestation:PCR2": "a2" * 48,
    "kms:RecipientAttestation:PCR16": configuration_pcr(RAW).hex(),
    "kms:EncryptionContext:pinaivu:origin": CONFIGURATION.origin,
}
"""What our enclave's request shows."""
OPENING = ["kms:Decrypt", "kms:GenerateDataKey"]
NEVER = [
    *("kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:CreateGrant", "kms:DeriveSharedSecret"),
    *("kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateDataKeyWithoutPlaintext"),
    *("kms:ReplicateKey", "kms:ImportKeyMaterial", "kms:GetParametersForImport", "kms:UpdatePrimaryRegion"),
]
HARMLESS = {
    *("kms:CancelKeyDeletion", "kms:DescribeKey", "kms:DisableKey", "kms:EnableKey", "kms:GetKeyPolicy"),
    *("kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListResourceTags", "kms:RevokeGrant"),
    "kms:ScheduleKeyDeletion",
}


def policy(administrator: str | None = None) -> dict[str, Any]:
    return key_policy(PCRS, RAW, role=ROLE, administrator=administrator)


def matches(operator: str, wanted: str, actual: str | None) -> bool:
    match operator:
        case "Null":
            return (actual is None) == (wanted == "true")
        case "StringEquals" | "ArnEquals":
            return actual == wanted
        case "StringEqualsIgnoreCase":
            return actual is not None and actual.lower() == wanted.lower()
        case "StringNotEquals" | "ArnNotEquals":
            return actual != wanted
        case "StringNotEqualsIgnoreCase":
            return actual is None or actual.lower() != wanted.lower()
        case _:
            raise AssertionError(f"operator {operator}")


def speaks_of(statement: dict[str, Any], principal: str, action: str, context: dict[str, str]) -> bool:
    assert set(statement) <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    assert statement["Resource"] == "*"
    (named,) = statement["Principal"].values()
    if named not in {"*", principal} and named != f"arn:aws:iam::{principal.split(':')[4]}:root":
        return False
    if not any(fnmatch.fnmatchcase(action, pattern) for pattern in statement["Action"]):
        return False
    return all(
        matches(operator, wanted, context.get(key))
        for operator, wants in statement.get("Condition", {}).items()
        for key, wanted in wants.items()
    )


def allowed(
    found: dict[str, Any], principal: str, action: str, context: dict[str, str], *, granted: bool = False
) -> bool:
    context = {**context, "aws:PrincipalArn": principal}
    effects = {one["Effect"] for one in found["Statement"] if speaks_of(one, principal, action, context)}
    return "Deny" not in effects and (granted or "Allow" in effects)


def test_our_enclave_opens_the_vault_through_its_parents_role() -> None:
    for action in OPENING:
        assert allowed(policy(), ROLE, action, ATTESTED)
        assert not allowed(policy(), STRANGER, action, ATTESTED)
        assert not allowed(policy(ADMINISTRATOR), ADMINISTRATOR, action, ATTESTED)
        uppercase = {key: value.upper() if "PCR" in key else value for key, value in ATTESTED.items()}
        assert allowed(policy(), ROLE, action, uppercase)


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("principal", [ROLE, STRANGER, ADMINISTRATOR])
@pytest.mark.parametrize("key", [key for key in ATTESTED if not key.endswith("PCR0")])
@pytest.mark.parametrize("value", [None, "", "00" * 48, "a0" * 47, "another"])
def test_one_thing_that_differs_or_is_missing_keeps_it_shut(
    key: str, value: str | None, principal: str, *, granted: bool
) -> None:
    context = {**ATTESTED, key: value}
    shown = {name: content for name, content in context.items() if content is not None}
    for administrator in (None, ADMINISTRATOR):
        for action in OPENING:
            assert not allowed(policy(administrator), principal, action, shown, granted=granted)


@given(
    principal=st.sampled_from([ROLE, STRANGER, ADMINISTRATOR, "arn:aws:iam::111122223333:root"]),
    context=st.dictionaries(
        st.sampled_from(sorted(ATTESTED)), st.sampled_from([*sorted(set(ATTESTED.values())), "00" * 48, ""])
    ),
    action=st.sampled_from(OPENING),
    granted=st.booleans(),
    administrator=st.sampled_from([None, ADMINISTRATOR]),
)
@example(principal=ROLE, context={}, action="kms:Decrypt", granted=True, administrator=None)
def test_no_request_but_the_right_one_opens_the_vault(
    principal: str, context: dict[str, str], action: str, administrator: str | None, *, granted: bool
) -> None:
    if context != ATTESTED:
        assert not allowed(policy(administrator), principal, action, context, granted=granted)


@pytest.mark.parametrize("action", NEVER)
def test_ways_around_the_document_are_denied_even_to_whom_they_are_granted(action: str) -> None:
    for administrator in (None, ADMINISTRATOR):
        for principal in (ROLE, STRANGER, ADMINISTRATOR):
            for context in ({}, ATTESTED):
                assert not allowed(policy(administrator), principal, action, dict(context), granted=True)


def test_nobody_changes_the_policy_but_the_administrator_if_there_is_one() -> None:
    for principal in (ROLE, STRANGER, ADMINISTRATOR):
        assert not allowed(policy(), principal, "kms:PutKeyPolicy", ATTESTED, granted=True)
    for principal in (ROLE, STRANGER, f"{ADMINISTRATOR}x"):
        assert not allowed(policy(ADMINISTRATOR), principal, "kms:PutKeyPolicy", ATTESTED, granted=True)
    assert allowed(policy(ADMINISTRATOR), ADMINISTRATOR, "kms:PutKeyPolicy", {})


def statements(found: object) -> Iterator[dict[str, Any]]:
    """Every object anywhere in the document that allows something."""
    if isinstance(found, dict):
        if found.get("Effect") == "Allow":
            yield found
        found = list(found.values())
    if isinstance(found, list):
        for inner in found:
            yield from statements(inner)


@pytest.mark.parametrize("administrator", [None, ADMINISTRATOR])
def test_every_statement_that_allows_is_conditioned_or_harmless(administrator: str | None) -> None:
    required = {key for key in ATTESTED if not key.endswith("PCR0")}
    found = list(statements(json.loads(json.dumps(policy(administrator)))))
    assert len(found) == (2 if administrator is None else 3)
    for statement in found:
        assert not any("*" in action or "?" in action for action in statement["Action"])
        for action in statement["Action"]:
            if action in OPENING:
                condition = statement["Condition"]
                assert set(condition) == {"StringEqualsIgnoreCase", "StringEquals"}
                assert {key for wants in condition.values() for key in wants} == required
                assert statement["Principal"] == {"AWS": ROLE}
            elif action == "kms:PutKeyPolicy":
                assert statement["Principal"] == {"AWS": administrator}
            else:
                assert action in HARMLESS


def test_measurements_are_lowercase_hex_as_kms_compares_them() -> None:
    condition = policy()["Statement"][0]["Condition"]
    assert condition["StringEqualsIgnoreCase"] == {
        "kms:RecipientAttestation:ImageSha384": "a0" * 48,
        "kms:RecipientAttestation:PCR1": "a1" * 48,
        "kms:RecipientAttestation:PCR2": "a2" * 48,
        "kms:RecipientAttestation:PCR16": configuration_pcr(RAW).hex(),
    }
    assert condition["StringEquals"] == {"kms:EncryptionContext:pinaivu:origin": CONFIGURATION.origin}
    assert len(json.dumps(policy(ADMINISTRATOR))) < 32 * 1024  # KMS takes no longer policy


@pytest.mark.parametrize("index", [0, 1, 2])
def test_an_image_in_debug_mode_gets_no_policy(index: int) -> None:
    with pytest.raises(CallerError, match=f"PCR{index} must not be zero"):
        key_policy({**PCRS, index: bytes(48)}, RAW, role=ROLE, administrator=None)


@pytest.mark.parametrize(
    "arn",
    [
        *("", "*", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:role/", "arn:aws:iam::*:role/x"),
        *("arn:aws:iam::111122223333:role/*", "arn:aws:iam::111122223333:role/a?", "arn:aws:iam::1:role/x"),
        *("arn:aws:sts::111122223333:assumed-role/x/y", "arn:aws:iam::111122223333:role/x\n", "${aws:PrincipalArn}"),
        *("arn:aws:iam::111122223333:group/x", "111122223333"),
    ],
)
def test_who_is_named_is_one_and_no_pattern(arn: str) -> None:
    with pytest.raises(CallerError, match="--role"):
        key_policy(PCRS, RAW, role=arn, administrator=None)
    with pytest.raises(CallerError, match="--administrator"):
        key_policy(PCRS, RAW, role=ROLE, administrator=arn)


def test_a_key_with_copies_in_other_regions_gets_no_policy() -> None:
    terms = KmsTerms(key_arn="arn:aws:kms:eu-west-1:111122223333:key/mrk-1234", tls_root="00")
    raw = encode(replace(CONFIGURATION, kms=terms))
    with pytest.raises(CallerError, match="multi-Region"):
        key_policy(PCRS, raw, role=ROLE, administrator=None)


@given(
    st.one_of(
        st.binary(), st.recursive(st.text() | st.none() | st.integers(), st.lists).map(json.dumps).map(str.encode)
    )
)
@example(b"[" * 100_000)
@example(b'{"Measurements": {"PCR0": "\xff"}}')
@example(json.dumps({"Measurements": {f"PCR{index}": "00" * 47 for index in range(3)}}).encode())
@example(json.dumps({"Measurements": {"PCR0": "00" * 48, "PCR1": "00" * 48}}).encode())
@example(b" " * (1 << 21))
def test_any_file_is_measurements_or_unreadable(raw: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_measurements(raw)


def write_inputs(folder: Path) -> list[str]:
    described = {
        "EifVersion": 4,
        "Measurements": {"HashAlgorithm": "Sha384 { ... }", **{f"PCR{n}": value.hex() for n, value in PCRS.items()}},
        "IsSigned": False,
    }
    (folder / "pcrs.json").write_text(json.dumps(described))
    (folder / "configuration.json").write_bytes(RAW)
    return [
        *("kms-policy", "--pcrs", str(folder / "pcrs.json"), "--configuration", str(folder / "configuration.json")),
        *("--role", ROLE),
    ]


def test_the_command_prints_the_policy_and_says_who_may_change_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_inputs(tmp_path)
    assert host([*arguments, "--no-administrator"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == policy()
    assert printed.err == "pinaivu host: nobody, ever, may change this policy once it is on the key\n"
    assert host([*arguments, "--administrator", ADMINISTRATOR]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == policy(ADMINISTRATOR)
    assert printed.err == f"pinaivu host: {ADMINISTRATOR} alone may change this policy once it is on the key\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "give one of --administrator ARN and --no-administrator"),
        (("--administrator", ADMINISTRATOR, "--no-administrator"), "give one of --administrator ARN and"),
        (("--administrator", "", "--no-administrator"), "give one of --administrator ARN and"),
        (("--administrator", ""), "--administrator is empty"),
    ],
)
def test_nobody_gives_the_policy_away_for_ever_by_leaving_something_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert host([*write_inputs(tmp_path), *flags]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.startswith(f"pinaivu host: {said}")) == ("", True)


def test_an_empty_variable_of_the_environment_is_no_decision_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINAIVU_ADMINISTRATOR", "")
    assert host(write_inputs(tmp_path)) == 2
    assert "--administrator is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--pcrs", "missing"), "--pcrs missing: No such file"),
        (("--pcrs", "configuration.json"), "measurements:"),
        (("--configuration", "pcrs.json"), "configuration:"),
        (("--role", "arn:aws:iam::111122223333:root"), "--role"),
        (("--administrator", "*"), "--administrator"),
    ],
)
def test_what_cannot_be_used_is_said_and_ends_with_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, str],
    said: str,
) -> None:
    arguments = write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    chosen = () if change[0] == "--administrator" else ("--no-administrator",)
    assert host([*arguments, *chosen, *change]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
