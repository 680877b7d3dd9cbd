"""KMS key policies: who may do what with the key, on what the caller attested (nitro.md D.3).

Of AWS's policy language this is the part that a policy over attestation needs, and it fails closed: whatever is not
known (an operator, a condition key, NotAction, a resource but `*`) makes the whole document unusable, since a Deny that
is not understood would otherwise deny nothing. Sources: AWS KMS Developer Guide "Condition keys for Nitro Enclaves",
IAM User Guide "Policy evaluation logic".
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

import msgspec

from pinaivu_shared.errors import CallerError

IMAGE_KEY: Final = "kms:RecipientAttestation:ImageSha384"
PCR_KEY: Final = "kms:RecipientAttestation:PCR"
CONTEXT_KEY: Final = "kms:EncryptionContext:"
PRINCIPAL_KEY: Final = "aws:PrincipalArn"
MAX_POLICY_BYTES: Final = 32 * 1024  # AWS's limit

_KNOWN_KEY: Final = re.compile(
    rf"{IMAGE_KEY}|{PCR_KEY}([0-9]|[12][0-9]|3[01])|{CONTEXT_KEY}.+|{PRINCIPAL_KEY}", re.DOTALL
)  # AWS ignores the case of condition keys; here they are written in the one way that its guide does

Operator = Literal[
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "ArnEquals",
    "ArnNotEquals",
    "Bool",
    "Null",
]
Decision = Literal["allowed", "denied", "not allowed"]
"""`denied` is by a statement that says Deny; `not allowed` is by no statement that says Allow."""
Facts = Mapping[str, str]
"""Condition key -> value in this request. A key that does not apply to it is absent."""


class AwsPrincipal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"aws": "AWS"}):
    """ARNs, an account, or `*`."""

    aws: str | tuple[str, ...]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """One statement. It applies where principal, action and every condition match."""

    effect: Literal["Allow", "Deny"]
    principal: Literal["*"] | AwsPrincipal
    action: str | tuple[str, ...]
    resource: Literal["*"]
    sid: str = ""
    condition: dict[Operator, dict[str, str | bool | tuple[str | bool, ...]]] = {}

    def applies(self, *, principal: str, action: str, facts: Facts) -> bool:
        """Whether this statement speaks about the request."""
        return self.names(principal) and self.covers(action) and self._holds({**facts, PRINCIPAL_KEY: principal})

    def names(self, principal: str) -> bool:
        """Whether the caller is meant. An account means all who are in it.

        AWS leaves it to an account's own policies whom of them it lets in; here they let in everybody, as careless
        ones do.
        """
        if self.principal == "*":
            return True
        account = principal.split(":")[4]
        meant = ("*", principal, account, f"arn:aws:iam::{account}:root")
        return any(named in meant for named in _each(self.principal.aws))

    def covers(self, action: str) -> bool:
        """Whether the action is meant: any case, `*` for any characters and `?` for one."""
        return any(
            re.fullmatch(_expression(pattern), action, re.IGNORECASE | re.DOTALL) for pattern in _each(self.action)
        )

    def conditions(self) -> Iterator[tuple[Operator, str, tuple[str, ...]]]:
        """Operator, condition key and values."""
        for operator, by_key in self.condition.items():
            for key, values in by_key.items():
                yield operator, key, _texts(values)

    def _holds(self, facts: Facts) -> bool:
        return all(_holds(operator, facts.get(key), values) for operator, key, values in self.conditions())


class KeyPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """A key policy document."""

    version: Literal["2012-10-17"]
    statement: Statement | tuple[Statement, ...]
    id: str = ""

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements, also where there is one."""
        return self.statement if isinstance(self.statement, tuple) else (self.statement,)


NOBODY: Final = KeyPolicy(version="2012-10-17", statement=())
"""The policy that lets nobody do anything."""


def parse_policy(raw: bytes) -> KeyPolicy:
    """Read a key policy; CallerError says what in it is not understood."""
    if len(raw) > MAX_POLICY_BYTES:
        raise CallerError(f"key policy: {len(raw)} bytes, at most {MAX_POLICY_BYTES}")
    try:
        policy = msgspec.json.decode(raw, type=KeyPolicy)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallerError(f"key policy: {error}") from error
    for statement in policy.statements:
        for operator, key, values in statement.conditions():
            if not _KNOWN_KEY.fullmatch(key):
                raise CallerError(f"key policy: condition key {key!r} is not known")
            if operator in ("Bool", "Null") and not {*values} <= {"true", "false"}:
                raise CallerError(f"key policy: {operator} of {key!r} is neither true nor false")
    return policy


def decide(policy: KeyPolicy, *, principal: str, action: str, facts: Facts) -> Decision:
    """Deny wins over Allow, and where nothing allows, nothing is allowed."""
    effects = {
        statement.effect
        for statement in policy.statements
        if statement.applies(principal=principal, action=action, facts=facts)
    }
    if "Deny" in effects:
        return "denied"
    return "allowed" if "Allow" in effects else "not allowed"


def request_facts(pcrs: Mapping[int, bytes], context: Mapping[str, str]) -> Facts:
    """The condition keys of a request: those of the registers that the document has, and its encryption context."""
    facts = {f"{PCR_KEY}{index}": value.hex() for index, value in pcrs.items()}
    if 0 in pcrs:
        facts[IMAGE_KEY] = pcrs[0].hex()
    return facts | {f"{CONTEXT_KEY}{key}": value for key, value in context.items()}


def _each(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,)


def _texts(value: str | bool | tuple[str | bool, ...]) -> tuple[str, ...]:  # noqa: FBT001  JSON's true, not a switch
    values = value if isinstance(value, tuple) else (value,)
    return tuple(str(each).lower() if isinstance(each, bool) else each for each in values)


def _expression(pattern: str) -> str:
    return "".join(".*" if letter == "*" else "." if letter == "?" else re.escape(letter) for letter in pattern)


def _equal(actual: str | None, value: str) -> bool:
    return actual == value


def _equal_in_any_case(actual: str | None, value: str) -> bool:
    return actual is not None and actual.casefold() == value.casefold()


def _same_arn(actual: str | None, pattern: str) -> bool:
    """ARNs are compared part by part, so that a wildcard does not reach over a colon."""
    if actual is None:
        return False
    asked, given = pattern.split(":", 5), actual.split(":", 5)
    return len(asked) == len(given) and all(
        re.fullmatch(_expression(part), found, re.DOTALL) for part, found in zip(asked, given, strict=True)
    )


def _absent(actual: str | None, value: str) -> bool:
    return (actual is None) is (value == "true")


_MATCHES: Final[Mapping[Operator, Callable[[str | None, str], bool]]] = {
    "StringEquals": _equal,
    "StringNotEquals": _equal,
    "StringEqualsIgnoreCase": _equal_in_any_case,
    "StringNotEqualsIgnoreCase": _equal_in_any_case,
    "ArnEquals": _same_arn,
    "ArnNotEquals": _same_arn,
    "Bool": _equal_in_any_case,
    "Null": _absent,
}
_NEGATED: Final = frozenset[Operator](("StringNotEquals", "StringNotEqualsIgnoreCase", "ArnNotEquals"))


def _holds(operator: Operator, actual: str | None, values: tuple[str, ...]) -> bool:
    """Whether one of the values matches or, with a negated operator, none; which is so where the key is absent."""
    return any(_MATCHES[operator](actual, value) for value in values) is not (operator in _NEGATED)
