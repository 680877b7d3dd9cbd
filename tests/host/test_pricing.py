"""Prices: for everybody who wants to look before he pays."""

import httpx
import pytest
from tests.host.town import CONFIGURATION, Town

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
