"""The models that are on offer, to whom, and what they cost at most."""

import httpx
import pytest
from tests.host.shape import check_shape
from tests.host.town import ADMIN_KEY, CONFIGURATION, Town

pytestmark = pytest.mark.anyio


async def test_prices_are_shown_without_a_key_and_beside_each_model(town: Town) -> None:
    await town.node(models=("m", "a/b:1"))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{town.port}", trust_env=False) as stranger:
        listed = (await stranger.get("/v1/pricing")).json()
    assert (listed["currency"], listed["fee_bps"]) == ("USDC", CONFIGURATION.fee_bps)
    prices = {one["id"]: one["pricing"] for one in listed["data"]}
    assert list(prices) == ["a/b:1", "m"]
    assert prices["m"] == {
        "currency": "USDC",
        "input_per_million_tokens": "0.020000",
        "output_per_million_tokens": "0.060000",
        "fee_bps": 1000,
        "kind": "list_price",
    }
    models = (await town.client().get("/v1/models")).json()["data"]
    assert {one["id"]: one["pricing"] for one in models} == prices
    assert (await town.client().get("/v1/models/m")).json()["pricing"] == prices["m"]


async def test_a_model_is_shown_with_the_context_that_counts_here(town: Town) -> None:
    await town.node(models=("m", "a/b:1"))
    models = (await town.client().get("/v1/models")).json()["data"]
    lengths = {terms.model: terms.context_length_max for terms in CONFIGURATION.models}
    assert {one["id"]: one["context_length"] for one in models} == lengths
    assert (await town.client().get("/v1/models/m")).json()["context_length"] == lengths["m"]


async def test_a_key_with_a_list_of_models_is_shown_those_of_its_list(town: Town) -> None:
    await town.node(models=("m", "a/b:1"))
    for listed, expected in ((None, ["a/b:1", "m"]), (["m", "unknown"], ["m"]), (["unknown"], [])):
        made = await town.client(ADMIN_KEY).post(
            f"/admin/v1/accounts/{town.account_id}/keys", json={"name": "k", "models": listed}
        )
        client = town.client(made.json()["api_key"])
        shown = (await client.get("/v1/models")).json()["data"]
        assert [one["id"] for one in shown] == expected
        for model in ("m", "a/b:1"):
            answer = await client.get(f"/v1/models/{model}")
            if model in expected:
                assert answer.json()["id"] == model
            else:
                check_shape(answer, 404, "invalid_request_error", "model_not_found")
    prices = (await town.client().get("/v1/pricing")).json()["data"]
    assert [one["id"] for one in prices] == ["a/b:1", "m"], "they are public"
