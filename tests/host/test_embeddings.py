"""`POST /v1/embeddings`: vectors as numbers or base64, from whatever a node sent, if it is vectors at all."""

import base64
import json
import struct
from typing import Any

import httpx
import pytest
from tests.host.fake_node import Offered, Script
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_shared.wire.link import OpenJob, SettleJob
from pinaivu_shared.wire.node import ToolCallDelta

pytestmark = pytest.mark.anyio
VECTORS = [[0.5, -1.0, 0.1], [1e-30, 2.0, 3.0]]


def packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def sending(content: str) -> Script:
    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta(content[:9])
        await offered.delta(content[9:])
        await offered.delta(finish_reason="stop")
        await offered.prove(content, tokens=(4, 0))

    return script


def vectors(*rows: list[float]) -> str:
    return json.dumps([packed(row) for row in rows], separators=(",", ":"))


async def embed(town: Town, **fields: Any) -> httpx.Response:
    return await town.client().post("/v1/embeddings", json={"model": "m", "input": ["a", "b"], **fields})


async def test_an_answer_has_the_shape_of_openai(town: Town) -> None:
    await town.node(sending(vectors(*VECTORS)))
    body = (await embed(town)).json()
    assert (body["object"], body["model"]) == ("list", "m")
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert [(one["object"], one["index"]) for one in body["data"]] == [("embedding", 0), ("embedding", 1)]
    for one, vector in zip(body["data"], VECTORS, strict=True):
        assert one["embedding"] == pytest.approx(vector)
        assert packed(one["embedding"]) == packed(vector)


async def test_base64_is_what_the_node_sent(town: Town) -> None:
    await town.node(sending(vectors(*VECTORS)))
    body = (await embed(town, encoding_format="base64")).json()
    assert [one["embedding"] for one in body["data"]] == [packed(vector) for vector in VECTORS]


async def test_the_node_gets_texts_and_no_format(town: Town) -> None:
    seen: list[Any] = []

    async def script(offered: Offered) -> None:
        seen.append(offered.request)
        await sending(vectors(VECTORS[0]))(offered)

    await town.node(script)
    await embed(town, input="a", encoding_format="base64", dimensions=3, user="me")
    assert seen[0] == {"model": "m", "input": ["a"], "dimensions": 3}
    (opened,) = town.enclave.all_of(OpenJob)
    assert (opened.needs, opened.max_tokens) == (("embeddings",), 0)


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        vectors(VECTORS[0]),
        vectors(VECTORS[0], VECTORS[1][:2]),
        vectors([], []),
        vectors([float("nan")], [1.0]),
        '["####","####"]',
        '["AAA=","AAA="]',
        "[1,2]",
        '["AACAPw==", "AACAPw=="]',
        '["AACAPx==","AACAPw=="]',
        '["AACAP\\u0077==","AACAPw=="]',
    ],
)
async def test_what_is_no_vectors_is_not_paid(town: Town, content: str) -> None:
    await town.node(sending(content))
    check_shape(await embed(town), 502, "server_error", "node_failed")
    (settled,) = town.enclave.all_of(SettleJob)
    assert (settled.outcome, settled.reason) == ("failed", "protocol_violation")


@pytest.mark.parametrize(
    "extra", [{"finish_reason": "length"}, {"tool_calls": (ToolCallDelta(0, "c", "f", "{}"),)}], ids=["cut", "calls"]
)
async def test_vectors_with_what_no_caller_sees_are_not_paid(town: Town, extra: dict[str, Any]) -> None:
    """Who opens the commitment has the vectors, and nothing else of what the node sent."""

    async def script(offered: Offered) -> None:
        await offered.accept()
        content = vectors(*VECTORS)
        await offered.delta(content)
        await offered.delta(**extra)
        if "finish_reason" in extra:
            await offered.prove(content, tokens=(4, 0), **extra)

    await town.node(script)
    check_shape(await embed(town), 502, "server_error", "node_failed")
    (settled,) = town.enclave.all_of(SettleJob)
    assert (settled.outcome, settled.reason) == ("failed", "protocol_violation")


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"input": None}, 422, "missing_field", "input"),
        ({"input": 7}, 422, "invalid_value", "input"),
        ({"input": []}, 422, "invalid_value", "input"),
        ({"input": ["a"] * 2049}, 422, "invalid_value", "input"),
        ({"input": ""}, 400, "invalid_request", "input"),
        ({"input": ["a", ""]}, 400, "invalid_request", "input"),
        ({"input": [None]}, 422, "invalid_value", "input.0"),
        ({"input": ["a", True]}, 422, "invalid_value", "input.1"),
        ({"input": [{"text": "a"}]}, 422, "invalid_value", "input.0"),
        ({"input": [1, 2]}, 400, "unsupported_parameter", "input"),
        ({"input": [[1], [2]]}, 400, "unsupported_parameter", "input"),
        ({"dimensions": 0}, 422, "invalid_value", "dimensions"),
        ({"encoding_format": "int8"}, 422, "invalid_value", "encoding_format"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    town: Town, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    body = check_shape(await embed(town, **fields), status, "invalid_request_error", code)
    assert body["error"]["param"] == param
    assert not town.enclave.all_of(OpenJob)


async def test_an_input_that_is_neither_a_text_nor_texts_is_told_so_once(town: Town) -> None:
    body = (await embed(town, input=[])).json()
    assert body["error"]["message"] == "input: List should have at least 1 item after validation, not 0"
    assert (await embed(town, input=7)).json()["error"]["message"] == "input: Input should be a valid string"
