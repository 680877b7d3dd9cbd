"""The adapter: what each engine's peculiarities become, and what never gets through."""

from typing import Any

import pytest
import trio

from pinaivu_node.engines.events import EngineError, Event, Finish, Text, Usage
from pinaivu_node.engines.openai import OpenAIEngine
from pinaivu_node.engines.request import engine_request
from pinaivu_node.engines.sse import MAX_EVENT_BYTES

from .scripted import ScriptedEngine, chunk, event, head, refused, serving, streamed, usage

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
STOP = chunk(finish="stop")


async def ask(*script: bytes, limit: int = 100, **fields: Any) -> tuple[list[Event], Usage]:
    async with (
        serving(script) as scripted,
        OpenAIEngine(scripted.address, api_key="", connections=1) as engine,
        engine.answer(
            engine_request({**HELLO, **fields}, model="m", limit=limit, extras={}, capabilities=("chat", "logprobs"))
        ) as answer,
    ):
        events = [one async for batch in answer for one in batch]
        return events, answer.usage


async def failure(*script: bytes, **fields: Any) -> EngineError:
    with pytest.RaisesGroup(EngineError, flatten_subgroups=True, allow_unwrapped=True) as caught:
        await ask(*script, **fields)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, EngineError)
    return error


LLAMA = [chunk(delta={"role": "assistant", "content": None}), chunk("Hel"), chunk("lo"), STOP, usage(9, 2)]
VLLM = [chunk("", delta={"role": "assistant"}), chunk("Hel"), chunk("lo", "stop"), usage(9, 2)]
OLLAMA = [chunk("Hel", delta={"role": "assistant"}), chunk("lo"), chunk("", "stop"), usage(9, 2)]
CONTINUOUS = [
    chunk("Hel", usage={"prompt_tokens": 9, "completion_tokens": 1}),
    chunk("lo", "stop", usage={"prompt_tokens": 9, "completion_tokens": 2}),
]


@pytest.mark.trio
@pytest.mark.parametrize("events", [LLAMA, VLLM, OLLAMA, CONTINUOUS], ids=["llama", "vllm", "ollama", "continuous"])
async def test_every_engine_gives_the_same_answer(events: list[Any]) -> None:
    assert await ask(*streamed(*events)) == ([Text("Hello"), Finish("stop")], Usage(9, 2))


@pytest.mark.trio
async def test_comments_crlf_and_missing_spaces_are_read_like_everything_else() -> None:
    raw = b': ping\n\nevent: x\ndata:{"choices":[{"delta":{"content":"a"},\ndata: "finish_reason":"stop"}]}\n\n'
    raw = raw.replace(b"\n", b"\r\n")
    assert (await ask(*streamed(raw)))[0] == [Text("a"), Finish("stop")]


@pytest.mark.trio
async def test_an_answer_may_come_in_single_bytes() -> None:
    whole = streamed(chunk("grün 🎉"), STOP)[0]
    events, _ = await ask(*(bytes([byte]) for byte in whole))
    assert events == [Text("grün 🎉"), Finish("stop")]


@pytest.mark.trio
@pytest.mark.parametrize(
    "halves",
    [
        (b'"gr\xc3"', b'"\xbcn"'),
        (b'"\\ud83c"', b'"\\udf89"'),
        (b'"a\xf0\x9f"', b'"\x8e"', b'"\x89b"'),
        (b'"\xff"', b'"x"'),
        (b'"\\ud83c"', b'"x"'),
    ],
)
async def test_characters_cut_between_chunks_arrive_whole_or_replaced(halves: tuple[bytes, ...]) -> None:
    raw = [b'data: {"choices":[{"delta":{"content":' + half + b"}}]}\n\n" for half in halves]
    parts = [streamed(done=False)[0], *raw, streamed(STOP)[0].partition(b"\r\n\r\n")[2]]
    events, _ = await ask(*parts)
    text = "".join(one.content for one in events if isinstance(one, Text))
    assert text in {"grün", "🎉", "a🎉b", "\ufffdx"}


@pytest.mark.trio
async def test_text_that_never_becomes_whole_is_replaced_at_the_end() -> None:
    raw = b'data: {"choices":[{"delta":{"content":"gr\xc3"},"finish_reason":"stop"}]}\n\n'
    assert (await ask(*streamed(raw)))[0] == [Text("gr"), Text("\ufffd"), Finish("stop")]


