"""Texts of answers and streams, sound and broken, that readers of answers must judge alike."""

import json
from typing import Any

from tests.shared.test_answers import CALLED, CHAT, REASONING, TEXT, choice, chunk, embeddings, response, spoken
from tests.shared.test_streams_told import CALL, END, PIECES, arguments_delta, item, text_delta


def events(*told: object, done: bool = True) -> str:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in told) + ("data: [DONE]\n\n" if done else "")


def asked_for_calls(*calls: dict[str, Any]) -> str:
    return events(chunk(0, delta={"tool_calls": list(calls)}))


HI = chunk(0, delta={"content": "Hi"})
READ = {
    "only choices": json.dumps({"choices": CHAT["choices"]}),
    "no choices": json.dumps({"choices": []}),
    "choices in another order": json.dumps({"choices": [choice("two", index=1), choice("one")]}),
    "content in parts": json.dumps({"choices": [{"index": 0, "message": {"content": [{"text": "Hi"}]}}]}),
    "what is empty": json.dumps({"choices": [{"index": 0, "message": {"content": [], "tool_calls": {}}}]}),
    "an integer that is no double": json.dumps({**CHAT, "created": 10**400}),
    "parts and reasoning": json.dumps(response(REASONING, spoken("H", "i"), CALLED)),
    "a call that was forced": json.dumps({**response(CALLED), "finish_reason": "stop"}),
    "vectors in another order": json.dumps({**embeddings(), "data": embeddings("AAAAAA==", [1, -2.5])["data"][::-1]}),
    "a vector of nothing": json.dumps(embeddings([])),
    "a number that float32 has not": json.dumps(embeddings([0.1, 16777217, 1e-46])),
    "what ends in CR LF": events(HI, chunk(0, delta={}, finish_reason="stop")).replace("\n", "\r\n"),
    "a comment first": ": keep-alive\n\n" + events(HI),
    "blank lines first": "\r\n\n" + events(HI),
    "data without a blank": events(HI).replace("data: ", "data:"),
    "data of nothing after the end": events(HI) + "data:\n\ndata: \n\n: bye\n",
    "a CR at the very end": events(HI) + "\r",
    "another field": events(HI).replace("\n\n", "\nid: 7\nretry: 1\n\n", 1),
    "chunks that were cut short": events(HI, done=False),
    "an error at the end": events(HI, {"error": {"message": "node_failed"}}, done=False),
    "a delta that is null": events(HI, chunk(0, delta=None)),
    "an index with a fraction of zero": json.dumps({"choices": [{**choice("Hi"), "index": 0.0}]}),
    "kinds that there are not": events({"type": "response.output_item.delta", "delta": 7}, *PIECES, END),
    "all pieces of a response": events(*PIECES, END),
    "a response without pieces": events(END),
    "pieces without their places": events({"type": "response.output_text.delta", "delta": "Hi"},
                                          {"type": "response.completed", "response": response(spoken("Hi"))}),
    "pieces of several parts": events(text_delta("H"), {**text_delta("i"), "content_index": 1},
                                      {"type": "response.completed", "response": response(spoken("H", "i"))}),
}  # fmt: skip
REFUSED = {
    "nothing": "",
    "blanks": "\n",
    "no JSON": "{",
    "a list": json.dumps([choice("Hi")]),
    "an error": json.dumps({"error": {"message": "no"}}),
    "another object": json.dumps({**CHAT, "object": "file"}),
    "an object that is null": json.dumps({**CHAT, "object": None}),
    "a byte order mark": "\ufeff" + json.dumps(CHAT),
    "a byte order mark before a stream": "\ufeff" + events(HI, HI),
    "a stream that begins with another field": "id: 7\n" + events(HI),
    "a name that stands twice": json.dumps(CHAT).replace('"index": 0', '"index": 1, "index": 0'),
    "a name that stands twice, spelled otherwise": json.dumps(CHAT).replace(
        '"index": 0', r'"index": 0, "\u0069ndex": 0'
    ),
    "half a surrogate pair": json.dumps({"choices": [choice("\ud83d")]}),
    "half a surrogate pair elsewhere": json.dumps({**CHAT, "model": "\ud83d"}),
    "a number beyond doubles": json.dumps({**CHAT, "created": 7}).replace("7", "1e400"),
    "no number": json.dumps({**CHAT, "created": float("nan")}),
    "an index in text": json.dumps({"choices": [{**choice("Hi"), "index": "0"}]}),
    "an index that is true": json.dumps({"choices": [{**choice("Hi"), "index": True}]}),
    "an index between": json.dumps({"choices": [{**choice("Hi"), "index": 0.5}]}),
    "no index": json.dumps({"choices": [{"message": {}}]}),
    "a message in text": json.dumps({"choices": [{"index": 0, "message": "Hi"}]}),
    "a text that is null": json.dumps({**TEXT, "choices": [{"index": 0, "text": None}]}),
    "a vector that is left out": json.dumps({"object": "list", "data": [{"index": 1, "embedding": "AAAAAA=="}]}),
    "two vectors of one index": json.dumps({"object": "list", "data": [{"index": 0, "embedding": "AAAAAA=="}] * 2}),
    "vectors beyond float32": json.dumps(embeddings([3.5e38])),
    "vectors beyond doubles": json.dumps(embeddings([10**400])),
    "vectors of text": json.dumps(embeddings(["x"])),  # type: ignore[list-item]
    "models": json.dumps({"object": "list", "data": [{"id": "pinaivu-tiny", "object": "model"}]}),
    "a response that failed": json.dumps({**response(), "status": "failed"}),
    "a response that is bored": json.dumps(response(incomplete="boredom")),
    "a response that is incomplete by inheritance": json.dumps(response(incomplete="constructor")),
    "a response that ended by length, and did not": json.dumps({**response(), "finish_reason": "length"}),
    "a call without arguments": json.dumps(response({"type": "function_call", "call_id": "c", "name": "f"})),
    "data after the end": events(HI) + events(HI),
    "[DONE] twice": events(HI) + "data: [DONE]\n\n",
    "a lone CR in a comment": ': x\rdata: {"b": 2}\n\n' + events(HI),
    "two CR": events(HI).replace("\n", "\r\r\n"),
    "a line that begins with a byte order mark": events(HI) + "\ufeff" + events(HI),
    "a line that is no field": events(HI) + "dada: {}\n\n",
    "a field without a colon": events(HI) + "data\n\n",
    "an event of another name": "event: thread.x\n" + events(HI),
    "an event of no data's name": events(HI, done=False) + "event: x\n" + events(END),
    "an end within an event": events(HI, done=False).removesuffix("\n"),
    "data twice in an event": events(HI).replace("\n\n", "\n", 1),
    "chunks in the end of a response": events({**END, "choices": HI["choices"]}),
    "texts in another order": events(
        text_delta("B is not. ", output_index=1),
        text_delta("A is safe. "),
        {"type": "response.completed", "response": response(spoken("A is safe. "), spoken("B is not. "))},
    ),
    "a call named twice": asked_for_calls(
        {"index": 0, "function": {"name": "f"}}, {"index": 0, "function": {"name": "g"}}
    ),
    "a call of two ids": asked_for_calls(
        {"index": 0, "id": "a", "function": {"name": "f"}}, {"index": 0, "id": "b", "function": {}}
    ),
    "a call without a name": asked_for_calls({"index": 0, "id": "c"}),
    "a call of another type": asked_for_calls({"index": 0, "type": "custom", "function": {"name": "f"}}),
    "a call that is custom as well": asked_for_calls(
        {"index": 0, "function": {"name": "f"}}, {"index": 0, "custom": {"name": "rm", "input": "-rf"}}
    ),
    "a chunk over two lines": events(HI).replace('"choices"', '\ndata: "choices"'),
    "a list as an event": events(HI, [7]),
    "only [DONE]": events(),
    "only an error": events({"error": {"message": "no"}}),
    "choices that are null": events({"choices": None}),
    "a chunk without an index": events({"choices": [{"delta": {}}]}),
    "a chunk whose index is text": events(chunk("0", delta={"content": "Hi"})),  # type: ignore[arg-type]
    "content that is a number": events(chunk(0, delta={"content": 7})),
    "chunks of two kinds": events(HI, chunk(0, text="Hi")),
    "a chunk of two kinds": events({"choices": [{"index": 0, "delta": {}, "text": "Hi"}]}),
    "a call that begins at 1": asked_for_calls({"index": 1}),
    "a call that leaves one out": asked_for_calls({"index": 0}, {"index": 2}),
    "a call without an index": asked_for_calls({"id": "c"}),
    "pieces without an end": events(*PIECES),
    "an end that failed": events({"type": "response.failed", "response": response()}),
    "an end without a response": events({"type": "response.completed"}),
    "one piece too many": events(*PIECES, text_delta("!"), END),
    "one piece too few": events(*PIECES[:3], *PIECES[4:], END),
    "only some texts": events(text_delta("Hi you"), END),
    "text at the place of a call": events(*PIECES, text_delta("", output_index=1), END),
    "text that passes for arguments": events(
        *PIECES[:5], {**text_delta(CALL["arguments"], output_index=1), "content_index": "arguments"}, END
    ),
    "text of an item that is not there": events(*PIECES, text_delta("more", output_index=2), END),
    "text at an index in text": events(*PIECES[:2], {**text_delta("Hi "), "output_index": "0"}, *PIECES[3:], END),
    "more arguments": events(*PIECES, arguments_delta(" "), END),
    "another text when done": events(*PIECES, {**PIECES[7], "text": "Hi"}, END),
    "no text when done": events({**PIECES[7], "text": None}, END),
    "a text that is missing when done": events({"type": PIECES[7]["type"], "output_index": 7}, END),
    "other arguments when done": events(*PIECES, {**PIECES[9], "arguments": "{}"}, END),
    "another call": events(*PIECES, item("added", 1, {**CALL, "name": "steal"}), END),
    "a call that is another one when done": events(*PIECES, item("done", 1, {**CALL, "arguments": "{}"}), END),
    "a call that is not there": events(*PIECES, item("added", 2, CALL), END),
    "chunks in a response": events(*PIECES, HI, END),
    "an end and more": events(*PIECES, END, text_delta("!")),
    "two ends": events(*PIECES, END, END),
    "a name that stands twice in a chunk": events(HI).replace('"index": 0', '"index": 1, "index": 0'),
    "half a surrogate pair in a chunk": events(chunk(0, delta={"content": "\ud83d"})),
    "a kind that is 0": events({**HI, "type": 0}),
    "a kind before the end that is 5": events({"type": 5}, *PIECES, END),
    "a vector with a truth value": json.dumps({"object": "list", "data": [{"index": 0, "embedding": [True]}]}),
    "a kind that is a list": events({"type": ["response.completed"]}, HI),
    "a chunk whose index is null": events(chunk(None, delta={"content": "Hi"})),  # type: ignore[arg-type]
    "an item at -1": events(*PIECES, {**item("added", 1, CALL), "output_index": -1}, END),
    "two kinds": json.dumps({**CHAT, "output": [spoken("Hi all")]}),
    "a message and a text": json.dumps({"choices": [{**choice("Hi"), "text": "Hi all"}]}),
    "an end that is a chat": events(
        text_delta("Hi all"), {"type": "response.completed", "response": {**CHAT, "output": [spoken("Hi all")]}}
    ),
    "chunks among pieces without an end": events(text_delta("Hi all"), HI),
    "text at no place of an item": events(
        {**text_delta(CALL["arguments"]), "content_index": None},
        {"type": "response.completed", "response": response(CALLED | {"arguments": CALL["arguments"]})},
    ),
    "a call at -1": asked_for_calls({"index": 0, "id": "c"}, {"index": -1, "id": "d"}),
    "an object for a list": json.dumps({"choices": {}}),
    "a list for an object": json.dumps({"choices": [{"index": 0, "message": []}]}),
    "a vector whose index is false": json.dumps(
        {"object": "list", "data": [{"index": False, "embedding": "AAAAAA=="}]}
    ),
    "no number in a chunk": events(HI, {"created": float("nan")}),
}
"""What a caller could take for something else than its commitment opens, or what no service writes, among them."""
