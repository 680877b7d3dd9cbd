"""The routes under /v1 and those for whoever runs gateways, as the OpenAPI document declares them."""

from typing import Final, get_args

from pinaivu_host.gateway import receipt_list
from pinaivu_host.gateway.error_table import (
    COORDINATOR_UNAVAILABLE,
    DATABASE_UNAVAILABLE,
    INVALID_REQUEST,
    NO_SUCH_MODEL,
    NOT_FOUND,
    OVERLOADED,
    RECEIPT_NOT_FOUND,
    UNSUPPORTED_PARAMETER,
)
from pinaivu_host.gateway.openapi.answers import (
    Alive,
    FreshAttestation,
    Model,
    ModelList,
    Node,
    OpenApi,
    PriceList,
    Ready,
    ReceiptPage,
    StatementPage,
    UsagePage,
)
from pinaivu_host.gateway.openapi.asking import ASKED, TEXT
from pinaivu_host.gateway.openapi.operation import Header, Operation, Parameter, Schema, Success
from pinaivu_host.gateway.query import TIME_S_MAX
from pinaivu_host.gateway.usage import DAYS_MAX, NEXT_PAGE
from pinaivu_shared.bundle import Bundle
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.second_score import Transcript
from pinaivu_shared.statement import StatementBundle
from pinaivu_shared.terms import Outcome

_QUERY: Final = (INVALID_REQUEST, UNSUPPORTED_PARAMETER)
TIME: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": TIME_S_MAX}
REQUEST_ID: Final[Schema] = {"type": "string", "pattern": "^req_[0-7][0-9a-hjkmnp-tv-z]{25}$"}
KEY_ID: Final[Schema] = {"type": "string", "pattern": "^key_[0-9a-f]{16}$"}


def _limit(most: int, default: int) -> Parameter:
    return Parameter("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": most, "default": default})


