"""A request on its way to auction: its id, salt and commitments, and what of it a node will see."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.ask import Ask
from pinaivu_host.gateway.envelope import Envelope
from pinaivu_host.gateway.error_table import CONTEXT_LENGTH_EXCEEDED, INVALID_VALUE, MODEL_NOT_FOUND
from pinaivu_host.gateway.errors import ApiError, Detail
from pinaivu_host.gateway.reservation import BYTES_PER_TOKEN
from pinaivu_host.gateway.validation import INTEGER_MAX
from pinaivu_host.store.accounts import Caller
from pinaivu_shared.commitments import SALT_BYTES, canonical_bytes, commitment
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import make_request_id
from pinaivu_shared.wire.link import OpenJob

MODEL_NAME_MAX: Final = 255
TOKENS_MAX: Final = 2**31
STEPS_MAX: Final = 16
STEP_CHARACTERS_MAX: Final = 100

Path: TypeAlias = tuple[str | int, ...]
"""The names and indices that lead to a value of a body."""


@dataclass(frozen=True, slots=True)
class Order:
    """`command` opens the job; `forwarded` is the JSON a node gets, in canonical form."""

    command: OpenJob
    forwarded: bytes
    salt: bytes
    caller: Caller
    ask: Ask
    envelope: Envelope


def new_request_id() -> str:
    """An id for a request that comes in now."""
    return make_request_id(now_ms(), secrets.token_bytes(10))


def make_order(request_id: str, body: bytes, ask: Ask, caller: Caller) -> Order:
    """Commit to the request, whose body is in canonical form; ApiError (422) for a part to forward that has none."""
    if len(ask.model) > MODEL_NAME_MAX:
        raise unknown_model(ask.model)
    salt = secrets.token_bytes(SALT_BYTES)
    forwarded = canonical_form(ask.forwarded)
    command = OpenJob(
        request_id=request_id,
        account=caller.account_id,
        model=ask.model,
        request_commitment=commitment("request", body, salt),
        forwarded_commitment=commitment("forwarded", forwarded, salt),
        request_bytes=len(forwarded),
        max_tokens=min(ask.max_tokens, TOKENS_MAX),
        needs=ask.needs,
        may_be_empty=ask.may_be_empty,
    )
    envelope = Envelope(request_id, now_ms() // 1000, ask.model, service_tier=ask.has_tier)
    return Order(command, forwarded, salt, caller, ask, envelope)


def canonical_form(body: Mapping[str, object]) -> bytes:
    """RFC 8785 of a body; ApiError (422) where it has none, naming an integer that is too large for one."""
    try:
        return canonical_bytes(body)
    except VerificationError as error:
        if path := _large_integer(body):
            raise _out_of_range(path) from None
        raise ApiError(INVALID_VALUE, f"the body has no canonical form (RFC 8785): {error.detail}") from None


def _large_integer(body: Mapping[str, object]) -> Path:
    """The path of the first integer that RFC 8785 cannot write, empty where there is none. Bodies may be deep."""
    path: list[str | int] = []
    inner = [_steps(body)]
    while inner:
        for step, value in inner[-1]:
            if isinstance(value, int) and abs(value) > INTEGER_MAX:
                return (*path, step)
            if isinstance(value, dict | list):
                path.append(step)
                inner.append(_steps(value))
                break
        else:
            inner.pop()
            del path[-1:]
    return ()


def _steps(value: Mapping[str, object] | list[object]) -> Iterator[tuple[str | int, object]]:
    return iter(value.items()) if isinstance(value, Mapping) else enumerate(value)


def _out_of_range(path: Path) -> ApiError:
    """The names are the caller's own, and may be long."""
    param = ".".join(str(step)[:STEP_CHARACTERS_MAX] for step in path[:STEPS_MAX])
    reason = f"Integers must be between -{INTEGER_MAX} and {INTEGER_MAX}, as RFC 8785 has them; larger ones can be text"
    loc = ("body", *(step[:STEP_CHARACTERS_MAX] if isinstance(step, str) else step for step in path[:STEPS_MAX]))
    return ApiError(INVALID_VALUE, f"{param}: {reason}", param=param, detail=(Detail(loc, reason, "int_range"),))


def too_long(order: Order, context_length: int | None) -> ApiError:
    """The error for a request that no context holds; `context_length` is the most that the market counts of one."""
    command = order.command
    size = f"the request has {command.request_bytes} bytes, some {command.request_bytes // BYTES_PER_TOKEN} tokens"
    limit = f", and its answer up to {command.max_tokens}" if command.max_tokens else ""
    context = f"the context of {command.model!r}" + (f", at most {context_length} tokens" if context_length else "")
    message = f"this is longer than {context}: {size}{limit}"
    return ApiError(CONTEXT_LENGTH_EXCEEDED, message, param=order.ask.names.content)


def unknown_model(model: str) -> ApiError:
    """The error for a model that the market does not list."""
    message = f"the model {model[:100]!r} does not exist here; GET /v1/models lists them"
    detail = (Detail(("body", "model"), message, MODEL_NOT_FOUND.code),)
    return ApiError(MODEL_NOT_FOUND, message, param="model", detail=detail)
