"""A request that no node's engine can serve is a 400 that says what is needed, and nobody is asked in vain."""

from typing import Any, get_args

import pytest
from tests.host.shape import check_shape
from tests.host.town import Town

from pinaivu_host.gateway.parameter_names import ParameterNames
from pinaivu_shared.terms import Capability
from pinaivu_shared.wire.link import OpenJob

pytestmark = pytest.mark.anyio
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        ({"tools": [FUNCTION]}, "tools", "tools"),
        (
            {"response_format": {"type": "json_object"}},
            "response_format",
            "response_format json_object",
        ),
        ({"response_format": SCHEMA}, "response_format", "response_format json_schema"),
        ({"n": 2}, "n", "n above 1"),
        ({"logprobs": True, "tools": [FUNCTION]}, "logprobs", "logprobs, tools"),
        ({}, "model", "chat completions"),
    ],
    ids=["tools", "json_object", "json_schema", "n", "logprobs and tools", "chat"],
)
async def test_what_no_node_can_do_is_400_and_names_the_parameter(
    town: Town, fields: dict[str, Any], param: str, named: str
) -> None:
    await town.node(capabilities=("chat", "images") if fields else ("embeddings",))
    body = check_shape(await town.chat(**fields), 400, "invalid_request_error", "unsupported_parameter")
    assert body["error"]["param"] == param
    assert body["error"]["message"] == f"no node that offers 'm' now can do all that this request needs: {named}"
    assert len([one for one in town.enclave.commands if isinstance(one, OpenJob)]) == 1


async def test_a_job_goes_to_the_node_that_can_do_it(town: Town) -> None:
    """The one that asks for less cannot."""
    cheap = await town.node(capabilities=("chat",))
    able = await town.node(capabilities=("chat", "tools"))
    assert (await town.chat(tools=[FUNCTION])).status_code == 200
    assert (len(cheap.offers), len(able.offers)) == (0, 1)


def test_every_capability_has_a_parameter_that_asks_for_it() -> None:
    assert set(ParameterNames().needs) == set(get_args(Capability))
