"""Simulate populations of bidders, print their figures, and write them into docs/: a table and a plot.

`make populations` takes under a minute. One seed and no date: running it again writes the same bytes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pinaivu_simulator.populations import OTHERS, TRUTHFUL, Behaviour, Outcome, simulate

SEED: Final = 5
AUCTIONS: Final = 100_000
DOCS: Final = Path(__file__).parents[1] / "docs"
PLOT: Final = DOCS / "populations.svg"
PAGE: Final = DOCS / "auction.md"
MARKS: Final = ("<!-- written by scripts/draw_populations.py -->\n", "<!-- end -->\n")
KINDS: Final = (TRUTHFUL, *OTHERS)
COLOURS: Final = ("#2b6cb0", "#c05621", "#b83280", "#2f855a", "#805ad5", "#718096", "#975a16")
HEADINGS: Final = ("bidder", "jobs won", "paid / asked", "paid / cost", "profit", "profit, had it been truthful")
MICRO_USDC: Final = 1_000_000


def rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """The figures of one bidder of each kind; of several alike, their mean. Profit is micro-USDC an auction."""
    for kind in KINDS:
        bidders = outcome.of(kind)
        auctions = outcome.auctions * len(bidders)
        jobs, asked, cost, paid = (
            sum(getattr(one, name) for one in bidders) for name in ("jobs", "asked", "cost", "paid")
        )
        yield (
            kind.name,
            f"{jobs / auctions:.1%}",
            f"{paid / asked:.2f}" if jobs else "-",
            f"{paid / cost:.2f}" if jobs else "-",
            f"{profit(outcome, kind):.2f}",
            f"{profit_as_truthful(outcome, kind):.2f}",
        )


def profit(outcome: Outcome, kind: Behaviour) -> float:
    """Micro-USDC an auction and bidder."""
    bidders = outcome.of(kind)
    return sum(one.profit for one in bidders) / (outcome.auctions * len(bidders)) / MICRO_USDC


def profit_as_truthful(outcome: Outcome, kind: Behaviour) -> float:
    """The same, had that bidder alone been truthful."""
    bidders = outcome.of(kind)
    return sum(one.profit_as_truthful for one in bidders) / (outcome.auctions * len(bidders)) / MICRO_USDC


def table(found: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    ruler = ("---", *("---:",) * (len(HEADINGS) - 1))
    return "".join(f"| {' | '.join(row)} |\n" for row in (HEADINGS, ruler, *found))


def draw(outcome: Outcome, target: Path) -> None:
    """Write the plot: payments against costs for a sample of jobs, and profits as they are and as they would be."""
    with mpl.rc_context({"svg.hashsalt": "pinaivu", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        payments, profits = figure.subplots(1, 2, width_ratios=(1.1, 1))
        _draw_payments(payments, outcome)
        _draw_profits(profits, outcome)
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})


def _draw_payments(axes: Axes, outcome: Outcome) -> None:
    for kind, colour in zip(KINDS, COLOURS, strict=True):
        samples = outcome.of(kind)[0].samples
        axes.plot(
            [one.cost for one in samples],
            [one.paid for one in samples],
            linestyle="none",
            marker="o",
            markersize=3,
            color=colour,
            alpha=0.6,
            label=kind.name,
        )
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, label="paid = cost")
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--", label="list price")
    axes.set(xlabel="cost of the job / list price", ylabel="paid / list price", xlim=(0, 1), ylim=(0, 1.05))
    axes.set_title("What a job was paid against what it cost its winner")
    axes.legend(fontsize=7, loc="lower right")


def _draw_profits(axes: Axes, outcome: Outcome) -> None:
    places = range(len(KINDS))
    as_is = [profit(outcome, kind) for kind in KINDS]
    as_truthful = [profit_as_truthful(outcome, kind) for kind in KINDS]
    axes.barh([place - 0.2 for place in places], as_is, 0.4, color=COLOURS, label="as it behaves")
    axes.barh(
        [place + 0.2 for place in places],
        as_truthful,
        0.4,
        color="none",
        edgecolor="black",
        label="had it been truthful",
    )
    axes.set_yticks(list(places), [kind.name for kind in KINDS])
    axes.invert_yaxis()
    axes.set(xlabel="micro-USDC an auction")
    axes.set_title("Profit of one bidder; outlined, had it been truthful")


def with_table(page: str, written: str) -> str:
    """The page with the table between its marks exchanged."""
    before, rest = page.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n{written}\n{MARKS[1]}{after}"


def main() -> None:
    """Simulate, print, write."""
    outcome = simulate(seed=SEED, auctions=AUCTIONS)
    written = table(list(rows(outcome)))
    print(written, end="")
    print(f"{outcome.auctions:,} auctions, {outcome.violations} paid above the list price or below the ask")
    draw(outcome, PLOT)
    PAGE.write_text(with_table(PAGE.read_text(), written))


if __name__ == "__main__":
    main()
