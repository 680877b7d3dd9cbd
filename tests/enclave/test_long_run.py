"""A long run of the market under cheats and lies; `make test-market` has 100,000 jobs of the same kind."""

import subprocess

import pytest

from .long_run import again, run_from_seed
from .long_run_world import LongRun


@pytest.fixture(scope="module")
def run() -> LongRun:
    """Thousands of jobs; every command was followed by the checks of `long_run_checks`."""
    return run_from_seed(3, 3_000, crashes=3)


def test_thousands_of_jobs_among_cheats_and_lies_leave_every_balance_right(run: LongRun) -> None:
    assert run.awards >= 3_000
    assert run.epoch == 4
    assert len(run.market.receipts()) <= run.leaves["receipt"]
    assert run.checks.replayer.size == len(run.market.leaves)


def test_the_run_saw_every_way_a_job_can_end(run: LongRun) -> None:
    assert run.reasons.keys() >= {
        *("", "client_disconnected", "nothing_delivered", "not_accepted", "no_proof", "invalid_proof", "node_failed"),
        *("response_mismatch", "usage_missing", "usage_cut", "usage_recounted", "usage_absurd", "conflicting_proofs"),
        *("no_first_token", "host_restarted", "deadline", "empty_answer", "stopped_at_once"),
    }


def test_the_run_saw_embeddings_paid_for_their_prompt_alone(run: LongRun) -> None:
    prompts = [one for one in run.market.receipts() if one.prompt_tokens and not one.completion_tokens]
    assert len(prompts) > 100


def test_the_run_saw_the_refusals_that_matter(run: LongRun) -> None:
    assert run.refusals.keys() >= {
        *("insufficient_credit", "credit_held", "already_settled", "duplicate_request", "duplicate_order"),
        *("illegal_command", "unknown_subject", "verification_failed", "refused_quote", "impossible_order"),
        *("context_length_exceeded", "no_capable_node"),
    }


def test_only_nodes_that_convicted_themselves_were_suspended(run: LongRun) -> None:
    suspended = {node for node, one in run.checks.replayer.standings.items() if one.offences}
    assert {run.actors[node].kind for node in suspended} == {"absurd", "conflicting"}


def test_what_fails_says_how_to_see_it_again() -> None:
    with pytest.raises(ValueError, match="larger than population") as caught:
        run_from_seed(5, 10, crashes=100)
    assert caught.value.__notes__ == ["again: " + again(5, 10, crashes=100)]


def test_a_run_can_be_seen_again_by_the_command_as_it_stands() -> None:
    ended = subprocess.run(["/bin/sh", "-c", again(5, 1, crashes=0)], capture_output=True, text=True, check=True)
    assert "every balance and standing recomputed" in ended.stdout
