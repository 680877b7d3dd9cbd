"""`make bench`: print every figure, one a line."""

from rich.console import Console
from rich.table import Table
from tests.bench.auction import bench_auction
from tests.bench.core import bench_core
from tests.bench.gateway import bench_gateway
from tests.bench.leaving import bench_leaving


def main() -> None:
    """Measure in turn; the table is complete or an exception says what broke."""
    table = Table("figure", "value")
    for what, figure in [*bench_core(), *bench_auction(), *bench_gateway(), *bench_leaving()]:
        table.add_row(what, figure)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
