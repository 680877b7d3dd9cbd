"""So many requests from one seed, each answer held against the OpenAPI document."""

import contextlib
import http.client
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tests.fuzz.bodies import HEADERS, VALUES, damaged
from tests.fuzz.running import Running, running
from tests.host.contract import Contract

from pinaivu_host.gateway.openapi.document import OPERATIONS
from pinaivu_host.gateway.openapi.operation import Operation

BATCH = 50
"""Requests for each example of hypothesis, which takes longer to make one than the gateway to answer."""
VALUES_EACH = 40


@dataclass
class Outcome:
    """How often each path ended in which status and code, and whatever should not have been."""

    counts: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """A route that takes a body, a path of it, and a body that is right."""

    operation: Operation
    path: str
    body: dict[str, Any]


def fuzz(requests: int, start: int) -> Outcome:
    """Send them all to a gateway of its own; the same seed makes the same requests."""
    outcome = Outcome()
    with running() as there, contextlib.closing(Sender(there)) as sender:
        targets = list(_targets(there))

        @seed(start)
        @settings(
            max_examples=max(1, requests // BATCH),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.randoms(use_true_random=True), st.lists(VALUES, min_size=1, max_size=VALUES_EACH))
        def batch(random: Random, values: list[Any]) -> None:
            for _ in range(BATCH):
                sender.send(random.choice(targets), random, values, outcome)

        batch()
    return outcome


class Sender:
    """One connection, opened again where the gateway has closed it."""

    def __init__(self, there: Running) -> None:
        self._there, self._contract = there, Contract()
        self._connection = http.client.HTTPConnection("127.0.0.1", there.port, timeout=60)

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    def send(self, target: Target, random: Random, values: list[Any], outcome: Outcome) -> None:
        """One request, and what came of it."""
        raw = damaged(target.body, random, values)
        headers = self._headers(target.operation, random)
        status, answered, body = self._ask(target, headers, raw)
        code = json.loads(body)["error"]["code"] if status >= 400 else ""
        outcome.counts[target.operation.path, status, code] += 1
        faults = list(self._contract.faults(target.operation, status, answered, body))
        if status == 500:
            faults.append(f"500: {body!r}")
        outcome.faults += [f"{target.path} {headers} {raw[:2000]!r}: {fault}" for fault in faults]

    def _headers(self, operation: Operation, random: Random) -> dict[str, bytes]:
        key = self._there.admin_key if operation.key == "operator" else self._there.api_key
        headers = {"content-type": b"application/json", "authorization": f"Bearer {key}".encode()}
        for name in random.sample(list(HEADERS), random.choice([0, 0, 0, 1, 2])):
            headers[name] = random.choice(HEADERS[name])
        return headers

    def _ask(self, target: Target, headers: dict[str, bytes], raw: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = self._connection
        connection.putrequest(target.operation.method, target.path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(raw)))
        connection.endheaders(raw)
        response = connection.getresponse()
        body = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def _targets(there: Running) -> Iterator[Target]:
    chat = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": FUNCTION}]},
            {"role": "tool", "content": "5", "tool_call_id": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "stop": ["x"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "top_logprobs": 2,
        "seed": 1,
        "metadata": {"a": "b"},
    }
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": chat,
        "/v1/completions": {"model": "m", "prompt": "Once", "max_tokens": 5, "stop": "x", "n": 1},
        "/v1/responses": {"model": "m", "input": [message], "text": {"format": {"type": "text"}}, "stream": False},
        "/v1/embeddings": {"model": "m", "input": ["a", "b"], "encoding_format": "float"},
        "/admin/v1/accounts": {"name": "ann", "credit": "1.5"},
        "/admin/v1/accounts/{account_id}/deposits": {"amount": "0.000001", "fund": "deposits"},
        "/admin/v1/accounts/{account_id}/keys": {"name": "new", "models": ["m"], "expires_in_days": 5},
        "/admin/v1/keys/{key_id}": {"name": "old", "requests_per_minute": 60, "models": None},
        "/admin/v1/payouts": {"node_id": there.node_id, "amount": "0.000001", "reference": "wire-1"},
        "/admin/v1/orders": {"order": "e30=", "signature": "0" * 128},
    }
    for operation in OPERATIONS:
        if operation.body is not None:
            path = operation.path.replace("{account_id}", there.account_id).replace("{key_id}", "key_" + "0" * 16)
            yield Target(operation, path, bodies[operation.path])


FUNCTION = {"name": "f", "arguments": "{}"}
