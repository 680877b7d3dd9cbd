"""The echo engine's answers in OpenAI's shapes: events of a stream, or one object."""

import json
from typing import Any, Final

from pinaivu_node.engines.echo_answer import EchoAnswer
from pinaivu_node.engines.echo_http import encode_json

MODEL: Final = "echo"
DONE: Final = b"data: [DONE]\n\n"
FAILED: Final = (
    b'data: {"error":{"message":"echo was told to fail","type":"server_error","param":null,"code":500}}\n\n' + DONE
)
_CALL_ID: Final = "call_echo"


class Dialect:
    """How chats and completions spell their answers."""

    def __init__(self, *, chat: bool) -> None:
        kind, self._id = ("chat.completion", "chatcmpl-echo") if chat else ("text_completion", "cmpl-echo")
        self._chat, self._object = chat, kind
        chunk = f"{kind}.chunk" if chat else kind
        self._head = f'data: {{"id":"{self._id}","object":"{chunk}","created":0,"model":"{MODEL}","choices":['.encode()
        self._before, self._after = (b',"delta":{"content":', b"}") if chat else (b',"text":', b"")

    def beginning(self, answer: EchoAnswer) -> bytes:
        """The events before the first piece: the roles, and the usage so far."""
        usage = b',"usage":' + encode_json(answer.first_usage) if answer.first_usage else b""
        if not self._chat:
            return self._head + b"]" + usage + b"}\n\n" if usage else b""
        return b"".join(
            self._head + b'{"index":%d,"delta":{"role":"assistant","content":""},"finish_reason":null}]' % index
            + (usage if index == 0 else b"") + b"}\n\n"
            for index in range(len(answer.choices))
        )  # fmt: skip

    def pieces(self, answer: EchoAnswer, last: int | None) -> list[bytes]:
        """One event for each of the first `last` pieces, the choices taking turns."""
        if answer.call:
            return [self._called(answer, index) for index in range(len(answer.choices))]
        length = max(map(len, answer.choices))
        return [
            self._event(index, encode_json(choice[place]), _logprobs(choice[place], answer.top_logprobs))
            for place in range(length if last is None else min(last, length))
            for index, choice in enumerate(answer.choices)
        ]

    def cut_pieces(self, answer: EchoAnswer) -> list[bytes]:
        """Events cut inside characters: each holds half the bytes of a piece, which is not JSON by the letter."""
        events = []
        for index, choice in enumerate(answer.choices):
            for piece in choice:
                raw = json.dumps(piece, ensure_ascii=False).encode()[1:-1]
                places = [place for place in range(1, len(raw)) if raw[place] & 0xC0 == 0x80]
                cut = places[0] if places else len(raw)
                events += [self._event(index, b'"' + half + b'"', b"null") for half in (raw[:cut], raw[cut:]) if half]
        return events

    def ending(self, answer: EchoAnswer) -> bytes:
        """The events after the last piece."""
        empty, reason = b',"delta":{}' if self._chat else b',"text":""', answer.finish_reason.encode()
        finishes = b"".join(
            self._head + b'{"index":%d%b,"logprobs":null,"finish_reason":"%b"}]}\n\n' % (index, empty, reason)
            for index in range(len(answer.choices))
        )
        usage = self._head + b'],"usage":' + encode_json(answer.usage) + b"}\n\n" if answer.usage else b""
        return finishes + usage + DONE

    def whole(self, answer: EchoAnswer) -> dict[str, Any]:
        """The answer of a request without a stream."""
        choices = [self._choice(answer, index) for index in range(len(answer.choices))]
        found = {"id": self._id, "object": self._object, "created": 0, "model": MODEL, "choices": choices}
        return found | ({"usage": answer.usage} if answer.usage else {})

    def _choice(self, answer: EchoAnswer, index: int) -> dict[str, Any]:
        text, ended = "".join(answer.choices[index]), {"logprobs": None, "finish_reason": answer.finish_reason}
        if not self._chat:
            return {"index": index, "text": text, **ended}
        called = {"tool_calls": [_call(answer, index)]} if answer.call else {}
        message = {"role": "assistant", "content": None if called else text, "refusal": None, **called}
        if answer.top_logprobs is not None:
            tokens = [_token(piece, answer.top_logprobs) for piece in answer.choices[index]]
            ended["logprobs"] = {"content": tokens, "refusal": None}  # type: ignore[assignment] # any JSON value
        return {"index": index, "message": message, **ended}

    def _event(self, index: int, content: bytes, logprobs: bytes) -> bytes:
        return b'%b{"index":%d%b%b%b,"logprobs":%b,"finish_reason":null}]}\n\n' % (
            self._head, index, self._before, content, self._after, logprobs,
        )  # fmt: skip

    def _called(self, answer: EchoAnswer, index: int) -> bytes:
        call = encode_json([{"index": 0, **_call(answer, index)}])
        return self._head + b'{"index":%d,"delta":{"tool_calls":%b},"finish_reason":null}]}\n\n' % (index, call)


CHAT: Final = Dialect(chat=True)
COMPLETION: Final = Dialect(chat=False)


def _call(answer: EchoAnswer, index: int) -> dict[str, Any]:
    function = {"name": answer.call, "arguments": answer.arguments}
    return {"id": f"{_CALL_ID}_{index}", "type": "function", "function": function}


def _logprobs(piece: str, top: int | None) -> bytes:
    return b"null" if top is None else encode_json({"content": [_token(piece, top)]})


def _token(piece: str, top: int) -> dict[str, Any]:
    """The piece is certain, its alternatives are the less likely the later they come."""
    alternatives = [(piece, 0.0), *((f"other{rank} ", -10.0 * rank) for rank in range(1, top))][:top]
    told = [_logprob(text, logprob) for text, logprob in alternatives]
    return {**_logprob(piece, 0.0), "top_logprobs": told}


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
