"""What the public routes answer, as types: for the OpenAPI document, which tests hold against real answers.

Receipts, transcripts and statements are documented by the very types that verify them.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pinaivu_host.gateway.pricing import CURRENCY
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.ids import NodeId, RequestId
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.receipt import PaymentAmount, Receipt

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[int, Meta(ge=0, description="Seconds since 1970.")]
Milliseconds = Annotated[int, Meta(ge=0, description="Milliseconds since 1970.")]
Decimal = Annotated[str, Meta(pattern=r"\A-?\d+\.\d{6}\Z", description="USDC as decimal text with six digits.")]
Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
Currency = Literal["USDC"]
assert CURRENCY == "USDC"


class Answer(msgspec.Struct):
    """Base of what is answered. Fields may be added: readers ignore those that they do not know."""


class ErrorDetail(Answer):
    """One fault of a body: where, what, and its stable type."""

    loc: Annotated[list[str | int], Meta(min_length=1)]
    msg: str
    type: str


class ErrorObject(Answer):
    """`code` is for programs, `message` for people; `param` names what is at fault."""

    message: str
    type: str
    param: str | None
    code: str


class Error(Answer):
    """Every error."""

    error: ErrorObject
    request_id: RequestId


class ValidationError(Answer):
    """Every error of status 422; `detail` has at most 20 faults."""

    error: ErrorObject
    detail: Annotated[list[ErrorDetail], Meta(min_length=1, max_length=20)]
    request_id: RequestId


class ModelPricing(Answer):
    """List prices of a model. Auctions usually end below them; `fee_bps` hundredths of a percent are added."""

    currency: Currency
    input_per_million_tokens: Decimal
    output_per_million_tokens: Decimal
    fee_bps: Count
    kind: Literal["list_price"]


class Model(Answer):
    """A model that at least one node offers right now.

    Of a node's context no more than `context_length` tokens count; a node's own may be shorter.
    """

    id: str
    object: Literal["model"]
    created: Seconds
    owned_by: Literal["pinaivu"]
    context_length: Count | None
    pricing: ModelPricing | None


class ModelList(Answer):
    """All models on offer."""

    object: Literal["list"]
    data: list[Model]


class PricedModel(Answer):
    """A model of the market, on offer or not."""

    id: str
    object: Literal["model.pricing"]
    pricing: ModelPricing


class PriceList(Answer):
    """The prices of the whole market."""

    object: Literal["list"]
    currency: Currency
    fee_bps: Count
    note: str
    data: list[PricedModel]


class UsageResult(Answer):
    """Sums of receipts; `model` and `api_key_id` are null where they are not grouped by them."""

    object: Literal["organization.usage.completions.result"]
    input_tokens: Count
    output_tokens: Count
    num_model_requests: Count
    model: str | None
    api_key_id: str | None
    charge: Decimal
    charge_micro_usdc: Count
    currency: Currency


class UsageBucket(Answer):
    """A day, or the part of it that was asked for."""

    object: Literal["bucket"]
    start_time: Seconds
    end_time: Seconds
    results: list[UsageResult]


class UsagePage(Answer):
    """Buckets in order of time."""

    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class ReceiptPage(Answer):
    """Receipts, newest first, each exactly as the enclave signed it."""

    object: Literal["list"]
    data: list[Receipt]
    has_more: bool
    last_id: RequestId | None


class NodeSuspension(Answer):
    """The suspension that is in force now; `index` is its leaf's."""

    index: Count
    reason: str
    request_id: str
    suspended_ms: Milliseconds
    until_ms: Milliseconds


class Node(Answer):
    """What the log says of a node."""

    node_id: NodeId
    operator: str
    registered_ms: Milliseconds
    statements: Count
    earned: PaymentAmount
    stated: PaymentAmount
    payable: PaymentAmount
    paid_out: PaymentAmount
    suspension: NodeSuspension | None


class ListedStatement(Answer):
    """A settlement statement in brief; `index` is its leaf's."""

    number: Annotated[int, Meta(ge=1)]
    index: Count
    amount: PaymentAmount
    payable: PaymentAmount
    period_start_ms: Milliseconds
    period_end_ms: Milliseconds


class StatementPage(Answer):
    """Statements of a node, in order."""

    object: Literal["list"]
    data: list[ListedStatement]
    has_more: bool


class FreshAttestation(Answer):
    """The enclave's attestation document over the asker's nonce, and what its `user_data` vouches for."""

    document: Base64
    manifest: KeyManifest
    configuration: Configuration


class Alive(Answer):
    """The process runs."""

    status: Literal["ok"]


class Ready(Answer):
    """The gateway can take requests; `nodes` have a standing quote."""

    status: Literal["ready"]
    nodes: Count


class OpenApi(Answer, kw_only=True):
    """A document like the one that describes it."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
    tags: list[dict[str, Any]] | UnsetType = UNSET
    servers: list[dict[str, Any]] | UnsetType = UNSET
