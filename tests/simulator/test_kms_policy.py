"""Key policies of the simulated KMS: Deny wins, silence denies, and what is not understood cannot be used."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.kms_bench import key_policy, pcr16, policy_document, statement

from pinaivu_shared.errors import CallerError
from pinaivu_simulator.kms.judge import measurements_of
from pinaivu_simulator.kms.policy import NOBODY, KeyPolicy, decide, parse_policy, request_facts
from pinaivu_simulator.nsm import ROLE, SIMULATED_MEASUREMENTS

PCRS = {**SIMULATED_MEASUREMENTS, 16: bytes.fromhex(pcr16())}
FACTS = request_facts(PCRS, {"purpose": "vault"})
PCR16 = "kms:RecipientAttestation:PCR16"
PCR0 = "kms:RecipientAttestation:PCR0"
PURPOSE = "kms:EncryptionContext:purpose"
ALLOW = statement("Allow")


def decided(*statements: dict[str, Any], principal: str = ROLE, action: str = "kms:Decrypt") -> str:
    return decide(key_policy(*statements), principal=principal, action=action, facts=FACTS)


def allow_if(operator: str, key: str, value: object) -> dict[str, Any]:
    return statement("Allow", Condition={operator: {key: value}})


def test_nothing_is_allowed_by_silence() -> None:
    assert decided() == "not allowed"
    assert decide(NOBODY, principal=ROLE, action="kms:Decrypt", facts=FACTS) == "not allowed"


def test_deny_wins_wherever_it_stands() -> None:
    deny = statement("Deny", Action="kms:*")
    assert decided(ALLOW) == "allowed"
    assert decided(deny, ALLOW) == decided(ALLOW, deny) == decided(deny) == "denied"


def test_a_single_statement_needs_no_list() -> None:
    one = json.dumps({"Version": "2012-10-17", "Statement": ALLOW}).encode()
    assert decide(parse_policy(one), principal=ROLE, action="kms:Decrypt", facts=FACTS) == "allowed"


@pytest.mark.parametrize(
    ("operator", "key", "value", "holds"),
    [
        ("StringEquals", PCR16, pcr16(), True),
        ("StringEquals", PCR16, pcr16().upper(), False),
        ("StringEquals", PCR16, ["other", pcr16()], True),
        ("StringEquals", PCR16, [], False),
        ("StringEquals", "kms:RecipientAttestation:PCR8", pcr16(), False),
        ("StringEquals", "kms:RecipientAttestation:ImageSha384", PCRS[0].hex(), True),
        ("StringEquals", PURPOSE, "vault", True),
        ("StringEquals", PURPOSE, "Vault", False),
        ("StringEquals", "kms:EncryptionContext:other", "vault", False),
        ("StringEqualsIgnoreCase", PCR16, pcr16().upper(), True),
        ("StringEqualsIgnoreCase", PCR16, pcr16()[:-1], False),
        ("StringEqualsIgnoreCase", "kms:RecipientAttestation:PCR8", "none", False),
        ("StringNotEquals", PURPOSE, "vault", False),
        ("StringNotEquals", PURPOSE, ["other", "vault"], False),
        ("StringNotEquals", PURPOSE, ["other", "Vault"], True),
        ("StringNotEquals", "kms:EncryptionContext:other", "vault", True),
        ("StringNotEqualsIgnoreCase", PCR16, pcr16().upper(), False),
        ("StringNotEqualsIgnoreCase", PCR16, "00" * 48, True),
        ("StringNotEqualsIgnoreCase", "kms:RecipientAttestation:PCR8", "00" * 48, True),
        ("ArnEquals", "aws:PrincipalArn", ROLE, True),
        ("ArnEquals", "aws:PrincipalArn", "arn:aws:iam::*:role/pinaivu-*", True),
        ("ArnEquals", "aws:PrincipalArn", "arn:*:role/pinaivu-simulator", False),
        ("ArnEquals", "aws:PrincipalArn", "arn:aws:iam::000000000000:role/other", False),
        ("ArnEquals", PURPOSE, ROLE, False),
        ("ArnNotEquals", "aws:PrincipalArn", ROLE, False),
        ("ArnNotEquals", "aws:PrincipalArn", "arn:aws:iam::000000000000:role/other", True),
        ("Null", PCR16, "true", False),
        ("Null", PCR16, "false", True),
        ("Null", PCR16, False, True),
        ("Null", "kms:RecipientAttestation:PCR8", "true", True),
        ("Null", "kms:RecipientAttestation:PCR8", True, True),
        ("Null", "kms:RecipientAttestation:PCR8", "false", False),
        ("Bool", PURPOSE, "true", False),
    ],
)
def test_a_condition_holds_as_its_operator_says(operator: str, key: str, value: object, holds: bool) -> None:  # noqa: FBT001
    assert decided(allow_if(operator, key, value)) == ("allowed" if holds else "not allowed")


def test_bool_compares_truth_in_any_case() -> None:
    policy = key_policy(allow_if("Bool", PURPOSE, value="true"))
    for value, expected in (("true", "allowed"), ("TRUE", "allowed"), ("false", "not allowed")):
        facts = request_facts({}, {"purpose": value})
        assert decide(policy, principal=ROLE, action="kms:Decrypt", facts=facts) == expected


def test_all_conditions_of_a_statement_must_hold() -> None:
    good, bad = {PCR16: pcr16()}, {PURPOSE: "other"}
    assert decided(statement("Allow", Condition={"StringEquals": good | bad})) == "not allowed"
    assert decided(statement("Allow", Condition={"StringEquals": good, "StringEqualsIgnoreCase": bad})) == "not allowed"
    assert decided(statement("Deny", Condition={"StringEquals": good | bad}), ALLOW) == "allowed"


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("kms:Decrypt", True),
        ("kms:decrypt", True),
        ("kms:*", True),
        ("*", True),
        ("kms:De?rypt", True),
        ("kms:Decrypt*", True),
        ("kms:Encrypt", False),
        ("kms:Decryp", False),
        ("kms.Decrypt", False),
        ("s3:*", False),
        (["s3:*", "kms:D*"], True),
        ([], False),
    ],
)
def test_actions_are_matched_whole(pattern: object, matches: bool) -> None:  # noqa: FBT001
    assert decided(statement("Allow", Action=pattern)) == ("allowed" if matches else "not allowed")


@pytest.mark.parametrize(
    ("principal", "named"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": ROLE}, True),
        ({"AWS": ["arn:aws:iam::000000000000:role/other", ROLE]}, True),
        ({"AWS": "arn:aws:iam::000000000000:role/other"}, False),
        ({"AWS": "arn:aws:iam::000000000000:role/*"}, False),
        ({"AWS": []}, False),
        ({"AWS": "arn:aws:iam::000000000000:root"}, True),
        ({"AWS": "000000000000"}, True),
        ({"AWS": "arn:aws:iam::111111111111:root"}, False),
    ],
)
def test_principals_are_named_or_are_an_account(principal: object, named: bool) -> None:  # noqa: FBT001
    assert decided(statement("Allow", Principal=principal)) == ("allowed" if named else "not allowed")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"Condition": {"StringLike": {PCR16: "*"}}}, "StringLike"),
        ({"Condition": {"StringEqualsIfExists": {PCR16: pcr16()}}}, "StringEqualsIfExists"),
        ({"Condition": {"StringEquals": {"kms:ViaService": "x"}}}, "kms:ViaService"),
        ({"Condition": {"StringEquals": {"kms:RecipientAttestation:PCR32": "x"}}}, "PCR32"),
        ({"Condition": {"StringEquals": {"kms:RecipientAttestation:PCR016": "x"}}}, "PCR016"),
        ({"Condition": {"StringEquals": {"kms:recipientattestation:pcr1": "x"}}}, "pcr1"),
        ({"Condition": {"StringEquals": {"kms:EncryptionContext:": "x"}}}, "EncryptionContext"),
        ({"Condition": {"StringEquals": {PCR16: 7}}}, "Condition"),
        ({"Condition": {"Null": {PCR16: "yes"}}}, "Null"),
        ({"Condition": {"Bool": {PURPOSE: "1"}}}, "Bool"),
        ({"Effect": "Maybe"}, "Maybe"),
        ({"Resource": "arn:aws:kms:local-1:000000000000:key/x"}, "Resource"),
        ({"NotAction": "kms:Encrypt"}, "NotAction"),
        ({"NotPrincipal": {"AWS": ROLE}}, "NotPrincipal"),
        ({"Principal": {"Service": "ec2.amazonaws.com"}}, "Service"),
        ({"Principal": ROLE}, "Principal"),
        ({"Action": ...}, "Action"),
        ({"Effect": ...}, "Effect"),
        ({"Principal": ...}, "Principal"),
        ({"Resource": ...}, "Resource"),
    ],
)
def test_a_policy_that_is_not_understood_cannot_be_used(change: dict[str, Any], named: str) -> None:
    with pytest.raises(CallerError, match="key policy") as refused:
        key_policy(statement("Deny", **change))
    assert named.lower() in str(refused.value).lower()


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"Version":"2008-10-17","Statement":[]}', b"\xff", b"[" * 100_000, b" " * 40_000]
)
def test_what_is_no_policy_is_refused(raw: bytes) -> None:
    with pytest.raises(CallerError, match="key policy"):
        parse_policy(raw)


@given(st.binary() | st.integers(0, 400).flatmap(lambda at: st.binary(max_size=3).map(lambda new: mutated(at, new))))
def test_any_bytes_are_a_policy_or_the_callers_error(raw: bytes) -> None:
    with contextlib.suppress(CallerError):
        assert isinstance(parse_policy(raw), KeyPolicy)


def mutated(at: int, new: bytes) -> bytes:
    good = policy_document()
    at = at * len(good) // 400
    return good[:at] + new + good[at + 1 :]


CONDITIONS = st.dictionaries(
    st.sampled_from(["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase"]),
    st.dictionaries(st.sampled_from([PCR16, PCR0, PURPOSE]), st.sampled_from([pcr16(), "vault", "other"]), max_size=2),
    max_size=2,
) | st.sampled_from([{"Null": {PCR0: "true"}}, {"Null": {PCR0: "false"}}])
STATEMENTS = st.builds(
    lambda effect, principal, action, condition: statement(
        effect, Principal={"AWS": principal}, Action=action, Condition=condition
    ),
    st.sampled_from(["Allow", "Deny"]),
    st.sampled_from(["*", ROLE, "arn:aws:iam::111111111111:root"]),
    st.sampled_from(["*", "kms:*", "kms:Decrypt", "kms:Encrypt"]),
    CONDITIONS,
)


@given(st.lists(STATEMENTS, max_size=6))
def test_only_an_allow_that_applies_allows_and_only_where_no_deny_does(statements: list[dict[str, Any]]) -> None:
    applying = {one["Effect"] for one in statements if decided(one | {"Effect": "Allow"}) == "allowed"}
    expected = "denied" if "Deny" in applying else "allowed" if "Allow" in applying else "not allowed"
    assert decided(*statements) == expected


@given(st.lists(STATEMENTS, max_size=6), st.randoms())
def test_more_denials_never_allow_and_order_never_matters(statements: list[dict[str, Any]], random: Any) -> None:
    before = decided(*statements)
    shuffled = random.sample(statements, len(statements))
    assert decided(*shuffled) == before
    denials = [one | {"Effect": "Deny"} for one in statements]
    assert decided(*denials) != "allowed"
    assert decided(*statements, *denials) != "allowed"
    assert decided(*statements, statement("Deny", Action="*")) == "denied"


def test_registers_that_a_document_lacks_have_no_condition_key() -> None:
    assert request_facts({1: b"\xab" * 48}, {}) == {"kms:RecipientAttestation:PCR1": "ab" * 48}
    assert request_facts({}, {}) == {}


def test_the_images_registers_come_out_of_the_statements_that_allow() -> None:
    assert dict(measurements_of(parse_policy(policy_document())).pcrs) == {
        index: frozenset((value,)) for index, value in SIMULATED_MEASUREMENTS.items()
    }
    other = json.loads(policy_document(PCR1="ab" * 48))["Statement"][0]
    assert len(measurements_of(parse_policy(policy_document(other))).pcrs[1]) == 2


@pytest.mark.parametrize(
    "more",
    [
        statement("Allow", Action="*"),
        statement("Allow", Action="kms:GenerateData*"),
        statement("Allow", Principal={"AWS": "arn:aws:iam::000000000000:root"}, Action="kms:*"),
        statement("Allow", Condition={"StringNotEquals": {PCR0: "00" * 48}}),
        statement("Allow", Condition={"StringEquals": {PCR0: "00" * 48}}),
    ],
)
def test_a_policy_with_a_way_around_the_image_is_not_played(more: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match="PCR"):
        measurements_of(parse_policy(policy_document(more)))


@pytest.mark.parametrize("value", ["00" * 48, "ab" * 47, "not hexadecimal", ""])
def test_a_policy_with_a_value_that_no_register_has_is_not_played(value: str) -> None:
    with pytest.raises(CallerError, match=r"PCR1|hexadecimal"):
        measurements_of(parse_policy(policy_document(PCR1=value)))


def test_nobodys_policy_measures_nothing() -> None:
    with pytest.raises(CallerError, match="PCR0"):
        measurements_of(NOBODY)
