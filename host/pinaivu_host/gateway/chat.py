"""`POST /v1/chat/completions`: what a body asks for."""

from typing import Any

from pinaivu_host.gateway.ask import Ask
from pinaivu_host.gateway.chat_answer import ChatShape
from pinaivu_host.gateway.chat_request import read_chat_request
from pinaivu_host.gateway.chat_rules import check_chat, needs_of
from pinaivu_shared.forwarding import forwarded_of, token_limit


def read_chat(body: dict[str, Any]) -> Ask:
    """The chat that a body asks for; ApiError (400, 422)."""
    chat = read_chat_request(body)
    check_chat(chat)
    forwarded = forwarded_of("chat", body)
    shape = ChatShape(chat.choices, with_usage=chat.wants_usage(), with_logprobs=bool(chat.logprobs))
    return Ask(
        model=chat.model,
        forwarded=forwarded,
        needs=needs_of(chat),
        shape=shape,
        max_tokens=token_limit("chat", forwarded) or 0,
        choices=chat.choices,
        stream=bool(chat.stream),
        keeps_logprobs=shape.with_logprobs and not chat.stream,
        has_tier=chat.service_tier is not None,
        may_be_empty=bool(chat.stop),
    )
