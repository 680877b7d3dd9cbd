"""Engines run for real: the embedded one answers, is cancelled, is killed and comes back."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from pinaivu_node.change import Change
from pinaivu_node.engines.access import EMBEDDED_MODEL, EngineSetup
from pinaivu_node.engines.child import running_child
from pinaivu_node.engines.choice import parse_engine
from pinaivu_node.engines.events import EngineError, Finish, Text
from pinaivu_node.engines.request import EngineRequest, engine_request, with_json_grammar
from pinaivu_node.engines.supervisor import EngineSupervisor, Offering

from .scripted import chunk, routing, streamed, told

EMBEDDED_CAPABILITIES = ("chat", "completions", "json_object", "json_schema", "logprobs", "multiple_choices")
"""Its template knows no tools; asked for embeddings, llama.cpp's server with this model would end itself."""


@asynccontextmanager
async def supervised(engine: str, slots: int = 2) -> AsyncIterator[EngineSupervisor]:
    supervisor = EngineSupervisor(EngineSetup(choice=parse_engine(engine), slots=slots), lambda: 0.0, Change())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        yield supervisor
        nursery.cancel_scope.cancel()


async def ready(supervisor: EngineSupervisor) -> Offering:
    while supervisor.offering is None:
        await supervisor.change.next().wait()
    return supervisor.offering


def question(offering: Offering, text: str, limit: int) -> EngineRequest:
    return asked(offering, {"messages": [{"role": "user", "content": text}], "temperature": 0}, limit)


def asked(offering: Offering, body: dict[str, Any], limit: int) -> EngineRequest:
    model = offering.models[0]
    request = engine_request(
        body, model=model.engine_name, limit=limit, extras=model.extras, capabilities=model.capabilities
    )
    return with_json_grammar(request, model.json_grammar)


@pytest.mark.trio
async def test_the_embedded_engine_answers_and_a_cancelled_answer_frees_its_slot() -> None:
    async with supervised("embedded") as supervisor:
        offering = await ready(supervisor)
        (model,) = offering.models
        assert (model.name, model.context_length) == (EMBEDDED_MODEL, 2048)
        assert model.capabilities == EMBEDDED_CAPABILITIES
        request = question(offering, "What is the capital of France?", 40)
        async with offering.engine.answer(request) as answer:
            events = [event async for batch in answer for event in batch]
        assert "Paris" in "".join(event.content for event in events if isinstance(event, Text))
        assert isinstance(events[-1], Finish)
        assert answer.usage.prompt_tokens > 0
        assert answer.usage.completion_tokens > 0
        async with offering.engine.answer(question(offering, "Tell me a story.", 2000)) as answer:
            await anext(answer)
        assert answer.usage.prompt_tokens > 0
        while await busy(offering):
            await trio.lowlevel.checkpoint()


@pytest.mark.trio
@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "Hello"}], "n": 2, "temperature": 1},
        {"prompt": "Once upon a time", "n": 2, "temperature": 1},
    ],
    ids=["chat", "completion"],
)
async def test_the_embedded_engine_gives_several_choices_and_counts_them_all(body: dict[str, Any]) -> None:
    async with supervised("embedded") as supervisor:
        offering = await ready(supervisor)
        async with offering.engine.answer(asked(offering, body, 8)) as answer:
            events = [event async for batch in answer for event in batch]
        assert events[-2:] == [Finish("length", 0), Finish("length", 1)]
        assert answer.usage.completion_tokens == 8


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
async def test_the_embedded_engine_keeps_to_a_wanted_format_and_claims_what_it_delivers(kind: str) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = {"type": kind, "json_schema": {"name": "answer", "schema": schema}}
    body = {"messages": [{"role": "user", "content": "Hello"}], "response_format": wanted, "logprobs": True}
    async with supervised("embedded") as supervisor:
        offering = await ready(supervisor)
        async with offering.engine.answer(asked(offering, body, 30)) as answer:
            texts = [one async for batch in answer for one in batch if isinstance(one, Text)]
        assert "".join(one.content for one in texts).startswith("{")
        assert any(one.logprobs for one in texts)
        assert answer.usage.completion_tokens <= sum(bool(one.content) for one in texts) + 1  # one ends the answer


