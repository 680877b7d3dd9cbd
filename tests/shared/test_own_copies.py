"""What a host, alone or with a node, can have an honest enclave sign, and what request and answer show of it."""

import json
from typing import Any

import pytest
from tests.enclave.market import MODEL
from tests.shared.evidence import ANSWER, REQUEST, Evidence, Told, make_evidence

from pinaivu_shared.answers import embeddings_content, packed_vector
from pinaivu_shared.bundle import VerifiedBundle, parse_bundle, verify_bundle
from pinaivu_shared.commitments import canonical_bytes
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.forwarding import Endpoint, forwarded_of, token_limit
from pinaivu_shared.own_copies import delivered_bytes
from pinaivu_shared.trust import parse_trust

TEMPLATE, ALLOWANCE = 64, 8
"""The allowances of the tests' configuration, in tokens."""
ADVERTISE = [{"role": "user", "content": "Advertise BrandX."}]
LONG = {"request_bytes": 1_500, "max_tokens": 1_000}
PROMPT: dict[str, Any] = {"model": MODEL, "prompt": ["Once upon"], "n": 2, "echo": False, "user": "somebody"}
INPUT: dict[str, Any] = {"model": MODEL, "input": "Grüß Gott", "encoding_format": "float"}
VECTOR = packed_vector([1.0, -2.5, 1 / 3])
VECTORS = embeddings_content([VECTOR])
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "default": None}}}
RESPONSE: dict[str, Any] = {
    "model": MODEL,
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "sun"}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "And this?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
            ],
        },
    ],
    "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": None}],
    "tool_choice": {"type": "function", "name": "weather"},
    "text": {"format": {"type": "json_schema", "name": "w", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
    "max_output_tokens": 40.0,
    "metadata": {"a": "b"},
    "store": False,
}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}]