@pytest.mark.trio
async def test_reasoning_is_no_part_of_the_answer() -> None:
    thought = chunk(delta={"reasoning": "hm", "reasoning_content": "hm"})
    assert (await ask(*streamed(thought, chunk("a"), STOP)))[0] == [Text("a"), Finish("stop")]


@pytest.mark.trio
async def test_log_probabilities_come_as_asked_for() -> None:
    top = [{"id": 7, "token": token, "logprob": -1.0, "bytes": [97]} for token in "ab"]
    told = {"logprobs": {"content": [{"id": 7, "token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": top}]}}
    script = streamed(chunk("a", choice=told), STOP)
    assert (await ask(*script))[0][0] == Text("a")
    first = (await ask(*script, logprobs=True, top_logprobs=1))[0][0]
    assert isinstance(first, Text)
    kept = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}
    assert first.logprobs == {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [kept]}]}


@pytest.mark.trio
async def test_a_certain_token_is_not_more_than_certain() -> None:
    """Rounding gives some engines a little more than 0, which no gateway takes."""
    told = {"token": "a", "logprob": 1.2e-7, "bytes": [97]}
    script = streamed(chunk("a", choice={"logprobs": {"content": [{**told, "top_logprobs": [told]}]}}), STOP)
    first = (await ask(*script, logprobs=True, top_logprobs=1))[0][0]
    assert isinstance(first, Text)
    (shown,) = first.logprobs["content"]
    assert (shown["logprob"], shown["top_logprobs"][0]["logprob"]) == (0.0, 0.0)


@pytest.mark.trio
async def test_bytes_that_are_none_end_the_answer() -> None:
    told = {"logprobs": {"content": [{"token": "a", "logprob": -1.0, "bytes": [256]}]}}
    error = await failure(*streamed(chunk("a", choice=told), STOP), logprobs=True)
    assert error.detail.startswith("an event of another shape")


@pytest.mark.trio
async def test_reading_stops_at_the_limit_even_if_the_engine_goes_on() -> None:
    events, counted = await ask(*streamed(*(chunk(piece) for piece in "abcde"), STOP, usage(1, 5)), limit=3)
    assert events == [Text("abc"), Finish("length")]
    assert counted == Usage(0, 3)


@pytest.mark.trio
async def test_a_whole_answer_without_usage_counts_nothing() -> None:
    assert (await ask(*streamed(chunk("a"), STOP)))[1] == Usage(0, 0)


def flat(message: str) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


def nested(message: str, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


OVERFLOWS = {
    "ollama": nested("the input length exceeds the context length", type="invalid_request_error"),
    "vllm": nested("This model's maximum context length is 2048 tokens. However, you requested 6008", code=400),
    "llama": nested("request (6008 tokens) exceeds the available context size", type="exceed_context_size_error"),
    "sglang": flat("The input (6008 tokens) is longer than the model's context length (2048 tokens)."),
}


@pytest.mark.trio
@pytest.mark.parametrize("body", OVERFLOWS.values(), ids=OVERFLOWS)
async def test_an_overflow_of_the_context_is_the_callers_mistake_in_every_spelling(body: dict[str, Any]) -> None:
    error = await failure(*refused("400 Bad Request", body))
    assert error.reason == "context_length_exceeded"
    assert (await failure(*streamed(body))).reason == "context_length_exceeded"


REQUEST_AT_FAULT = ("unsupported_request", False)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("status", "body", "reason", "down"),
    [
        ("400 Bad Request", nested("temperature must be a number"), "unsupported_request", False),
        ("422 Unprocessable", flat("no"), "unsupported_request", False),
        ("500 Server Error", nested("image input is not supported", code=500), "unsupported_request", False),
        ("500 Server Error", nested("Failed to parse messages: type must be string, but is null"), *REQUEST_AT_FAULT),
        ("500 Server Error", nested("Failed to parse tools: Missing tool function: {}"), *REQUEST_AT_FAULT),
        ("500 Server Error", nested("boom after: Failed to parse tools: "), "engine_unavailable", False),
        ("413 Content Too Large", nested("too large"), *REQUEST_AT_FAULT),
        ("500 Server Error", nested("CUDA error"), "engine_unavailable", False),
        ("401 Unauthorized", nested("bad key"), "engine_unavailable", False),
        ("404 Not Found", nested("model not found"), "engine_unavailable", False),
        ("408 Timeout", nested("slow"), "engine_unavailable", False),
        ("429 Too Many", nested("queue full"), "engine_unavailable", False),
        ("302 Found", nested("elsewhere"), "engine_unavailable", False),
        ("503 Unavailable", nested("Loading model"), "engine_unavailable", True),
        ("200 OK", {"choices": []}, "engine_unavailable", False),
    ],
)
async def test_a_refusal_tells_whose_fault_it_is(
    status: str,
    body: dict[str, Any],
    reason: str,
    down: bool,  # noqa: FBT001 - a table
) -> None:
    error = await failure(*refused(status, body))
    assert (error.reason, error.down) == (reason, down)


