"""The configuration of a simulated market: which models it lists, at which reserve prices, under which limits."""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import (
    Configuration,
    JobLimits,
    KmsTerms,
    MeteringLimits,
    ModelTerms,
    NodeTerms,
    Platform,
)

INPUT_RESERVE_PRICE: Final = 40_000
OUTPUT_RESERVE_PRICE: Final = 120_000
BASE_INPUT_PRICE: Final = 20_000
BASE_OUTPUT_PRICE: Final = 60_000

LONG_CONTEXT: Final = 131_072
"""The context of the echo engine, in tokens, and of most open models at their longest."""

NO_KMS: Final = KmsTerms(
    key_arn="arn:aws:kms:local-1:000000000000:key/00000000-0000-0000-0000-000000000000", tls_root="00"
)
"""A key that nobody has, for markets whose vault asks no KMS."""
NO_OPERATOR: Final = hashlib.sha256(b"nobody").digest()
"""A public key whose private half nobody has, for markets where no money comes in."""


class Periods(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take in a simulated market, in milliseconds; short ones for those who wait for what follows."""

    first_token_ms: int = 30_000
    duration_ms: int = 600_000
    suspension_ms: int = 600_000
    statement_period_ms: int = 60_000


USUAL_PERIODS: Final = Periods()


def market_configuration(  # noqa: PLR0913 - what differs between markets
    origin: str,
    models: Sequence[str],
    *,
    operator_key: bytes = NO_OPERATOR,
    platform: Platform = "simulator",
    kms: KmsTerms = NO_KMS,
    periods: Periods = USUAL_PERIODS,
    context_length_max: int = LONG_CONTEXT,
) -> bytes:
    """Canonical configuration bytes; every model at the same list price, in micro-USDC per million tokens."""
    terms = [
        ModelTerms(
            model=model,
            input_reserve_price=INPUT_RESERVE_PRICE,
            output_reserve_price=OUTPUT_RESERVE_PRICE,
            expected_completion_tokens=256,
            context_length_max=context_length_max,
        )
        for model in sorted(set(models))
    ]
    return encode(
        Configuration(
            version=1,
            platform=platform,
            origin=origin,
            kms=kms,
            models=tuple(terms),
            fee_bps=500,
            operator_key=operator_key.hex(),
            nodes=NodeTerms(
                prior_bps=7500,
                probation_slots=1024,
                suspension_ms=periods.suspension_ms,
                statement_period_ms=periods.statement_period_ms,
            ),
            jobs=JobLimits(attempts=3, first_token_ms=periods.first_token_ms, duration_ms=periods.duration_ms),
            metering=MeteringLimits(completion_allowance=8, template_allowance=64, recount_tolerance_bps=500),
            quote_lifetime_ms=120_000,
            max_nodes=1_000,
            max_open_jobs=100_000,
            witnesses=(),
            quorum=0,
        )
    )


def node_prices(number: int) -> tuple[int, int]:
    """What node `number` (from 1) asks for: each a little more than the one before, none above the reserve."""
    markup = min(10 + number, 20)
    return BASE_INPUT_PRICE * markup // 10, BASE_OUTPUT_PRICE * markup // 10
