"""What a receipt must be to whoever has request and answer: for that model, on that request, no dearer than possible.

The enclave sees neither. Their commitments and lengths it has from the host, so only the caller can compare them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pinaivu_shared.commitments import canonical_choices, commitment
from pinaivu_shared.configuration import MeteringLimits
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.forwarding import Endpoint, Reading, readings_of
from pinaivu_shared.receipt import Receipt
from pinaivu_shared.terms import Proof


class OwnRequest(msgspec.Struct, frozen=True):
    """The body that the caller sent, any JSON value; the endpoint, None where that is not known; the receipt's salt."""

    body: Any
    endpoint: Endpoint | None
    salt: bytes

    def commitment(self, reading: Reading) -> str:
        """Of what nodes get by this reading of it."""
        return commitment("forwarded", reading.forwarded, self.salt)


def check_request(
    receipt: Receipt,
    proof: Proof | None,
    limits: MeteringLimits,
    own: OwnRequest,
) -> bool:
    """Whether it is certain that the node was given this request, which only a node's proof can show.

    It is not where the endpoint is not known and several would take the body: an `input` may be embedded or answered.
    VerificationError where model, what the node was given, or the tokens are not this request's under any reading.
    """
    body = own.body if isinstance(own.body, dict) else {}
    if body.get("model") != receipt.model:
        raise VerificationError("model", f"the receipt is for {receipt.model}, the request names another")
    possible = readings_of(body, own.endpoint)
    readings = [one for one in possible if proof is None or own.commitment(one) == proof.forwarded_commitment]
    if not readings:
        raise VerificationError("forwarded commitment", "the node was given something else than this request")
    longest = max(len(one.forwarded) for one in readings) + limits.template_allowance
    if receipt.prompt_tokens > longest:
        raise VerificationError("prompt tokens", f"{receipt.prompt_tokens} are charged, at most {longest} are possible")
    allowed = [one.token_limit for one in readings if one.token_limit is not None]
    if len(allowed) == len(readings) and receipt.completion_tokens > max(allowed):
        raise VerificationError("completion tokens", f"{receipt.completion_tokens}: the request allows {max(allowed)}")
    return proof is not None and len(possible) == 1


def check_answer(receipt: Receipt, limits: MeteringLimits, choices: Iterable[Mapping[str, Any]]) -> None:
    """VerificationError for more completion tokens than metering allows for an answer of so many bytes."""
    longest = delivered_bytes(choices) + limits.completion_allowance
    if receipt.completion_tokens > longest:
        raise VerificationError(
            "completion tokens", f"{receipt.completion_tokens} are charged, at most {longest} are possible"
        )


def delivered_bytes(choices: Iterable[Mapping[str, Any]]) -> int:
    """UTF-8 bytes of an answer as the gateway counts them: contents, and names and arguments of tool calls."""
    return sum(len(text.encode()) for choice in canonical_choices(choices) for text in _texts(choice["message"]))


def _texts(message: Mapping[str, Any]) -> list[str]:
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    named = [one.get(name) for one in functions if isinstance(one, dict) for name in ("name", "arguments")]
    return [text for text in (message.get("content"), *named) if isinstance(text, str)]
