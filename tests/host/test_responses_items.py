"""Items of `POST /v1/responses` that refer to what a server would have kept."""

import pytest
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_shared.wire.link import OpenJob

pytestmark = pytest.mark.anyio


async def test_a_reference_is_refused_with_the_setting_that_avoids_it(town: Town) -> None:
    """The AI SDK refers to the assistant's former messages unless it is told that nothing is stored."""
    items = [{"role": "user", "content": "hi"}, {"type": "item_reference", "id": "msg_1"}]
    answer = await town.client().post("/v1/responses", json={"model": "m", "input": items})
    body = check_shape(answer, 400, "invalid_request_error", "unsupported_parameter")
    assert body["error"]["param"] == "input.1"
    assert "send the item itself, as clients do with store: false" in body["error"]["message"]
    assert not town.enclave.all_of(OpenJob)
