"""A small run of `make fuzz`, always the same."""

from tests.fuzz.campaign import fuzz

REQUESTS, SEED = 2_000, 20_261_128


def test_no_request_is_answered_with_500_or_otherwise_than_documented() -> None:
    outcome = fuzz(REQUESTS, SEED)
    assert outcome.faults[:5] == []
    assert sum(outcome.counts.values()) == REQUESTS
    assert {200, 415, 422} <= {status for _, status, _ in outcome.counts}
