"""A lot and bids for tests of the auction rule."""

from pinaivu_shared.second_score import Bid, Lot

LOT = Lot(
    request_id="req_01m7q5cqg04s5atv5pvmggzb6k",
    attempt=1,
    model="m",
    prompt_tokens=100,
    completion_tokens=200,
    input_reserve_price=40_000,
    output_reserve_price=120_000,
)


def bid(number: int, input_price: int, output_price: int, *, quality: int, operator: str = "") -> Bid:
    """A bid of node `number`, whose operator is its own unless named."""
    return Bid(
        node_id=f"node_{number:032x}",
        operator=operator or f"operator-{number}",
        quote="sha256:" + "0" * 64,
        input_price=input_price,
        output_price=output_price,
        quality_bps=quality,
    )