BEGUN = head("200 OK", "text/event-stream") + b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
BROKEN = {
    "ends without finish_reason": [BEGUN],
    "ends with [DONE] only": [BEGUN + b"data: [DONE]\n\n"],
    "error event": [BEGUN + b'data: {"error":{"message":"boom","code":500}}\n\n'],
    "error as text": [BEGUN + b'data: {"error":"boom"}\n\n'],
    "cut body": [BEGUN.replace(b"connection: close", b"content-length: 9999")],
    "not JSON": [BEGUN + b"data: {nonsense}\n\n"],
    "another shape": [BEGUN + b'data: {"choices":7}\n\n'],
    "negative usage": [BEGUN + b'data: {"choices":[],"usage":{"prompt_tokens":-1}}\n\n'],
    "deep nesting": [BEGUN + b'data: {"error":' + b"[" * 100_000 + b"\n\n"],
    "a choice that was not asked for": [BEGUN + b'data: {"choices":[{"index":1,"delta":{"content":"b"}}]}\n\n'],
    "an aborted answer": [BEGUN + b'data: {"choices":[{"index":0,"finish_reason":"abort"}]}\n\n'],
    "too many tool calls": [BEGUN + event(chunk(delta={"tool_calls": [{"index": 129}]}))],
    "a huge line": [BEGUN, b"data: " + b"x" * (MAX_EVENT_BYTES + 1)],
    "a huge event of many lines": [BEGUN, (b"data: " + b"x" * 1000 + b"\n") * 2000],
    "nothing at all": [],
}


@pytest.mark.trio
@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_an_answer_that_is_not_whole_is_a_failure(script: list[bytes]) -> None:
    assert (await failure(*script)).reason == "engine_unavailable"


@pytest.mark.trio
async def test_a_refused_connection_means_that_the_engine_is_down() -> None:
    async with serving() as gone:
        address = gone.address
    async with OpenAIEngine(address, api_key="", connections=1) as engine:
        with pytest.raises(EngineError) as caught:
            async with engine.answer(
                engine_request(HELLO, model="m", limit=1, extras={}, capabilities=("chat", "logprobs"))
            ):
                pass
    assert caught.value.down


@pytest.mark.trio
@pytest.mark.parametrize(
    "script", [[BEGUN, ScriptedEngine.HOLD], [ScriptedEngine.HOLD]], ids=["in mid-stream", "early"]
)
async def test_leaving_closes_the_connection_to_the_engine(script: list[bytes]) -> None:
    async with (
        serving(script) as scripted,
        OpenAIEngine(scripted.address, api_key="", connections=1) as engine,
        trio.open_nursery() as nursery,
    ):
        begun = trio.Event()
        nursery.start_soon(_read, engine, begun)
        await (begun if script[0] == BEGUN else scripted.asked).wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await scripted.left.wait()


async def _read(engine: OpenAIEngine, begun: trio.Event) -> None:
    async with engine.answer(
        engine_request(HELLO, model="m", limit=9, extras={}, capabilities=("chat", "logprobs"))
    ) as answer:
        async for _ in answer:
            begun.set()


@pytest.mark.trio
async def test_the_engine_gets_the_body_and_its_key() -> None:
    async with (
        serving(streamed(STOP)) as scripted,
        OpenAIEngine(scripted.address, api_key="secret", connections=1) as engine,
    ):
        request = engine_request(HELLO, model="ours", limit=7, extras={}, capabilities={"chat"})
        async with engine.answer(request) as answer:
            _ = [batch async for batch in answer]
    assert scripted.requests == [request.body]
    assert "POST /v1/chat/completions" in scripted.heads[0]
    assert "authorization: Bearer secret" in scripted.heads[0]
