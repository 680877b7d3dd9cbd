"""docs/developers/verify/answer.ts reads in every answer what ours reads, and refuses what that refuses."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.docs.answer_texts import READ, REFUSED
from tests.docs.typescript import compiled, read_all, run_node
from tests.shared.evidence import REQUEST
from tests.shared.test_bundle import GENUINE

from pinaivu_host.gateway.answer import Answer, replayed
from pinaivu_host.gateway.chat_answer import ChatShape
from pinaivu_host.gateway.completion import CompletionShape
from pinaivu_host.gateway.embeddings import EmbeddingsShape
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.responses.stream import ResponsesWriter
from pinaivu_host.gateway.stream import KEEP_ALIVE
from pinaivu_shared.answers import embeddings_content, packed_vector
from pinaivu_shared.cli import _read_answer, verify
from pinaivu_shared.commitments import canonical_choices
from pinaivu_shared.errors import UnreadableError
from pinaivu_shared.ids import make_request_id
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.wire.node import Delta, ToolCallDelta

ID = make_request_id(1, bytes(10))
ENVELOPE = Envelope(ID, 1, "m", service_tier=False)
RECEIPT = msgspec.convert(GENUINE.bundle["receipt"], Receipt)
LOGPROBS = msgspec.Raw(
    msgspec.msgpack.encode({"content": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}]})
)
SAID = (Delta(ID, content="Hi \u2028"), Delta(ID, content="世界 🙂\r\n", logprobs=LOGPROBS))
CALLED_TWICE = (
    Delta(ID, tool_calls=(ToolCallDelta(0, "c", "f", '{"a":'), ToolCallDelta(0, arguments="1}"))),
    Delta(ID, tool_calls=(ToolCallDelta(1, "d", "g"),)),
)
SECOND = (Delta(ID, index=1, content="two"), Delta(ID, index=1, content="!"))
DELTAS = {
    "nothing": (),
    "text": SAID,
    "calls": CALLED_TWICE,
    "text and calls": SAID + CALLED_TWICE,
    "calls and text": CALLED_TWICE + SAID,
}
REASONS = ("stop", "length", "tool_calls", "content_filter")
VECTORS = [[1.0, -2.5, 1 / 3], [0.0, 1e-45, 3.4028234e38]]


def ended(deltas: tuple[Delta, ...], reason: str, *, choices: int = 1) -> tuple[Delta, ...]:
    return (*deltas, *(Delta(ID, index=index, finish_reason=reason) for index in range(choices)))  # type: ignore[arg-type]  # one of four


def streamed(writer: Any, deltas: tuple[Delta, ...], *, choices: int = 1) -> str:
    pieces = KEEP_ALIVE.join(map(writer.delta, deltas))
    written: bytes = writer.begin() + pieces + writer.finish(replayed(deltas, choices=choices), RECEIPT)
    return written.decode()


def whole(answer: object) -> str:
    return msgspec.json.encode(answer).decode()


def responses_writer() -> ResponsesWriter:
    return ResponsesWriter(ENVELOPE, {}, with_logprobs=True)


def written() -> Iterator[tuple[str, str]]:
    """What the gateway answers, at every endpoint, whole and streamed."""
    chat = ChatShape(choices=2, with_usage=True, with_logprobs=True)
    completion = CompletionShape(2, with_usage=True)
    for reason in REASONS:
        for name, deltas in DELTAS.items():
            one, two = ended(deltas, reason), ended(deltas + SECOND, reason, choices=2)
            answer = replayed(two, choices=2)
            yield f"chat: {name}, {reason}", whole(chat.whole(ENVELOPE, answer, RECEIPT))
            yield f"chat, streamed: {name}, {reason}", streamed(chat.writer(ENVELOPE), two, choices=2)
            answered = responses_writer().response_of(replayed(one, choices=1), RECEIPT)
            yield f"response: {name}, {reason}", whole(answered)
            yield f"response, streamed: {name}, {reason}", streamed(responses_writer(), one)
        texts = ended(SAID + SECOND, reason, choices=2)
        answer = replayed(texts, choices=2)
        yield f"text: {reason}", whole(completion.whole(ENVELOPE, answer, RECEIPT))
        yield f"text, streamed: {reason}", streamed(completion.writer(ENVELOPE), texts, choices=2)
    vectors = Answer()
    vectors.add(Delta(ID, content=embeddings_content([packed_vector(vector) for vector in VECTORS])))
    for as_base64 in (True, False):
        yield f"vectors: {as_base64}", whole(EmbeddingsShape(2, as_base64=as_base64).whole(ENVELOPE, vectors, RECEIPT))


WRITTEN = dict(written())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("typescript"))


def essential(choices: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    return None if choices is None else canonical_choices(choices)


def python_choices(text: str, folder: Path) -> list[dict[str, Any]] | None:
    """What `pinaivu verify --response` reads."""
    (folder / "answer").write_bytes(text.encode())
    try:
        return _read_answer(str(folder / "answer"))[1]
    except UnreadableError:
        return None


def compare(built: Path, folder: Path, answers: dict[str, str]) -> dict[str, list[dict[str, Any]] | None]:
    """Read each answer with both; the choices of ours, once those of the other are the same."""
    read = read_all(built, list(answers.values()), folder)
    found = {name: essential(choices) for name, choices in zip(answers, read, strict=True)}
    expected = {name: essential(python_choices(text, folder)) for name, text in answers.items()}
    different = [name for name in answers if found[name] != expected[name]]
    assert [(name, answers[name], found[name], expected[name]) for name in different[:3]] == []
    return expected


def test_every_answer_of_the_gateway_is_read_alike(built: Path, tmp_path: Path) -> None:
    expected = compare(built, tmp_path, WRITTEN)
    assert len(expected) > 80
    assert None not in expected.values()


REPLACEMENTS: list[Any] = [None, 7, 0.5, 0.0, 0, True, False, "x", "stop", "response", "chat.completion", [7], {"a": 7}]
TYPES = ["x", "message", "output_text", "function_call", "response.output_text.done", "response.completed"]
TYPES += ["response.output_item.delta", "response.function_call_arguments.added"]  # there are none
"""Types are exchanged for texts only."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a JSON value."""
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in named:
        yield (*path, name)
        yield from places(inner, (*path, name))