@pytest.mark.trio
async def test_an_answer_by_a_schema_has_its_limit_for_itself() -> None:
    """llama.cpp lets this model begin with more blanks than it may have tokens."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    body = {"messages": messages, "response_format": wanted, "temperature": 0}
    async with supervised("embedded") as supervisor:
        offering = await ready(supervisor)
        async with offering.engine.answer(asked(offering, body, 4)) as answer:
            events = [event async for batch in answer for event in batch]
    assert "".join(one.content for one in events if isinstance(one, Text)).startswith("{")
    assert events[-1] == Finish("length")


@pytest.mark.trio
async def test_the_log_probabilities_of_a_json_object_are_those_of_its_text() -> None:
    body = {"response_format": {"type": "json_object"}, "logprobs": True, "temperature": 0}
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    async with supervised("embedded") as supervisor:
        offering = await ready(supervisor)
        async with offering.engine.answer(asked(offering, {**body, "messages": messages}, 20)) as answer:
            texts = [one async for batch in answer for one in batch if isinstance(one, Text)]
        content = "".join(one.content for one in texts)
        tokens = [token["token"] for one in texts if one.logprobs for token in one.logprobs["content"]]
        assert content.startswith("{")
        assert "".join(tokens) == content
        assert answer.usage.completion_tokens == len(tokens) + 1


async def busy(offering: Offering) -> bool:
    """Whether llama.cpp has a slot at work; its slot list is an array, so it is wrapped here."""
    async with offering.engine._asked("/slots", None) as response:
        return b'"is_processing":true' in await response.aread()


@pytest.mark.trio
async def test_an_embedded_engine_that_is_killed_is_started_again() -> None:
    async with supervised("embedded") as supervisor:
        first = await ready(supervisor)
        assert supervisor.process is not None
        os.kill(supervisor.process.pid, signal.SIGKILL)
        while supervisor.offering is first:
            await supervisor.change.next().wait()
        second = await ready(supervisor)
        async with second.engine.answer(question(second, "Hello", 5)) as answer:
            assert [batch async for batch in answer]


@pytest.mark.trio
async def test_an_engine_that_is_down_is_offered_again_after_a_probe() -> None:
    offered = {"/v1/models": told({"data": [{"id": "m"}]}), "/v1/chat/completions": streamed(chunk("x", "length"))}
    async with (
        routing(offered) as scripted,
        supervised(scripted.address) as supervisor,
    ):
        await ready(supervisor)
        supervisor.report(EngineError("engine_unavailable", "refused", down=False))
        assert supervisor.offering is not None
        supervisor.report(EngineError("engine_unavailable", "refused", down=True))
        assert supervisor.offering is None
        await ready(supervisor)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("arguments", "first_line"),
    [
        (["--model", "/nonexistent.gguf", "--alias", "x", "--slots", "1"], b"key\n"),
        (["--alias", "x"], b"key\n"),
    ],
    ids=["no such model", "wrong arguments"],
)
async def test_a_process_that_ends_before_it_serves_is_an_error(arguments: list[str], first_line: bytes) -> None:
    with pytest.raises(EngineError):
        async with running_child("pinaivu_node.engines.embedded_server", arguments, first_line=first_line):
            pass


@pytest.mark.trio
async def test_an_engine_process_ends_when_its_standard_input_does() -> None:
    async with running_child("pinaivu_node.engines.echo_server", ["--exit-with-stdin"]) as child:
        assert child.process.stdin is not None
        await child.process.stdin.aclose()
        assert await child.process.wait() == 0