MODELS: Final = (
    *ASKED,
    Operation(
        method="GET",
        path="/v1/models",
        tag="models",
        summary="List the models that are on offer",
        key="account",
        answers=(Success(ModelList),),
    ),
    Operation(
        method="GET",
        path="/v1/models/{model}",
        tag="models",
        summary="Show a model that is on offer",
        key="account",
        answers=(Success(Model),),
        errors=(NO_SUCH_MODEL,),
        segments={"model": "Its id, slashes and colons included."},
    ),
    Operation(method="GET", path="/v1/pricing", tag="models", summary="List the prices", answers=(Success(PriceList),)),
)
ACCOUNT: Final = (
    Operation(
        method="GET",
        path="/v1/usage",
        tag="account",
        summary="Sum what the account used, by day",
        key="account",
        parameters=(
            Parameter("start_time", "Seconds since 1970, the first that counts.", TIME),
            Parameter("end_time", "Seconds since 1970, the first that does not.", TIME),
            Parameter("bucket_width", "Days are the only one.", {"const": "1d"}),
            Parameter("group_by", "A result for each.", {"type": "array", "items": {"enum": ["model", "api_key_id"]}}),
            Parameter("api_key_id", "What was asked with this key only.", KEY_ID),
            Parameter("limit", "How many days.", {"type": "integer", "minimum": 1, "maximum": DAYS_MAX}),
            Parameter(
                "page", "The `next_page` of the page before.", {"type": "string", "pattern": "^page_[0-9]{1,12}$"}
            ),
            Parameter("format", "JSON unless it is csv.", {"enum": ["json", "csv"]}),
        ),
        answers=(
            Success(UsagePage),
            Success(
                TEXT,
                media_type="text/csv",
                headers=(Header(NEXT_PAGE, "With `format=csv`, where there is a next page.", TEXT, required=False),),
            ),
        ),
        errors=_QUERY,
    ),
    Operation(
        method="GET",
        path="/v1/receipts",
        tag="account",
        summary="List the account's receipts",
        key="account",
        parameters=(
            Parameter("model", "Of this model only.", {"type": "string", "pattern": "^[!-~]{1,255}$"}),
            Parameter("api_key_id", "What was asked with this key only.", KEY_ID),
            Parameter("outcome", "With this outcome only.", {"enum": list(get_args(Outcome))}),
            Parameter("since", "Seconds since 1970, the first that counts.", TIME),
            Parameter("until", "Seconds since 1970, the first that does not.", TIME),
            Parameter("after", "The `last_id` of the page before.", REQUEST_ID),
            _limit(receipt_list.LISTED_MAX, receipt_list.LISTED_DEFAULT),
        ),
        answers=(Success(ReceiptPage),),
        errors=_QUERY,
    ),
    Operation(
        method="GET",
        path="/v1/receipts/{request_id}",
        tag="account",
        summary="Show a receipt, in the bytes that were signed",
        key="account",
        parameters=(Parameter("if-none-match", "The `etag` that one has.", TEXT, where="header"),),
        answers=(
            Success(Receipt, headers=(Header("etag", "Never changes.", TEXT),)),
            Success(None, status=304, description="It is what one has.", headers=(Header("etag", "As sent.", TEXT),)),
        ),
        errors=(RECEIPT_NOT_FOUND,),
        segments={"request_id": "The `request_id` of an answer."},
    ),
    Operation(
        method="GET",
        path="/v1/receipts/{request_id}/bundle",
        tag="account",
        summary="Get all that verifies a receipt offline",
        key="account",
        answers=(Success(Bundle),),
        errors=(RECEIPT_NOT_FOUND, COORDINATOR_UNAVAILABLE),
        segments={"request_id": "The `request_id` of an answer."},
    ),
)
_NODE: Final = {"node_id": "As receipts name it."}
EVIDENCE: Final = (
    Operation(
        method="GET",
        path="/v1/transcripts/{digest}",
        tag="evidence",
        summary="Show an auction as it was held",
        answers=(Success(Transcript),),
        errors=(NOT_FOUND, DATABASE_UNAVAILABLE),
        segments={"digest": "The `auction.transcript` of a receipt."},
    ),
    Operation(
        method="GET",
        path="/v1/nodes/{node_id}",
        tag="evidence",
        summary="Show how a node stands",
        answers=(Success(Node),),
        errors=(DATABASE_UNAVAILABLE,),
        segments=_NODE,
    ),
    Operation(
        method="GET",
        path="/v1/nodes/{node_id}/statements",
        tag="evidence",
        summary="List a node's settlement statements",
        parameters=(
            Parameter(
                "after", "The last number that one has.", {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
            ),
            _limit(100, 20),
        ),
        answers=(Success(StatementPage),),
        errors=(INVALID_REQUEST, DATABASE_UNAVAILABLE),
        segments=_NODE,
    ),
    Operation(
        method="GET",
        path="/v1/nodes/{node_id}/statements/{number}",
        tag="evidence",
        summary="Get a settlement statement and all that verifies it offline",
        answers=(Success(StatementBundle),),
        errors=(COORDINATOR_UNAVAILABLE, DATABASE_UNAVAILABLE, OVERLOADED),
        segments={**_NODE, "number": "From 1."},
    ),
    Operation(
        method="GET",
        path="/v1/attestation",
        tag="evidence",
        summary="Have the enclave attest itself",
        parameters=(
            Parameter(
                "nonce", "At most 1024 bytes in hex.", {"type": "string", "pattern": "^([0-9a-fA-F]{2}){0,1024}$"}
            ),
        ),
        answers=(Success(FreshAttestation),),
        errors=(INVALID_REQUEST, COORDINATOR_UNAVAILABLE, OVERLOADED),
    ),
)
RUNNING: Final = (
    Operation(method="GET", path="/healthz", tag="running", summary="This process runs", answers=(Success(Alive),)),
    Operation(
        method="GET",
        path="/readyz",
        tag="running",
        summary="It can take requests",
        answers=(Success(Ready),),
        errors=(COORDINATOR_UNAVAILABLE,),
    ),
    Operation(method="GET", path="/openapi.json", tag="running", summary="This document", answers=(Success(OpenApi),)),
)
PUBLIC: Final = (*MODELS, *ACCOUNT, *EVIDENCE, *RUNNING)
