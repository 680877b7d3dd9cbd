"""Every row of the product's error table, in the one shape that all errors have."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.host.town import Town, request

from pinaivu_host.gateway.body import parse_object
from pinaivu_host.gateway.chat_request import read_chat_request
from pinaivu_host.gateway.chat_rules import check_chat
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.order import make_order, new_request_id
from pinaivu_host.store.accounts import Caller
from pinaivu_shared.wire.link import OpenJob

pytestmark = pytest.mark.anyio
DEEP = b'{"model":"m","messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
FLAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}],'


def check_shape(response: httpx.Response, status: int, kind: str, code: str) -> dict[str, Any]:
    """The body, which is the envelope and nothing else."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) == {"error", "request_id"} | ({"detail"} if status == 422 else set())
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert (body["error"]["type"], body["error"]["code"]) == (kind, code)
    assert body["request_id"] == response.headers["x-request-id"]
    if status == 422:
        assert body["detail"]
        assert all(set(one) == {"loc", "msg", "type"} and one["loc"][0] == "body" for one in body["detail"])
    return body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stream": "maybe"}, "stream"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": []}, "stop"),
        ({"stop": 5}, "stop"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "magic"}]}, "tools.0"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"seed": 1.5}, "seed"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ],
)
async def test_fields_that_are_wrong_are_422_and_named(town: Town, fields: dict[str, Any], param: str) -> None:
    body = check_shape(
        response := await town.chat(**fields),
        422,
        "invalid_request_error",
        "missing_field" if response.json()["detail"][0]["type"] == "missing" else "invalid_value",
    )
    assert body["error"]["param"] == param
    assert body["error"]["message"].startswith(param + ": ")
    assert not town.enclave.all_of(OpenJob)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "invalid_request", "stream_options"),
        ({"stream": False, "stream_options": {}}, "invalid_request", "stream_options"),
        ({"top_logprobs": 2}, "invalid_request", "top_logprobs"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"logit_bias": {"5": 1}}, "unsupported_parameter", "logit_bias"),
        ({"functions": []}, "unsupported_parameter", "functions"),
        ({"function_call": "auto"}, "unsupported_parameter", "function_call"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        ({"audio": {}}, "unsupported_parameter", "audio"),
        ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "unsupported_parameter", "tools"),
        ({"tool_choice": {"type": "custom"}}, "unsupported_parameter", "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "invalid_request", "tool_choice"),
        ({"tool_choice": "required"}, "invalid_request", "tool_choice"),
    ],
)
async def test_what_makes_no_sense_here_is_400(town: Town, fields: dict[str, Any], code: str, param: str) -> None:
    body = check_shape(await town.chat(**fields), 400, "invalid_request_error", code)
    assert body["error"]["param"] == param


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "unsupported_image_url"),
        ({"type": "input_audio", "input_audio": {}}, "unsupported_parameter"),
        ({"type": "file", "file": {}}, "unsupported_parameter"),
    ],
)
async def test_parts_that_no_node_takes_are_400(town: Town, part: dict[str, Any], code: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]
    body = check_shape(await town.chat(messages=messages), 400, "invalid_request_error", code)
    assert body["error"]["param"] == "messages.0.content"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nope",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        FLAT + b'"temperature":NaN}',
        FLAT + b'"x":1e999}',
        FLAT + b'"model":"m"}',
        FLAT + b'"user":"\\ud800"}',
        DEEP,
    ],
    ids=["empty", "cut", "word", "array", "string", "bytes", "nan", "huge", "duplicate", "surrogate", "deep"],
)
async def test_a_body_that_is_no_json_object_is_422(town: Town, raw: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await town.client().post("/v1/chat/completions", content=raw, headers=headers)
    check_shape(response, 422, "invalid_request_error", "invalid_json")


async def test_integers_without_a_canonical_form_are_422(town: Town) -> None:
    check_shape(await town.chat(seed=2**63), 422, "invalid_request_error", "invalid_value")


async def test_an_unknown_model_is_422_on_chat_and_404_in_the_list(town: Town) -> None:
    for model in ("gpt-9", "x" * 300, "ü"):
        body = check_shape(await town.chat(model=model), 422, "invalid_request_error", "model_not_found")
        assert body["error"]["param"] == "model"
    response = await town.client().get("/v1/models/gpt-9")
    check_shape(response, 404, "invalid_request_error", "model_not_found")


async def test_no_node_is_503_with_retry_after(town: Town) -> None:
    response = await town.chat()
    check_shape(response, 503, "server_error", "no_node_available")
    assert response.headers["retry-after"] == "1"


async def test_a_conversation_beyond_every_context_is_400(town: Town) -> None:
    await town.node()
    messages = [{"role": "user", "content": "x" * 900_000}]
    body = check_shape(await town.chat(messages=messages), 400, "invalid_request_error", "context_length_exceeded")
    assert body["error"]["param"] == "messages"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Basic abc", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer sk-pnv-wrong", "invalid_api_key"),
        ("Bearer sk-pnv-" + "a" * 48, "invalid_api_key"),
        ("bEaReR sk-other-" + "a" * 48, "invalid_api_key"),
    ],
)
async def test_without_a_valid_key_it_is_401_before_the_body_is_read(town: Town, value: str | None, code: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{town.port}", trust_env=False) as client:
        headers = {} if value is None else {"authorization": value}
        for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/receipts/x")):
            response = await client.request(method, path, headers=headers, content=b"{not json")
            check_shape(response, 401, "authentication_error", code)
            assert response.headers["www-authenticate"] == "Bearer"
            assert "sk-" not in response.text.replace("sk-pnv-...", "")


async def test_the_scheme_of_a_key_may_be_in_any_case(town: Town) -> None:
    response = await town.client().get("/v1/models", headers={"authorization": f"bearer {town.key}"})
    assert response.status_code == 200


async def test_a_revoked_key_is_403(town: Town) -> None:
    await town.host.accounts.revoke(town.key)
    check_shape(await town.chat(), 403, "permission_error", "key_disabled")


async def test_an_account_without_credit_is_429_and_not_worth_a_retry(town: Town) -> None:
    await town.node()
    _, key = await town.host.accounts.create(name="poor", credit=1)
    poor = town.client(key)
    assert (await poor.post("/v1/chat/completions", json=request())).status_code == 200
    response = await poor.post("/v1/chat/completions", json=request())
    check_shape(response, 429, "rate_limit_error", "insufficient_credit")
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["retry-after"].isdecimal()
    assert (await poor.get("/v1/models")).status_code == 200


async def test_unknown_paths_are_404_and_wrong_base_urls_are_told_so(town: Town) -> None:
    client = town.client()
    for path in ("/", "/v1", "/v1/", "/v2/models", "/v1/assistants", "/favicon.ico"):
        body = check_shape(await client.get(path), 404, "invalid_request_error", "not_found")
        assert "base URL" not in body["error"]["message"]
    for path in ("/chat/completions", "/v1/v1/chat/completions", "/models", "/v1/v1/models"):
        body = check_shape(await client.post(path), 404, "invalid_request_error", "not_found")
        assert "must end in /v1" in body["error"]["message"]


async def test_a_wrong_method_is_405_and_the_right_one_is_named(town: Town) -> None:
    response = await town.client().get("/v1/chat/completions")
    check_shape(response, 405, "invalid_request_error", "method_not_allowed")
    assert response.headers["allow"] == "POST"
    response = await town.client().delete("/v1/models")
    check_shape(response, 405, "invalid_request_error", "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_a_body_over_the_limit_is_413_announced_or_not(closed_town: Town) -> None:
    town = closed_town
    town.settings["max_body_bytes"] = 1000
    await town.open()
    large = json.dumps(request(user="x" * 1000)).encode()

    async def in_pieces() -> Any:
        for start in range(0, len(large), 100):
            yield large[start : start + 100]

    for content in (large, in_pieces()):
        response = await town.client().post("/v1/chat/completions", content=content)
        check_shape(response, 413, "invalid_request_error", "request_too_large")
        assert response.headers["connection"] == "close"
    await town.close()


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 200),
        ("", 200),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/xml", 415),
        ("application/octet-stream", 415),
    ],
)
async def test_what_is_not_json_by_its_type_is_415(town: Town, media_type: str, status: int) -> None:
    await town.node()
    headers = {"content-type": media_type} if media_type else {}
    content = json.dumps(request()).encode()
    response = await town.client().post("/v1/chat/completions", content=content, headers=headers)
    assert response.status_code == status, response.text
    if status == 415:
        check_shape(response, 415, "invalid_request_error", "unsupported_media_type")


