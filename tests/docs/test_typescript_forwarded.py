"""docs/developers/verify/forwarded.ts reads in every request what ours reads: what a node gets, and the caller's limit.

And with the caller's own copies both judge alike what a host had an honest enclave sign.
"""

import random
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from tests.docs.test_typescript_answers import mutated_json
from tests.docs.test_typescript_verifier import Case, compare
from tests.docs.typescript import compiled, read_requests
from tests.shared.evidence import REQUEST, make_evidence
from tests.shared.test_own_copies import CALLS, HONEST, INPUT, LIES, PROMPT, RESPONSE, own_of

from pinaivu_shared.forwarding import Endpoint, readings_of

CHAT: Final[dict[str, Any]] = {
    **REQUEST,
    "messages": [
        {"role": "system", "content": "Be brief.", "name": "x", "extra": 1},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": CALLS},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": None, "parameters": {"a": None}}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": {"a": None}, "extra": 1}},
    "max_tokens": 9,
    "max_completion_tokens": 3.0,
    "n": 2,
}
REQUESTS: Final = (CHAT, PROMPT, INPUT, RESPONSE, {**CHAT, **PROMPT, **INPUT}, {**RESPONSE, "n": 3})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("typescript"))


def test_a_request_is_read_alike_whole_or_broken(built: Path, tmp_path: Path) -> None:
    chance = random.Random(5)
    endpoints: tuple[Endpoint | None, ...] = (None, *get_args(Endpoint))
    broken = [mutated_json(request, chance) for request in REQUESTS for _ in range(400)]
    cases = [(request, chance.choice(endpoints)) for request in broken]
    cases += [(request, endpoint) for request in REQUESTS for endpoint in endpoints]
    ours = [[[one.forwarded.decode(), one.token_limit] for one in readings_of(*case)] for case in cases]
    found = read_requests(built, cases, tmp_path)
    different = [place for place in range(len(cases)) if found[place] != ours[place]]
    assert [(cases[place], found[place], ours[place]) for place in different[:3]] == []
    assert sum(map(bool, ours)) > len(cases) // 4


def test_lies_and_honest_jobs_are_judged_alike_by_request_and_answer(built: Path, tmp_path: Path) -> None:
    told = {name: one for name, (_, one) in LIES.items()} | HONEST
    cases: list[Case] = []
    for name, one in told.items():
        evidence, own = make_evidence(told=one), own_of(one)
        cases.append((name, evidence, own))
        cases += [(f"{name}: {part}", evidence, {part: own[part]}) for part in ("request", "choices")]
    expected = compare(built, tmp_path, cases)
    assert expected[: 3 * len(LIES) : 3] == [check for check, _ in LIES.values()]
    assert set(expected[3 * len(LIES) :]) == {"valid"}
