"""`GET /v1/pricing`: the list prices of the market. For everybody, without a key, so that one can look before one pays.

They are the reserve prices of the configuration, which the enclave measured: no auction pays a node more than them.
"""

from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from pinaivu_host.gateway.http_answer import send_json
from pinaivu_shared.configuration import Configuration, ModelTerms
from pinaivu_shared.money import decimal_usdc

CURRENCY: Final = "USDC"
NOTE: Final = (
    "List prices per million tokens. Each request is auctioned among nodes and costs at most these, usually less; "
    "fee_bps, in hundredths of a percent, is added to what the node is paid. The receipt has what was paid and charged."
)
_HEADERS: Final = (("cache-control", "public, max-age=60"),)


class Pricing:
    """The prices of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        models = sorted(configuration.models, key=lambda terms: terms.model)
        self._body: Final = msgspec.json.encode({
            "object": "list",
            "currency": CURRENCY,
            "fee_bps": configuration.fee_bps,
            "note": NOTE,
            "data": [{"id": terms.model, "object": "model.pricing", "pricing": self._shown(terms)} for terms in models],
        })  # fmt: skip

    async def list(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Every model of the market, whether a node offers it right now or not."""
        await send_json(send, self._body, request_id=scope["state"]["request_id"], headers=_HEADERS)

    def of(self, model: str) -> dict[str, Any] | None:
        """The prices of a model as they are shown beside it; None where the market does not list it."""
        terms = self._configuration.model(model)
        return None if terms is None else self._shown(terms)

    def _shown(self, terms: ModelTerms) -> dict[str, Any]:
        return {
            "currency": CURRENCY,
            "input_per_million_tokens": decimal_usdc(terms.input_reserve_price),
            "output_per_million_tokens": decimal_usdc(terms.output_reserve_price),
            "fee_bps": self._configuration.fee_bps,
            "kind": "list_price",
        }