async def test_plain_text_that_is_no_json_is_415(town: Town) -> None:
    headers = {"content-type": "text/plain"}
    response = await town.client().post("/v1/chat/completions", content=b"hello", headers=headers)
    check_shape(response, 415, "invalid_request_error", "unsupported_media_type")


async def test_our_own_bugs_are_500_without_a_traceback(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.gateway.chat.check_chat", lambda _: 1 / 0)
    response = await town.chat()
    check_shape(response, 500, "server_error", "internal_error")
    assert "ZeroDivision" not in response.text


async def test_without_an_enclave_it_is_503(town: Town) -> None:
    await town.node()
    await town.enclave.stop()
    await town.host.market.jobs.ended(1)
    while town.host.link.ready:  # noqa: ASYNC110 - the broken socket says it by itself
        await asyncio.sleep(0)
    response = await town.chat()
    check_shape(response, 503, "server_error", "coordinator_unavailable")
    check_shape(await town.client().get("/readyz"), 503, "server_error", "coordinator_unavailable")
    assert (await town.client().get("/healthz")).status_code == 200
    await town.enclave.start()


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 16.0},
        {"temperature": None, "stop": None, "tools": None, "n": None, "stream": None, "logit_bias": {}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "developer", "content": "x", "name": None}, {"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}]},
        {
            "messages": [
                {"role": "user", "content": "x"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "content": "4", "tool_call_id": "1"},
            ]
        },
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}},
        {"stop": "x", "seed": 5, "user": "me", "store": True, "unheard_of": {"a": [None, 1.5]}},
        {"modalities": ["text"], "reasoning_effort": "low", "verbosity": "low"},
    ],
)
async def test_what_clients_really_send_is_accepted(town: Town, fields: dict[str, Any]) -> None:
    await town.node()
    assert (await town.chat(**fields)).status_code == 200


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_names = st.sampled_from(
    [
        "model",
        "messages",
        "stream",
        "stop",
        "tools",
        "tool_choice",
        "n",
        "response_format",
        "max_tokens",
        "logit_bias",
        "stream_options",
        "temperature",
        "seed",
        "functions",
        "modalities",
        "x",
    ]
)
_messages = st.lists(
    st.fixed_dictionaries(
        {}, optional={"role": st.sampled_from(["user", "assistant", "tool", "x"]) | _json, "content": _json}
    ),
    max_size=3,
)
_bodies = st.dictionaries(_names, _json | _messages, max_size=6).map(lambda body: {"model": "m", **body})


def refusal_of(raw: bytes) -> ApiError | None:
    """What the chat endpoint says of a body, up to the auction."""
    try:
        body = parse_object(raw)
        chat = read_chat_request(body)
        check_chat(chat)
        make_order(new_request_id(), body, chat, Caller("acct_x", 1, disabled=False))
    except ApiError as error:
        return error
    return None


@given(st.one_of(st.binary(max_size=200), _bodies.map(lambda body: json.dumps(body).encode())))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_body_is_an_order_or_an_api_error(raw: bytes) -> None:
    refusal = refusal_of(raw)
    assert refusal is None or refusal.kind.status in {400, 422}
    assert refusal is None or json.loads(refusal.body("req_x"))["error"]["message"]


@given(st.data())
def test_a_good_body_with_one_byte_changed_is_an_order_or_an_api_error(data: st.DataObject) -> None:
    good = json.dumps(request(temperature=0.5, stop=["a"], tools=[], stream_options={"include_usage": True})).encode()
    place = data.draw(st.integers(0, len(good) - 1))
    changed = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    refusal = refusal_of(changed)
    assert refusal is None or refusal.kind.status in {400, 422}
