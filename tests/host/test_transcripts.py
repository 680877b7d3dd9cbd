"""Transcripts: what an auction looked at and what came out, for whoever has the receipt's digest."""

import httpx
import pytest
from tests.host.town import Town

from pinaivu_shared.ids import digest_of
from pinaivu_shared.second_score import verify_transcript

pytestmark = pytest.mark.anyio


async def test_anyone_can_run_the_auction_of_a_receipt_again(town: Town) -> None:
    await town.node()
    answer = (await town.chat()).json()
    receipt = (await town.client().get(f"/v1/receipts/{answer['request_id']}")).json()
    digest = receipt["auction"]["transcript"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{town.port}", trust_env=False) as stranger:
        found = await stranger.get(f"/v1/transcripts/{digest}")
    assert digest_of(found.content) == digest
    assert verify_transcript(found.content).bids[0].bid.node_id == receipt["node_id"]
    assert "immutable" in found.headers["cache-control"]


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "nothing", "%2e%2e"])
async def test_what_is_no_transcripts_digest_is_not_found(town: Town, digest: str) -> None:
    found = await town.client().get(f"/v1/transcripts/{digest}")
    assert (found.status_code, found.json()["error"]["code"]) == (404, "not_found")