def mutated_json(value: Any, chance: random.Random) -> Any:
    """A copy in which one field or element is replaced, left out, or stands twice."""
    changed = copy.deepcopy(value)
    found = list(places(changed))
    if not found:
        return chance.choice(REPLACEMENTS)
    *way, last = chance.choice(found)
    holder = changed
    for name in way:
        holder = holder[name]
    match chance.randrange(3):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, list):
            holder.insert(last, copy.deepcopy(holder[last]))
        case _:
            holder[last] = chance.choice(TYPES if last == "type" else REPLACEMENTS)
    return changed


def mutated_text(text: str, chance: random.Random) -> str:
    """A text in which a piece is cut out, stands twice or moves, or has something put into it."""
    first, last = sorted(chance.randrange(len(text) + 1) for _ in range(2))
    last = min(last, first + chance.choice((1, 3, 1000)))
    piece = text[first:last]
    put = chance.choice(
        ["", piece + piece, "\r", "\n", "\r\n", " ", "\u2028", "data: [DONE]\n\n", ": x\n", "data:\n", '"']
    )
    return text[:first] + put + (piece if len(put) < 3 else "") + text[last:]


def mutated_events(text: str, chance: random.Random) -> str:
    """A stream in which an event is changed, is left out, stands twice, or changes places with another."""
    lines = text.split("\n\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    named, separator, event = lines[first].rpartition("data: ")
    match chance.randrange(6):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case _ if event.startswith("{"):
            lines[first] = named + separator + json.dumps(mutated_json(json.loads(event), chance), ensure_ascii=False)
    return "\n\n".join(lines)


def mutated(text: str, chance: random.Random) -> str:
    kinds: list[Callable[[str, random.Random], str]] = [mutated_text, mutated_events, mutated_events]
    if text.startswith("{"):
        kinds[1:] = [lambda text, chance: json.dumps(mutated_json(json.loads(text), chance))] * 2
    return chance.choice(kinds)(text, chance)


def test_thousands_of_changed_answers_are_read_or_refused_alike(built: Path, tmp_path: Path) -> None:
    chance = random.Random(9)
    changed = {f"{name}, {turn}": mutated(text, chance) for turn in range(40) for name, text in WRITTEN.items()}
    expected = compare(built, tmp_path, changed)
    originals = compare(built, tmp_path, WRITTEN)
    refused = [name for name, choices in expected.items() if choices is None]
    others = [name for name, choices in expected.items() if choices not in (None, originals[name.rpartition(", ")[0]])]
    assert len(refused) > 1000
    assert len(others) > 300, "choices that are read, and are other ones"
    assert len(expected) - len(refused) - len(others) > 500


def test_whatever_a_service_may_write_is_read_alike(built: Path, tmp_path: Path) -> None:
    assert [name for name, choices in compare(built, tmp_path, READ).items() if choices is None] == []


def test_what_is_broken_is_refused_by_both(built: Path, tmp_path: Path) -> None:
    assert [name for name, choices in compare(built, tmp_path, REFUSED).items() if choices is not None] == []


def test_the_program_opens_a_streamed_answer_and_exits_as_ours_does(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hello = streamed(
        ChatShape().writer(ENVELOPE), ended((Delta(ID, content="Hello, "), Delta(ID, content="世界.")), "stop")
    )
    answers = {"whole": hello, "another": hello.replace("Hello", "Hallo"), "longer": hello + hello}
    for name, content in {"bundle": GENUINE.bundle, "trust": GENUINE.trust, "request": REQUEST}.items():
        (tmp_path / name).write_text(json.dumps(content))

    def judged(name: str) -> tuple[int, dict[str, Any]]:
        (tmp_path / name).write_bytes(answers[name].encode())
        program = run_node(["node", built / "verify.js", "bundle", "trust", "request", name], tmp_path)
        flags = {"trust": "trust", "request": "request", "response": name}
        ours = verify(
            ["--json", str(tmp_path / "bundle"), *(f"--{flag}={tmp_path / file}" for flag, file in flags.items())]
        )
        said = json.loads(capsys.readouterr().out)
        found: dict[str, Any] = json.loads(program.stdout)
        assert (program.returncode, found.get("check"), found.get("error")) == (
            ours,
            said.get("check"),
            said.get("error"),
        )
        return program.returncode, found

    assert judged("whole")[1]["opened_commitments"] == ["request", "forwarded", "response"]
    assert judged("another")[1]["check"] == "response commitment"
    assert judged("longer") == (2, {"error": "unreadable", "detail": "answer: data follows the closing [DONE]"})
