"""Tool calls that no client could put together are a node's fault, and are shown to nobody."""

import json
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.host.fake_node import Offered
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_host.gateway.answer import replayed
from pinaivu_host.gateway.call_order import CallOrder
from pinaivu_host.gateway.chat_answer import ChatShape
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_shared.commitments import response_commitment
from pinaivu_shared.sse import assemble_choices, data_events
from pinaivu_shared.wire.link import SettleJob
from pinaivu_shared.wire.node import Delta, ToolCallDelta

SALT = bytes(32)
FUNCTION = {"type": "function", "function": {"name": "f"}}
PIECES = st.builds(
    ToolCallDelta, st.integers(0, 3), st.sampled_from(["", "c"]), st.sampled_from(["", "f"]), st.sampled_from(["", "1"])
)
DELTAS = st.lists(
    st.builds(
        Delta,
        st.just("r"),
        index=st.integers(0, 1),
        content=st.sampled_from(["", "a"]),
        tool_calls=st.lists(PIECES, max_size=3).map(tuple),
    ),
    max_size=8,
)


@given(DELTAS)
def test_what_is_taken_opens_the_commitment_as_it_was_streamed(deltas: list[Delta]) -> None:
    order = CallOrder(2)
    taken = list(takewhile(order.takes, deltas))  # an answer breaks off at the first that is not taken
    writer = ChatShape(choices=2).writer(Envelope("r", 1, "m", service_tier=False))
    streamed = writer.begin() + b"".join(map(writer.delta, taken))
    seen = assemble_choices(data_events(streamed.decode()))
    assert response_commitment(seen, SALT) == response_commitment(replayed(taken, choices=2).choices(), SALT)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "calls",
    [
        (ToolCallDelta(1, "c", "f", "{}"),),
        (ToolCallDelta(0, "c", "f", "{}"), ToolCallDelta(2, "d", "g", "{}")),
        (ToolCallDelta(0, "c", "", "{}"),),
        (ToolCallDelta(0, "c", "f", "{"), ToolCallDelta(0, "", "g", "}")),
        (ToolCallDelta(0, "c", "f", "{"), ToolCallDelta(0, "d", "", "}")),
    ],
    ids=["begins at 1", "leaves one out", "has no name", "is named twice", "is another call's"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_out_of_order_ends_the_job(town: Town, calls: tuple[ToolCallDelta, ...], *, stream: bool) -> None:
    async def script(offered: Offered) -> None:
        await offered.accept()
        await offered.delta("a")
        for call in calls:
            await offered.delta(tool_calls=(call,))

    await town.node(script)
    response = await town.chat(stream=stream, tools=[FUNCTION])
    if stream:
        assert json.loads(response.text.split("data: ")[-1])["error"]["code"] == "node_failed"
    else:
        check_shape(response, 502, "server_error", "node_failed")
    (settled,) = town.enclave.all_of(SettleJob)
    assert (settled.outcome, settled.reason) == ("failed", "protocol_violation")
