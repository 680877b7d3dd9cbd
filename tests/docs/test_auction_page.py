"""docs/auction.md is true: its example is what the command prints, its sums come out, its figures are simulated."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from tests.docs.conftest import Service
from tests.docs.pages import DOCS, ROOT, blocks, section
from tests.docs.shell import run_blocks
from tests.network.conftest import http

from pinaivu_shared.auction_explanation import explain
from pinaivu_shared.auction_report import explanation_lines
from pinaivu_shared.second_score import Bid, Lot, Transcript, run_auction
from pinaivu_shared.terms import Capability
from pinaivu_simulator.populations import simulate

PAGE = DOCS / "auction.md"
LOT = Lot(
    request_id="req_01m7q5cqg04s5atv5pvmggzb6k",
    attempt=1,
    model="llama3.2:1b",
    prompt_tokens=100,
    completion_tokens=200,
    input_reserve_price=40_000,
    output_reserve_price=120_000,
)


def bid(number: int, operator: str, prices: tuple[int, int], quality_bps: int) -> Bid:
    return Bid(
        node_id=f"node_{number:032x}",
        operator=operator,
        quote="sha256:" + "0" * 64,
        input_price=prices[0],
        output_price=prices[1],
        quality_bps=quality_bps,
    )


def example(first: tuple[int, int]) -> Transcript:
    """The page's auction, with what its first node asks."""
    others = [
        bid(0xF1, "fox", (22_000, 66_000), 9000),
        bid(0x0A, "owl", (36_000, 102_000), 9600),
        bid(0x0B, "hen", (18_000, 58_000), 4500),
    ]
    return run_auction(LOT, [bid(0xF0, "fox", first, 9000), *others])


def test_every_capability_is_named() -> None:
    """And nothing else stands in that place."""
    (listed,) = re.findall(r"that the job needs: (.*?)\. They are", " ".join(section(PAGE, "Who takes part").split()))
    assert set(re.findall(r"`(\w+)`", listed)) == set(get_args(Capability))


def test_the_example_is_what_explain_prints() -> None:
    explained, *_ = blocks(section(PAGE, "An example"), "text")
    assert explained.splitlines() == list(explanation_lines(explain(example((20_000, 60_000)))))


@pytest.mark.parametrize(("index", "asked"), [(1, (20_000, 60_000)), (2, (21_000, 63_000))])
def test_the_sums_come_out_and_end_at_the_clearing_prices(index: int, asked: tuple[int, int]) -> None:
    sums = blocks(section(PAGE, "An example"), "text")[index].splitlines()
    found = example(asked)
    results = []
    for line in sums:
        left, right = line.split(" = ")
        assert re.fullmatch(r"[0-9 x+/]+", left)
        assert eval(left.replace("x", "*").replace("/", "//")) == int(right), line  # noqa: S307 - digits, x, + and /
        results.append(right)
    assert results[:2] == [found.bids[0].cost, found.bids[0].score]
    assert [int(one) for one in results[-2:]] == [found.input_price, found.output_price]
    assert found.bids[0].bid.node_id == f"node_{0xF0:032x}"


def test_a_bundle_and_a_transcript_that_anybody_can_have_are_explained_alike(service: Service, tmp_path: Path) -> None:
    commands = blocks(section(PAGE, "Explain an auction"), "sh")
    with http(service.network) as client:
        bundle = client.get(f"/receipts/{service.given['REQUEST_ID']}/bundle").json()
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    given = {"SERVICE": service.given["SERVICE"], "TRANSCRIPT": bundle["receipt"]["auction"]["transcript"]}
    explained = [run_blocks([command], tmp_path, given) for command in commands]
    assert [(one.returncode, one.stderr) for one in explained] == [(0, ""), (0, "")]
    assert explained[0].stdout == explained[1].stdout
    assert given["TRANSCRIPT"] in explained[0].stdout


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    script = ROOT / "scripts" / "draw_populations.py"
    specification = importlib.util.spec_from_file_location("draw_populations", script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_table_is_near_that_of_a_smaller_run(drawing: ModuleType) -> None:
    """The page's is of 100,000 auctions; the chance of both is fixed."""
    shown = [
        tuple(cell.strip() for cell in line.strip("|\n").split("|"))
        for line in section(PAGE, "Populations").splitlines()
        if line.startswith("|")
    ]
    assert shown[0] == drawing.HEADINGS
    found = list(drawing.rows(simulate(seed=7, auctions=6000)))
    assert [row[0] for row in shown[2:]] == [row[0] for row in found]
    for page, run in zip(shown[2:], found, strict=True):
        for one, other in zip(page[1:], run[1:], strict=True):
            assert float(one.rstrip("%")) == pytest.approx(float(other.rstrip("%")), rel=0.15, abs=0.3), page[0]


def test_the_plot_is_the_same_bytes_each_time_and_names_no_day(drawing: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "other"):
        drawing.draw(simulate(seed=7, auctions=60), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    for plot in (tmp_path / "one", DOCS / "populations.svg"):
        assert "dc:date" not in plot.read_text()


def test_the_table_of_the_page_is_exchanged_in_its_place(drawing: ModuleType) -> None:
    page = PAGE.read_text()
    changed = drawing.with_table(page, "| x |\n")
    assert "| x |" in changed
    assert "| greedy |" not in changed
    assert changed.replace("\n| x |\n\n", "") == re.sub(r"\n(?:\| .*\n)+\n(?=<!-- end)", "", page)
