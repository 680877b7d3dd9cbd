"""The OpenAPI document is true: it has every route, and every answer that a route gives."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Route
from tests.host.contract import Contract
from tests.host.fake_enclave import signed_order
from tests.host.fake_node import echoing
from tests.host.town import ADMIN_KEY, Town, deposit, request

from pinaivu_host.gateway.error_table import DATABASE_UNAVAILABLE
from pinaivu_host.gateway.openapi.document import EVENTS, OPERATIONS
from pinaivu_host.gateway.openapi.operation import Operation

pytestmark = pytest.mark.anyio
CONTRACT = Contract()
Call = tuple[str, str, dict[str, Any]]
EVENT_NAMES = {shape.__name__ for shape in EVENTS}
NOBODY, NOTHING = "acct_" + "0" * 32, "0" * 26


def declared() -> set[tuple[str, str]]:
    return {(one.method, one.path) for one in OPERATIONS}


async def test_every_route_is_declared_and_nothing_else(town: Town) -> None:
    routes = [one for one in town.host.app._router.routes if isinstance(one, Route)]
    served = {
        (method, one.path_format) for one in routes for method in one.methods or () if method not in {"HEAD", "OPTIONS"}
    }
    assert served == declared()


def test_every_route_but_these_may_find_its_database_away() -> None:
    without = {one.path for one in OPERATIONS if DATABASE_UNAVAILABLE not in one.all_errors()}
    assert without == {"/v1/pricing", "/v1/attestation", "/openapi.json", "/healthz", "/readyz", "/metrics"}


async def test_the_document_is_served_to_everybody_and_may_be_kept(town: Town) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{town.port}", trust_env=False) as client:
        first, second = await client.get("/openapi.json"), await client.get("/openapi.json")
    assert first.json() == json.loads(json.dumps(CONTRACT.document))
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["content-type"] == "application/json"


def test_operations_are_named_once_and_their_references_lead_somewhere() -> None:
    operations = [one for path in CONTRACT.document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names)) == len(OPERATIONS)
    text = json.dumps(CONTRACT.document)
    for name in CONTRACT.components["schemas"]:
        assert text.count(f'"#/components/schemas/{name}"') or name in EVENT_NAMES, f"nothing refers to {name}"
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in CONTRACT.components["schemas"]


def test_bounds_are_in_words_of_json_schema() -> None:
    """Whatever pydantic does not translate it leaves as its own word."""
    words = {"ge", "gt", "le", "lt", "min_length", "max_length", "multiple_of"}
    assert not words & set(keys_of(CONTRACT.document))


@pytest.mark.parametrize(
    ("path", "parameter", "taken", "refused"),
    [
        ("/v1/receipts", "model", "llama3.2:3b", ""),
        ("/v1/receipts", "model", "x" * 255, "two words"),
        ("/v1/receipts", "after", "req_" + "0" * 26, "req_8" + "0" * 25),
        ("/v1/receipts", "api_key_id", "key_0123456789abcdef", "key_0"),
        ("/v1/usage", "api_key_id", "key_0123456789abcdef", "sk-pnv-x"),
        ("/v1/usage", "page", "page_86400", "page_"),
    ],
)
async def test_a_parameter_is_declared_in_the_form_that_is_taken(
    town: Town, path: str, parameter: str, taken: str, refused: str
) -> None:
    declared = CONTRACT.document["paths"][path]["get"]["parameters"]
    (pattern,) = [one["schema"]["pattern"] for one in declared if one["name"] == parameter]
    for value, status in ((taken, 200), (refused, 400)):
        assert (await town.client().get(path, params={parameter: value})).status_code == status
        assert bool(re.search(pattern, value)) == (status == 200)


def keys_of(value: Any) -> Iterator[str]:
    match value:
        case dict():
            yield from value
            for inner in value.values():
                yield from keys_of(inner)
        case list():
            for inner in value:
                yield from keys_of(inner)


def test_the_contract_notices_what_is_not_documented() -> None:
    ready = next(one for one in OPERATIONS if one.path == "/readyz")
    headers = {"x-request-id": "req_" + NOTHING, "content-type": "application/json"}
    right = b'{"status":"ready","nodes":0}'
    assert list(CONTRACT.faults(ready, 200, headers, right)) == []
    for status, other, body in [
        (204, headers, right),
        (200, headers | {"content-type": "text/html"}, right),
        (200, {"content-type": "application/json"}, right),
        (200, headers, b'{"status":"ready","nodes":0,"more":1}'),
        (200, headers, b'{"status":"ready"}'),
        (503, headers | {"retry-after": "1"}, b'{"error":{},"request_id":"x"}'),
    ]:
        assert list(CONTRACT.faults(ready, status, other, body))


async def test_every_route_answers_as_documented_whether_it_goes_well_or_not(town: Town) -> None:
    calls = [*await account_calls(town), *await evidence_calls(town), *await admin_calls(town)]
    outcomes: dict[tuple[str, str], set[bool]] = {place: set() for place in declared()}
    for method, path, settings in calls:
        outcomes[method, operation_of(method, path).path].add(await is_good(town, method, path, settings))
    town.host.market.draining = True
    outcomes["GET", "/readyz"].add(await is_good(town, "GET", "/readyz", {}))
    cannot_fail = {one.path for one in OPERATIONS if {kind.status for kind in one.all_errors()} == {500}}
    for (method, path), seen in outcomes.items():
        assert True in seen, f"{method} {path} was never answered well"
        assert False in seen or path in cannot_fail, f"{method} {path} was never refused"


async def is_good(town: Town, method: str, path: str, settings: dict[str, Any]) -> bool:
    """Whether a call succeeds; the test fails where its answer is not as documented."""
    operation = operation_of(method, path)
    client = town.client(ADMIN_KEY if operation.key == "operator" else None)
    answer = await client.request(method, path, **settings)
    for fault in CONTRACT.faults(operation, answer.status_code, answer.headers, answer.content):
        pytest.fail(f"{method} {path} {settings}: {answer.status_code}: {fault}")
    return answer.status_code < 400


def operation_of(method: str, path: str) -> Operation:
    """The declaration that is meant by a path with values in it."""
    steps = path.split("?", maxsplit=1)[0].split("/")
    for one in OPERATIONS:
        pattern = one.path.split("/")
        alike = len(pattern) == len(steps) and one.method == method
        if alike and all(want == have or want.startswith("{") for want, have in zip(pattern, steps, strict=True)):
            return one
    raise AssertionError(path)


TOOL = {"type": "function", "function": {"name": "f"}}


async def account_calls(town: Town) -> list[Call]:
    """A node that answers, and what an account asks."""
    await town.node()
    await town.node(echoing('["AACAPw=="]'), models=("a/b:1",))
    done = (await town.chat()).json()["request_id"]
    etag = (await town.client().get(f"/v1/receipts/{done}")).headers["etag"]
    bad: dict[str, Any] = {"headers": {"authorization": "Bearer sk-pnv-wrong"}}
    chat = "/v1/chat/completions"
    usage = {"include_usage": True}
    return [
        ("POST", chat, {"json": request(service_tier="auto", tools=[TOOL])}),
        ("POST", chat, {"json": request(stream=True, stream_options=usage)}),
        ("POST", chat, {"json": request(), "headers": {"idempotency-key": "k"}}),
        ("POST", chat, {"json": request(), "headers": {"idempotency-key": "k"}}),
        ("POST", chat, {"json": request(user="x"), "headers": {"idempotency-key": "k"}}),
        ("POST", chat, {"json": request(model="gpt-9")}),
        ("POST", chat, {"json": request(model="a/b:1")}),
        ("POST", chat, {"json": request(stop=5, n="x")}),
        ("POST", chat, {"content": b"<a/>", "headers": {"content-type": "text/xml"}}),
        *asked("/v1/completions", {"model": "m", "prompt": "Once"}),
        *asked("/v1/responses", {"model": "m", "input": "hi"}),
        ("POST", "/v1/embeddings", {"json": {"model": "a/b:1", "input": ["a"]}}),
        ("POST", "/v1/embeddings", {"json": {"model": "m", "input": [1]}}),
        *(("GET", path, bad) for path in ("/v1/models", "/v1/usage", "/v1/receipts")),
        ("GET", "/v1/models", {}),
        ("GET", "/v1/models/m", {}),
        ("GET", "/v1/models/gpt-9", {}),
        ("GET", "/v1/pricing", {}),
        ("GET", "/v1/usage?group_by=model", {}),
        ("GET", "/v1/usage?format=csv&limit=1&start_time=0", {}),
        ("GET", "/v1/usage?limit=1000", {}),
        ("GET", "/v1/receipts?limit=1", {}),
        ("GET", "/v1/receipts?what=1", {}),
        ("GET", f"/v1/receipts/{done}", {}),
        ("GET", f"/v1/receipts/{done}", {"headers": {"if-none-match": etag}}),
        ("GET", f"/v1/receipts/{done}/bundle", {}),
        ("GET", f"/v1/receipts/req_{NOTHING}", {}),
        ("GET", f"/v1/receipts/req_{NOTHING}/bundle", {}),
    ]


def asked(path: str, body: dict[str, Any]) -> list[Call]:
    """Whole, as a stream, and one that cannot be."""
    return [("POST", path, {"json": body | more}) for more in ({}, {"stream": True}, {"model": 5})]


async def evidence_calls(town: Town) -> list[Call]:
    """What anybody may look at; for it a node gets a statement."""
    node = town.nodes[0]
    receipt = (await town.client().get("/v1/receipts")).json()["data"][0]
    await town.enclave.stored()
    town.enclave.tick(later_ms=120_000)
    await town.host.journal.flush()
    town.enclave.tick()
    path = f"/v1/nodes/{node.node_id}"
    return [
        ("GET", f"/v1/transcripts/{receipt['auction']['transcript']}", {}),
        ("GET", "/v1/transcripts/none", {}),
        ("GET", path, {}),
        ("GET", "/v1/nodes/none", {}),
        ("GET", f"{path}/statements", {}),
        ("GET", f"{path}/statements?limit=0", {}),
        ("GET", f"{path}/statements/1", {}),
        ("GET", f"{path}/statements/x", {}),
        ("GET", "/v1/attestation?nonce=00", {}),
        ("GET", "/v1/attestation?nonce=0", {}),
        *(("GET", path, {}) for path in ("/healthz", "/readyz", "/openapi.json")),
    ]


async def admin_calls(town: Town) -> list[Call]:
    """What the operator does."""
    accounts = "/admin/v1/accounts"
    account, nobody = f"{accounts}/{town.account_id}", f"{accounts}/{NOBODY}"
    made = await town.client(ADMIN_KEY).post(f"{account}/keys", json={"name": "new", "expires_in_days": 1})
    signed = signed_order(deposit(town.account_id, 5)).order
    order = {"order": base64.b64encode(signed.payload).decode(), "signature": signed.signature.hex()}
    payout = {"node_id": "node_" + "0" * 32, "amount": "1", "reference": "wire-1"}
    wrong: dict[str, Any] = {"headers": {"authorization": "Bearer wrong"}}
    return [
        ("GET", "/metrics", {}),
        ("POST", accounts, {"json": {"name": "ann", "credit": "1"}}),
        ("POST", accounts, {"json": {"name": ""}}),
        ("GET", f"{accounts}?limit=1", {}),
        ("GET", f"{accounts}?after=x", {}),
        ("GET", account, {}),
        ("GET", nobody, {}),
        ("POST", f"{account}/deposits", {"json": {"amount": "1"}}),
        ("POST", f"{nobody}/deposits", {"json": {"amount": "1"}}),
        ("POST", f"{account}/deposits", {"json": {"amount": "1000000000"}}),
        ("POST", f"{account}/keys", {"json": {"name": "more", "models": ["m"], "permission": "read_only"}}),
        ("POST", f"{account}/keys", {"json": {}}),
        ("GET", f"{account}/keys", {}),
        ("GET", f"{nobody}/keys", {}),
        ("PATCH", f"/admin/v1/keys/{made.json()['key_id']}", {"json": {"requests_per_minute": 60}}),
        ("PATCH", "/admin/v1/keys/none", {"json": {}}),
        ("DELETE", f"/admin/v1/keys/{made.json()['key_id']}", {}),
        ("DELETE", "/admin/v1/keys/none", {}),
        ("POST", "/admin/v1/payouts", {"json": payout | {"node_id": town.nodes[0].node_id, "amount": "0.000001"}}),
        ("POST", "/admin/v1/payouts", {"json": payout}),
        ("GET", "/admin/v1/orders", {}),
        ("POST", "/admin/v1/orders", {"json": order}),
        ("POST", "/admin/v1/orders", {"json": order | {"signature": "0" * 128}}),
        *(("GET", path, wrong) for path in ("/metrics", "/admin/v1/orders", accounts)),
    ]
