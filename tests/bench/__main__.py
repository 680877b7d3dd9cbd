"""`make bench`: print every figure, one a line. `python -m tests.bench gateway` prints one part of them."""

import argparse
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from tests.bench.auction import bench_auction
from tests.bench.core import bench_core
from tests.bench.flood import bench_flood, bench_idle_streams
from tests.bench.gateway import bench_gateway
from tests.bench.leaving import bench_leaving
from tests.bench.peer import bench_peer

PARTS: dict[str, tuple[Callable[[], list[tuple[str, str]]], ...]] = {
    "core": (bench_core,),
    "auction": (bench_auction,),
    "network": (bench_gateway,),
    "leaving": (bench_leaving,),
    "gateway": (bench_peer, bench_flood, bench_idle_streams),
}


def main() -> None:
    """Measure in turn; the table is complete or an exception says what broke."""
    parser = argparse.ArgumentParser(prog="tests.bench", description="Figures, as ratios measured side by side.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless some are named")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    table = Table("figure", "value")
    for part in parts:
        for bench in PARTS[part]:
            for what, figure in bench():
                table.add_row(what, figure)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
