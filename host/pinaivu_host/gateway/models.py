"""`GET /v1/models` and `/v1/models/{id}`: what nodes offer right now, in OpenAI's shape."""

from collections.abc import Mapping, Sequence

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from pinaivu_host.clock import now_ms
from pinaivu_host.gateway.authentication import authenticate
from pinaivu_host.gateway.error_table import NO_SUCH_MODEL
from pinaivu_host.gateway.errors import ApiError
from pinaivu_host.gateway.http_answer import send_json
from pinaivu_host.gateway.pricing import Pricing
from pinaivu_host.node_connections import NodeConnections
from pinaivu_host.store.accounts import Accounts, Caller
from pinaivu_host.store.models import FirstQuotes


class Models:
    """The models for which a standing quote exists, sorted; `created` is when the first was ever posted.

    A key with a list of models is shown those of its list.
    `pricing` and `context_length`, which OpenAI does not have, are what `/v1/pricing` says of the model, and the most
    tokens that count here of a node's context; a node's own may be shorter, and only the enclave sees its quote.
    """

    def __init__(
        self,
        nodes: NodeConnections,
        first_quotes: FirstQuotes,
        accounts: Accounts,
        pricing: Pricing,
        context_lengths: Mapping[str, int],
    ) -> None:
        self._nodes, self._first_quotes, self._accounts, self._pricing = nodes, first_quotes, accounts, pricing
        self._context_lengths = context_lengths

    async def list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """All of them."""
        caller = await authenticate(scope, self._accounts)
        shown = [self._shown(model) for model in self._visible(caller)]
        await self._send(scope, send, {"object": "list", "data": shown})

    async def one(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """The model named by the path, slashes and colons included."""
        model = scope["path_params"]["model"]
        if not model:
            raise HTTPException(404)  # told as every path with a slash too many
        caller = await authenticate(scope, self._accounts)
        if model not in self._visible(caller):
            message = f"the model {model[:100]!r} is not offered right now, or not to this API key"
            raise ApiError(NO_SUCH_MODEL, message, param="model")
        await self._send(scope, send, self._shown(model))

    def _visible(self, caller: Caller) -> Sequence[str]:
        offered, allowed = self._nodes.offered_models(now_ms()), caller.terms.models
        return [model for model in offered if model in allowed] if allowed else offered

    def _shown(self, model: str) -> dict[str, object]:
        created_s = self._first_quotes.first_s(model)
        shown = {"id": model, "object": "model", "created": created_s, "owned_by": "pinaivu"}
        return {**shown, "context_length": self._context_lengths.get(model), "pricing": self._pricing.of(model)}

    @staticmethod
    async def _send(scope: Scope, send: Send, shown: dict[str, object]) -> None:
        await send_json(send, msgspec.json.encode(shown), request_id=scope["state"]["request_id"])
