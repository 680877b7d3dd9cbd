"""One answer: its shapes, its receipt, its bundle."""

import base64

import pytest
from tests.host.fake_enclave import trust
from tests.host.town import Town, request

from pinaivu_shared.bundle import parse_bundle, verify_bundle
from pinaivu_shared.commitments import request_commitment, response_commitment
from pinaivu_shared.wire.link import SettleJob

pytestmark = pytest.mark.anyio


async def test_an_answer_has_the_shape_of_openai(town: Town) -> None:
    await town.node()
    response = await town.chat()
    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == ["id", "object", "created", "model", "choices", "usage", "request_id"]
    assert body["id"] == "chatcmpl-" + body["request_id"][4:]
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}
    assert response.headers["x-request-id"] == body["request_id"]
    assert len(bytes.fromhex(response.headers["x-pinaivu-salt"])) == 32


async def test_the_receipt_is_there_with_the_answer_and_opens_with_the_salt(town: Town) -> None:
    await town.node()
    response = await town.chat()
    receipt = await town.client().get(f"/v1/receipts/{response.json()['request_id']}")
    assert receipt.content in town.enclave.leaves
    salt = bytes.fromhex(response.headers["x-pinaivu-salt"])
    assert receipt.json()["request_commitment"] == request_commitment(request(), salt)
    assert receipt.json()["response_commitment"] == response_commitment(response.json()["choices"], salt)


async def test_the_bundle_holds_everything_that_verification_needs(town: Town) -> None:
    await town.node()
    response = await town.chat()
    raw = (await town.client().get(f"/v1/receipts/{response.json()['request_id']}/bundle")).content
    bundle = parse_bundle(raw)
    trusted, choices = trust(town.configuration.origin), response.json()["choices"]
    verified = verify_bundle(bundle, trusted, request=request(), choices=choices)
    assert verified.opened == ("request", "forwarded", "response")
    assert verified.inclusion.index == bundle.receipt.log.index
    assert bundle.opening is not None
    assert bundle.opening.salt == response.headers["x-pinaivu-salt"]
    assert bundle.node_proof is not None
    settled = town.enclave.all_of(SettleJob)[0]
    assert base64.b64decode(bundle.node_proof.payload) == settled.proof.payload


async def test_a_node_of_another_operator_sets_the_price_and_the_bundle_shows_it(town: Town) -> None:
    await town.node(operator="one")
    await town.node(operator="two")
    request_id = (await town.chat()).json()["request_id"]
    bundle = parse_bundle((await town.client().get(f"/v1/receipts/{request_id}/bundle")).content)
    verify_bundle(bundle, trust(town.configuration.origin))
    auction, terms = bundle.receipt.auction, town.configuration.models[0]
    assert auction.bids == 2
    assert 0 < auction.input_price < terms.input_reserve_price
    assert 0 < auction.output_price < terms.output_reserve_price
