"""The key policy under which AWS KMS opens the vault for one image with one configuration, and for nobody else.

DESIGN section 7; AWS KMS Developer Guide, "Condition keys for AWS Nitro Enclaves". Every statement that allows is
narrow, and each denial holds against whatever may allow besides: a grant, an IAM policy, a later statement. A negated
operator (StringNotEquals...) is true as well where the key is absent, as it is in a request without a document.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pinaivu_shared.attestation.policy import CONFIGURATION_PCR, MeasurementPolicy, configuration_pcr
from pinaivu_shared.configuration import parse_configuration
from pinaivu_shared.errors import CallerError

CONTEXT_KEY: Final = "kms:EncryptionContext:pinaivu:origin"
PCR_KEYS: Final = {
    0: "kms:RecipientAttestation:ImageSha384",
    1: "kms:RecipientAttestation:PCR1",
    2: "kms:RecipientAttestation:PCR2",
    CONFIGURATION_PCR: f"kms:RecipientAttestation:PCR{CONFIGURATION_PCR}",
}
ATTESTED: Final = ["kms:Decrypt", "kms:GenerateDataKey"]
NEVER: Final = [
    "kms:CreateGrant",
    "kms:DeriveSharedSecret",
    "kms:Encrypt",
    "kms:GenerateDataKeyPair*",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GetParametersForImport",
    "kms:ImportKeyMaterial",
    "kms:ReEncrypt*",
    "kms:ReplicateKey",
    "kms:UpdatePrimaryRegion",
]
"""Ways around the document: an envelope of someone's own, a copy of the key, a permission beside this policy."""
ACCOUNT: Final = [
    "kms:CancelKeyDeletion",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:EnableKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
]
"""What reads nothing: the account may look, and it may end the log by losing the key."""

_ROLE: Final = re.compile(r"arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}")
_ADMINISTRATOR: Final = re.compile(r"arn:aws:iam::[0-9]{12}:(role|user)/[A-Za-z0-9+=,.@_/-]{1,512}")

Statement = dict[str, Any]


def key_policy(
    image_pcrs: Mapping[int, bytes], configuration: bytes, *, role: str, administrator: str | None
) -> dict[str, Any]:
    """The policy of the key that `configuration` (canonical bytes) names, as JSON values.

    `role`: ARN of the parent instance's role. `administrator`: ARN of the one role or user that may change the policy
    and so could open the vault; None for nobody. Raises CallerError for zero PCRs (debug mode) and what is no such ARN.
    """
    terms = parse_configuration(configuration)
    measured = {**image_pcrs, CONFIGURATION_PCR: configuration_pcr(configuration)}
    MeasurementPolicy.exactly(measured)  # refuses what no verifier would trust either
    _require_arn("role", role, _ROLE, form="arn:aws:iam::ACCOUNT:role/NAME")
    if administrator is not None:
        form = "arn:aws:iam::ACCOUNT:role/NAME or …:user/NAME"
        _require_arn("administrator", administrator, _ADMINISTRATOR, form=form)
    _, _, _, region, account, key = terms.kms.key_arn.split(":")
    if key.startswith("key/mrk-"):
        raise CallerError(f"{key} is a multi-Region key: a replica in {region} or elsewhere has a policy of its own")
    statements = [
        _allow_enclave(role, measured, terms.origin),
        _deny("DenyWithoutDocument", ATTESTED, {"Null": {"kms:RecipientAttestation:PCR0": "true"}}),
        *_deny_others(measured, terms.origin),
        _deny("DenyAlways", NEVER, None),
        _allow("Account", f"arn:aws:iam::{account}:root", ACCOUNT),
        *_policy_changes(administrator),
    ]
    return {"Version": "2012-10-17", "Id": "pinaivu-vault", "Statement": statements}


def _require_arn(name: str, arn: str, pattern: re.Pattern[str], *, form: str) -> None:
    if pattern.fullmatch(arn) is None:
        raise CallerError(f"--{name}: {arn[:100]!r} is no such ARN ({form}, no wildcards)")


def _allow_enclave(role: str, measured: Mapping[int, bytes], origin: str) -> Statement:
    condition = {
        "StringEqualsIgnoreCase": {PCR_KEYS[index]: measured[index].hex() for index in PCR_KEYS},
        "StringEquals": {CONTEXT_KEY: origin},
    }
    return {**_allow("OnlyThisImageWithThisConfiguration", role, ATTESTED), "Condition": condition}


def _deny_others(measured: Mapping[int, bytes], origin: str) -> list[Statement]:
    """One statement for each, because conditions within one must hold together."""
    others = [
        _deny(f"DenyOtherPCR{index}", ATTESTED, {"StringNotEqualsIgnoreCase": {key: measured[index].hex()}})
        for index, key in PCR_KEYS.items()
    ]
    return [*others, _deny("DenyOtherLog", ATTESTED, {"StringNotEquals": {CONTEXT_KEY: origin}})]


def _policy_changes(administrator: str | None) -> list[Statement]:
    action = ["kms:PutKeyPolicy"]
    if administrator is None:
        return [_deny("NobodyChangesThisPolicy", action, None)]
    others = {"ArnNotEquals": {"aws:PrincipalArn": administrator}}
    return [
        _allow("Administrator", administrator, ["kms:GetKeyPolicy", *action]),
        _deny("NobodyElseChangesThisPolicy", action, others),
    ]


def _allow(name: str, principal: str, actions: list[str]) -> Statement:
    return {"Sid": name, "Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions, "Resource": "*"}


def _deny(name: str, actions: list[str], condition: Mapping[str, Any] | None) -> Statement:
    denied = {"Sid": name, "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": actions, "Resource": "*"}
    return denied if condition is None else {**denied, "Condition": condition}
