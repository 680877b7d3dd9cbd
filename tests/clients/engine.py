"""The engine behind the network of these tests: one address, and models that differ in name and behaviour.

| model | answers with |
|---|---|
| `echo`, `llama3.2:3b`, `pinaivu/echo:1`, `text-embedding-3-small` | the last user message, or the prompt |
| `slow` | a hundred thousand words, one each 20 ms |
| `breaks` | an error after three words |
| `caller` | a call of the first tool with the last user message as arguments, and then what the tool returned |
| `structured` | the last user message where a JSON schema is asked for, and a refusal where none is |

All but the last two are the node's echo engine, which counts what it says, and makes embeddings as well.
"""

import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pinaivu_node.engines.echo import Echo
from pinaivu_node.engines.echo_settings import EchoSettings, Fault

SLOW: Final = EchoSettings(tokens=100_000, token_interval_ms=20)
BREAKS: Final = EchoSettings(tokens=10, fault=Fault("error_after_tokens", 3))
NAMES: Final = ("echo", "llama3.2:3b", "pinaivu/echo:1", "text-embedding-3-small")


class Models:
    """Lists its models, and hands a request to the engine of the model it names."""

    def __init__(self, engines: dict[str, ASGIApp]) -> None:
        self._engines = engines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/models":
            await JSONResponse({"object": "list", "data": [_entry(name) for name in self._engines]})(
                scope, receive, send
            )
            return
        if scope["method"] != "POST":
            await JSONResponse({}, 404)(scope, receive, send)
            return
        raw = await Request(scope, receive).body()
        first: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive_again() -> Message:
            return first.pop() if first else await receive()

        await self._engines[json.loads(raw)["model"]](scope, receive_again, send)


async def answer(request: Request) -> StreamingResponse:
    """One streamed answer of the models `caller` and `structured`."""
    body = await request.json()
    last = body["messages"][-1]
    if body.get("tools") and last["role"] == "user":
        deltas, reason = _call(body["tools"][0]["function"]["name"], _text(last["content"])), "tool_calls"
    elif body["model"] == "structured" and body.get("response_format", {}).get("type") != "json_schema":
        deltas, reason = [{"content": "no schema was asked for"}], "stop"
    else:
        deltas, reason = [{"content": _text(last["content"])}], "stop"
    return StreamingResponse(_events(deltas, reason, body.get("n") or 1), media_type="text/event-stream")


def _call(name: str, arguments: str) -> list[dict[str, Any]]:
    half = len(arguments) // 2
    begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": part}} for part in (arguments[:half], arguments[half:])]
    return [{"tool_calls": [piece]} for piece in (begun, *rest)]


async def _events(deltas: Sequence[dict[str, Any]], reason: str, choices: int) -> AsyncIterator[str]:
    """The same answer so many times."""
    for index in range(choices):
        for delta in ({"role": "assistant", "content": ""}, *deltas):
            yield _event([{"index": index, "delta": delta, "finish_reason": None}])
        yield _event([{"index": index, "delta": {}, "finish_reason": reason}])
    tokens = len(deltas) * choices
    yield _event([], usage={"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": 4 + tokens})
    yield "data: [DONE]\n\n"


def _event(choices: list[dict[str, Any]], **more: object) -> str:
    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "caller"}
    return f"data: {json.dumps({**envelope, 'choices': choices, **more})}\n\n"


def _text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _entry(name: str) -> dict[str, object]:
    """As the echo engine says it, which the node takes to be capable of all a chat can need."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "pinaivu", "max_model_len": 131_072}


@contextmanager
def running_engine() -> Iterator[str]:
    """The engine's URL while it runs, in a thread of this process."""
    scripted = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    echo = Echo(EchoSettings())
    engines: dict[str, ASGIApp] = dict.fromkeys(NAMES, echo)
    engines |= {"slow": Echo(SLOW), "breaks": Echo(BREAKS), "caller": scripted, "structured": scripted}
    config = uvicorn.Config(
        Models(engines), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
