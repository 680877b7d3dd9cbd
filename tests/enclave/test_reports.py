"""Reports: what a node is told about itself, signed by the enclave, so that no host can tell it otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_enclave.core.commands import Tick, UnknownSubjectError
from pinaivu_enclave.core.quality_book import CHANGES_KEPT
from pinaivu_enclave.core.tallies import MARGIN_MAX_BPS, Tallies
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.configuration import ModelTerms
from pinaivu_shared.ids import digest_of
from pinaivu_shared.money import parse_usdc
from pinaivu_shared.second_score import Bid, Lot, run_auction
from pinaivu_shared.signed import verify_enclave
from pinaivu_shared.terms import NodeReport
from pinaivu_shared.wire import link

from .market import MODEL, OTHER_MODEL, Market, Node


def report_of(market: Market, node: Node) -> NodeReport:
    reported = market.apply(link.ReadNodeReport(node.session))
    payload = verify_enclave("node-report", reported.report, market.manifest.receipt_public_key())
    return decode(payload, NodeReport, check="report")


def test_a_new_nodes_report_says_how_it_begins(market: Market, cheap: Node) -> None:
    report = report_of(market, cheap)
    assert (report.node_id, report.session, report.reported_ms) == (cheap.node_id, cheap.session, market.now_ms)
    assert (report.quality_bps, report.slots, report.suspended_until_ms) == (7_500, 1_024, 0)
    assert (report.wins, report.losses, report.loss_margin_bps, report.changes) == (0, 0, 0, ())
    assert (report.earned, report.payable, report.paid_out) == (0, 0, 0)


def test_a_report_names_the_quotes_in_force_and_the_jobs_under_them(market: Market, cheap: Node) -> None:
    cheap.quote(1_000, 2_000, model=OTHER_MODEL, slots=9, expires_ms=market.now_ms + 90_000)
    market.open_job()
    quotes = {one.model: one for one in report_of(market, cheap).quotes}
    assert (quotes[MODEL].input_price, quotes[MODEL].output_price, quotes[MODEL].running) == (20_000, 60_000, 1)
    assert (quotes[OTHER_MODEL].slots, quotes[OTHER_MODEL].running) == (9, 0)
    market.now_ms += 60_000
    assert [one.model for one in report_of(market, cheap).quotes] == [OTHER_MODEL]
    market.apply(link.WithdrawQuotes(cheap.session, ""))
    assert report_of(market, cheap).quotes == ()


def test_wins_and_losses_are_counted_with_the_margin(market: Market, cheap: Node, dear: Node) -> None:
    """The dear node's prices are a quarter above the cheap one's, and so are its scores."""
    for _ in range(3):
        market.open_job()
    winner, loser = report_of(market, cheap), report_of(market, dear)
    assert (winner.wins, winner.losses, winner.loss_margin_bps) == (3, 0, 0)
    assert (loser.wins, loser.losses, loser.loss_margin_bps) == (0, 3, 2_500)


def test_auctions_that_led_to_no_award_count_for_nobody() -> None:
    market = Market(credit=0)
    node = Node(market, "a").register().quote()
    market.open_job()
    assert report_of(market, node).wins == 0


def test_money_is_earned_then_payable_then_paid_out(market: Market, cheap: Node) -> None:
    paid = parse_usdc(market.settle(market.open_job(), cheap).payment_amount)
    market.acknowledge()

    def money() -> tuple[int, int, int]:
        report = report_of(market, cheap)
        return report.earned, report.payable, report.paid_out

    assert money() == (paid, 0, 0)
    market.now_ms += 60_000
    market.apply(Tick())
    assert money() == (0, paid, 0)
    market.pay_out(cheap.node_id, 2)
    assert money() == (0, paid - 2, 2)


def test_the_latest_changes_of_quality_are_told_with_their_reasons(market: Market, cheap: Node) -> None:
    jobs = [market.settle(market.open_job(), cheap).request_id for _ in range(CHANGES_KEPT + 1)]
    failed = market.settle(market.open_job(), cheap, outcome="failed", reason="node_disconnected", proof=None)
    report = report_of(market, cheap)
    assert [one.request_id for one in report.changes] == [*jobs[2:], failed.request_id]
    assert (report.changes[-1].reason, report.changes[-1].sample_bps) == ("node_disconnected", 0)
    assert report.changes[-1].quality_bps == report.quality_bps == report.changes[-2].quality_bps - 250


def test_money_and_quality_are_still_told_by_the_next_enclave(market: Market, cheap: Node) -> None:
    market.settle(market.open_job(), cheap)
    before = report_of(market, cheap)
    again = Market(stored=tuple(market.leaves), checkpoint=market.checkpoint)
    after = report_of(again, Node(again, "cheap").register())
    assert (after.earned, after.quality_bps, after.changes) == (before.earned, before.quality_bps, before.changes)


def test_a_report_changes_nothing(market: Market, cheap: Node, dear: Node) -> None:
    market.open_job()
    before = (market.balances(), list(market.leaves), report_of(market, dear))
    report_of(market, cheap)
    assert (market.balances(), market.leaves, report_of(market, dear)) == before


@pytest.mark.parametrize("session", ["ended", "replaced", "unregistered"])
def test_only_a_registered_session_has_a_report(market: Market, cheap: Node, session: str) -> None:
    asked = "ses_" + "0" * 32 if session == "unregistered" else cheap.session
    if session == "ended":
        market.apply(link.EndSession(cheap.session))
    if session == "replaced":
        Node(market, "cheap").register()
    with pytest.raises(UnknownSubjectError):
        market.apply(link.ReadNodeReport(asked))


def test_a_competitor_that_bids_next_to_nothing_makes_no_report_unreadable() -> None:
    """At the highest reserve price that a configuration takes the bare margin would be no number of canonical JSON."""
    terms = ModelTerms(
        model=MODEL,
        input_reserve_price=2**40,
        output_reserve_price=2**40,
        expected_completion_tokens=1,
        context_length_max=2048,
    )
    market = Market(models=(terms,))
    Node(market, "next-to-nothing").register().quote(1, 1)
    node = Node(market, "a").register().quote(2**40, 2**40)
    market.open_job(request_bytes=0, max_tokens=1)
    assert report_of(market, node).loss_margin_bps == MARGIN_MAX_BPS


PRICE = st.integers(1, 2**40)


@given(st.lists(st.tuples(PRICE, PRICE, st.integers(1, 10_000)), min_size=1, max_size=5))
def test_any_auction_can_be_told_of(bids: list[tuple[int, int, int]]) -> None:
    lot = Lot(
        request_id="req_" + "0" * 26,
        attempt=1,
        model=MODEL,
        prompt_tokens=1,
        completion_tokens=1,
        input_reserve_price=2**40,
        output_reserve_price=2**40,
    )
    names = [f"node_{number:032x}" for number in range(len(bids))]
    tallies = Tallies()
    for _ in range(2):
        tallies.count(
            run_auction(
                lot,
                [
                    Bid(
                        node_id=name,
                        operator=name,
                        quote=digest_of(b""),
                        input_price=input_price,
                        output_price=output_price,
                        quality_bps=quality,
                    )
                    for name, (input_price, output_price, quality) in zip(names, bids, strict=True)
                ],
            )
        )
    found = [tallies.of(name) for name in names]
    assert sum(one.wins for one in found) == 2
    assert sum(one.losses for one in found) == 2 * (len(bids) - 1)
    assert all(0 <= one.margins_bps <= one.losses * MARGIN_MAX_BPS for one in found)
    assert encode([one.margins_bps for one in found])