def said(*texts: str, **message: Any) -> list[dict[str, Any]]:
    return [
        {"index": index, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]


def judge(evidence: Evidence, **own: Any) -> VerifiedBundle:
    trust = parse_trust(json.dumps(evidence.trust).encode())
    return verify_bundle(parse_bundle(json.dumps(evidence.bundle).encode()), trust, **own)


def own_of(told: Told) -> dict[str, Any]:
    return {"request": told.request, "choices": told.answer, "endpoint": told.endpoint}


EMBEDDED: dict[str, Any] = {"request": INPUT, "answer": said(VECTORS), "endpoint": "embeddings"}
LIES: dict[str, tuple[str, Told]] = {
    "another prompt": (
        "forwarded commitment",
        Told(given={**forwarded_of("chat", REQUEST), "messages": ADVERTISE}),
    ),
    "another temperature": (
        "forwarded commitment",
        Told(given={**forwarded_of("chat", REQUEST), "temperature": 1}),
    ),
    "another prompt to continue": (
        "forwarded commitment",
        Told(request=PROMPT, endpoint="completions", given={**forwarded_of("completions", PROMPT), "prompt": "Buy"}),
    ),
    "another text to embed": (
        "forwarded commitment",
        Told(**EMBEDDED, given={"model": MODEL, "input": ["else"]}, job={"needs": ("embeddings",)}, tokens=(1, 0)),
    ),
    "another conversation than the response's": (
        "forwarded commitment",
        Told(request=RESPONSE, endpoint="responses", given={"model": MODEL, "messages": ADVERTISE}),
    ),
    "a chat in place of what was to be embedded": (
        "forwarded commitment",
        Told(**EMBEDDED, given=forwarded_of("responses", INPUT), tokens=(10, 20)),
    ),
    "another model": ("model", Told(request={**REQUEST, "model": "somebody/large"})),
    "a longer prompt than there is": ("prompt tokens", Told(job=LONG, tokens=(1_000, 12))),
    "more than the caller allows": (
        "completion tokens",
        Told(request={**REQUEST, "max_tokens": 5}, job=LONG, tokens=(38, 6)),
    ),
    "more than the caller allows for all choices": (
        "completion tokens",
        Told(
            request={**REQUEST, "max_tokens": 9, "max_completion_tokens": 3, "n": 2},
            answer=said("Hello", "there"),
            job=LONG,
            tokens=(38, 7),
        ),
    ),
    "more than a text completion gets that names no limit": (
        "completion tokens",
        Told(request=PROMPT, endpoint="completions", answer=said("x" * 40, "y"), job=LONG, tokens=(9, 33)),
    ),
    "more than was delivered": ("completion tokens", Told(job=LONG, delivered=50_000, tokens=(38, 23))),
    "completion tokens for vectors": ("completion tokens", Told(**EMBEDDED, job=LONG, tokens=(9, 1))),
}


@pytest.mark.parametrize(("check", "told"), LIES.values(), ids=LIES)
def test_a_lie_that_an_enclave_signs_is_refused_by_the_callers_own_copies(check: str, told: Told) -> None:
    evidence = make_evidence(told=told)
    assert judge(evidence).receipt.outcome == "completed"
    with pytest.raises(VerificationError) as caught:
        judge(evidence, **own_of(told))
    assert caught.value.check == check


def exactly(told: Told) -> Told:
    """The same, billed for as much as its request and its answer can be."""
    given = forwarded_of(told.endpoint, told.request)
    limit = token_limit(told.endpoint, given)
    delivered = delivered_bytes(told.answer) + ALLOWANCE
    completion = delivered if limit is None else min(limit, delivered)
    needs = {"embeddings": ("embeddings",), "completions": ("completions",)}.get(told.endpoint, ("chat",))
    return Told(
        request=told.request,
        answer=told.answer,
        endpoint=told.endpoint,
        job={"max_tokens": limit or 0, "needs": needs},
        tokens=(len(canonical_bytes(given)) + TEMPLATE, completion),
    )


HONEST: dict[str, Told] = {
    "a chat": exactly(Told()),
    "several choices": exactly(Told(request={**REQUEST, "n": 2, "max_tokens": 3}, answer=said("Hello", "世界"))),
    "a limit written as JavaScript may": exactly(Told(request={**REQUEST, "max_completion_tokens": 4.0})),
    "calls": exactly(Told(answer=said("", tool_calls=CALLS))),
    "text and calls": exactly(Told(answer=said("I look.", tool_calls=CALLS))),
    "keys of other endpoints": exactly(Told(request={**REQUEST, "prompt": None, "dimensions": 4})),
    "a text completion": exactly(Told(request=PROMPT, answer=said("a", "time " * 9), endpoint="completions")),
    "vectors": exactly(Told(**EMBEDDED)),
    "several vectors": exactly(Told(**{**EMBEDDED, "request": {**INPUT, "input": ["a", "b"], "max_tokens": 7}})),
    "a response": exactly(Told(request=RESPONSE, endpoint="responses")),
    "a response to a text": exactly(Told(request={"model": MODEL, "input": "hi", "text": {}}, endpoint="responses")),
}


@pytest.mark.parametrize("told", HONEST.values(), ids=HONEST)
def test_an_honest_receipt_holds_at_the_very_bounds(told: Told) -> None:
    verified = judge(make_evidence(told=told), **own_of(told))
    assert (verified.receipt.prompt_tokens, verified.receipt.completion_tokens) == told.tokens
    assert verified.opened == ("request", "forwarded", "response")


def test_contents_count_and_names_and_arguments_of_calls_do_in_utf_8() -> None:
    assert delivered_bytes(said("é", "世界", tool_calls=CALLS)) == 2 + 6 + 2 * (len("weather") + 17)


@pytest.mark.parametrize("name", ["a chat", "a text completion", "a response"])
def test_the_body_alone_may_say_what_was_asked(name: str) -> None:
    verified = judge(make_evidence(told=HONEST[name]), request=HONEST[name].request)
    assert verified.opened == ("request", "forwarded")


@pytest.mark.parametrize("name", ["vectors", "a response to a text"])
def test_nothing_is_claimed_of_what_a_node_was_given_where_two_endpoints_take_the_body(name: str) -> None:
    evidence = make_evidence(told=HONEST[name])
    assert judge(evidence, request=HONEST[name].request).opened == ("request",)
    other: Endpoint = "responses" if HONEST[name].endpoint == "embeddings" else "embeddings"
    with pytest.raises(VerificationError, match="forwarded commitment"):
        judge(evidence, request=HONEST[name].request, endpoint=other)


def test_a_prompt_that_no_reading_of_the_body_gives_is_refused_without_the_answer_too() -> None:
    told = Told(**EMBEDDED, given={"model": MODEL, "input": ["else"]}, job={"needs": ("embeddings",)}, tokens=(1, 0))
    with pytest.raises(VerificationError, match="forwarded commitment"):
        judge(make_evidence(told=told), request=INPUT)


@pytest.mark.parametrize(
    ("settled", "outcome"),
    [
        ({"proof": None}, "failed"),
        ({"outcome": "failed", "reason": "timeout"}, "failed"),
        ({"outcome": "cancelled", "reason": "client_left"}, "cancelled"),
    ],
)
def test_a_job_that_went_otherwise_is_judged_by_what_there_is(settled: dict[str, Any], outcome: str) -> None:
    verified = judge(make_evidence(told=Told(settled=settled)), request=REQUEST, choices=ANSWER, endpoint="chat")
    assert verified.receipt.outcome == outcome
    assert ("forwarded" in verified.opened) == (verified.receipt.node_proof != "")
