"""schemathesis, which knows the OpenAPI document and nothing else, finds no answer that the document does not allow."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.fuzz.running import Running, running

from pinaivu_host.gateway.openapi.document import openapi_document

SEED = 20_261_128
EXAMPLES = 4
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schema = schemathesis.openapi.from_dict(openapi_document())


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    with running() as there:
        yield there


@schema.parametrize()
@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_allows(gateway: Running, case: "schemathesis.Case[Any]") -> None:
    key = gateway.admin_key if case.operation.path.startswith(("/admin", "/metrics")) else gateway.api_key
    case.call_and_validate(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, checks=CHECKS)
