"""The enclave's configuration: allow-listed, canonical, measured into PCR16 before anything else happens.

No key of it turns a check off. Prices are micro-USDC per million tokens.
"""

from typing import Annotated, Final, Literal

import msgspec

from pinaivu_shared.canonical import CanonicalStruct, Hex, Hex32, Name, Natural, convert, decode, encode, parse_json
from pinaivu_shared.errors import VerificationError

MAX_CONFIGURATION_BYTES: Final = 60_000
"""A configuration is a log leaf, and those end at 65,535 bytes."""
MAX_NODES: Final = 2_000
"""So many bids at their longest still fit, as a transcript, into one frame of the enclave link."""
CONTEXT_LENGTH_MAX: Final = 10_000_000
"""No configuration has a longer context for a model, in tokens."""

Platform = Literal["nitro", "simulator", "qemu"]
BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Quality = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Reserve = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
KeyArn = Annotated[
    str, msgspec.Meta(pattern=r"\Aarn:aws:kms:[a-z]{2,12}(-[a-z0-9]{1,12}){1,3}:[0-9]{12}:key/[A-Za-z0-9-]{1,64}\Z")
]
Origin = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9./:-]{0,200}\Z")]


class ModelTerms(CanonicalStruct, frozen=True):
    """One model of the market: its list prices, and how long its answers are taken to be before any were seen.

    `context_length_max`, in tokens, bounds what a quote's context counts for: without it a node's own word would decide
    how long an answer may be, and so what it is paid and what of a customer's credit it holds.
    """

    model: Name
    input_reserve_price: Reserve
    output_reserve_price: Reserve
    expected_completion_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    context_length_max: Annotated[int, msgspec.Meta(ge=1, le=CONTEXT_LENGTH_MAX)]


class JobLimits(CanonicalStruct, frozen=True):
    """How long a job may take, in milliseconds from its award, and how often it may be awarded."""

    attempts: Annotated[int, msgspec.Meta(ge=1, le=3)]
    first_token_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)]
    duration_ms: Annotated[int, msgspec.Meta(ge=100, le=86_400_000)]


class MeteringLimits(CanonicalStruct, frozen=True):
    """What a node may claim beyond the bytes that were delivered (completion) or requested (prompt), in tokens.

    Where the answer was counted again, the lower count is paid, and a claim above it by more than the allowance and
    `recount_tolerance_bps` of it counts as the node's failure.
    """

    completion_allowance: Annotated[int, msgspec.Meta(ge=0, le=1024)]
    template_allowance: Annotated[int, msgspec.Meta(ge=0, le=65_536)]
    recount_tolerance_bps: BasisPoints


class NodeTerms(CanonicalStruct, frozen=True):
    """How nodes begin and how they are judged (`pinaivu_shared.quality`).

    A new node has quality `prior_bps` and runs at most `probation_slots` jobs at once. Proven misbehaviour suspends it
    for `suspension_ms`, twice as long each time. Its paid receipts are stated once per `statement_period_ms`.
    """

    prior_bps: Quality
    probation_slots: Annotated[int, msgspec.Meta(ge=1, le=65_536)]
    suspension_ms: Annotated[int, msgspec.Meta(ge=1000, le=31_536_000_000)]
    statement_period_ms: Annotated[int, msgspec.Meta(ge=1000, le=31_536_000_000)]


class KmsTerms(CanonicalStruct, frozen=True):
    """The AWS KMS key that guards the vault secret (DESIGN section 7).

    `tls_root` is the DER of the certificate under which the KMS endpoint is known, in hex. On `nitro` it is empty: the
    endpoint must hang under Amazon's roots, which the image holds.
    """

    key_arn: KeyArn
    tls_root: Hex

    @property
    def region(self) -> str:
        """The region of the key, which is that of the endpoint."""
        return self.key_arn.split(":")[3]

    @property
    def endpoint(self) -> str:
        """The host name that the endpoint must prove to have."""
        return f"kms.{self.region}.amazonaws.com"


class Configuration(CanonicalStruct, frozen=True):
    """Everything that may differ between two deployments of one image.

    `operator_key` is the raw Ed25519 key whose orders (`terms.Deposit`, `terms.Payout`) move money in and out.
    `witnesses` are vkeys (C2SP signed-note); `quorum` of them must cosign, 0 means that there are none.
    """

    version: Literal[1]
    platform: Platform
    origin: Origin
    kms: KmsTerms
    models: Annotated[tuple[ModelTerms, ...], msgspec.Meta(min_length=1, max_length=1000)]
    fee_bps: BasisPoints
    operator_key: Hex32
    nodes: NodeTerms
    jobs: JobLimits
    metering: MeteringLimits
    quote_lifetime_ms: Annotated[int, msgspec.Meta(ge=1000, le=86_400_000)]
    max_nodes: Annotated[int, msgspec.Meta(ge=1, le=MAX_NODES)]
    max_open_jobs: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    witnesses: tuple[Name, ...]
    quorum: Natural

    def model(self, name: str) -> ModelTerms | None:
        """The terms of a model, or None where the market does not list it."""
        return next((terms for terms in self.models if terms.model == name), None)


def parse_configuration(raw: bytes) -> Configuration:
    """The configuration from its canonical bytes; VerificationError("configuration") names the field that is wrong."""
    configuration = decode(raw, Configuration, check="configuration", max_bytes=MAX_CONFIGURATION_BYTES)
    names = [terms.model for terms in configuration.models]
    if len(set(names)) != len(names):
        raise VerificationError("configuration", "a model is listed twice")
    if bool(configuration.kms.tls_root) == (configuration.platform == "nitro"):
        raise VerificationError(
            "configuration", "kms.tls_root: nitro takes none but Amazon's, other platforms need one"
        )
    if configuration.quorum or configuration.witnesses:
        raise VerificationError("configuration", "witnesses are not supported by this version")
    return configuration


def canonical_configuration(text: bytes) -> bytes:
    """The canonical bytes of a configuration that a person wrote, in whatever layout; VerificationError as above."""
    if len(text) > MAX_CONFIGURATION_BYTES:
        raise VerificationError("configuration", f"{len(text)} bytes, at most {MAX_CONFIGURATION_BYTES} are allowed")
    try:
        written = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise VerificationError("configuration", f"not JSON: {error}") from error
    raw = encode(convert(written, Configuration, check="configuration"))
    parse_configuration(raw)
    return raw
