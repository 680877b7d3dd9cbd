"""Money: integers of micro-USDC, USDC's own six decimals. Every rounding has a name and a direction."""

import re
from typing import Final, NewType

MicroUsdc = NewType("MicroUsdc", int)
"""An amount in millionths of a USDC."""

AMOUNT_MAX: Final = 10**15
"""A billion USDC: what a signed 64-bit integer and canonical JSON hold with room for sums."""
TOKENS_PER_PRICE: Final = 1_000_000
BASIS_POINTS: Final = 10_000
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]{1,6}))?")


def amount_owed(*, input_price: int, prompt_tokens: int, output_price: int, completion_tokens: int) -> MicroUsdc:
    """Price times tokens, rounded up to the next micro-USDC (DESIGN section 4)."""
    total = input_price * prompt_tokens + output_price * completion_tokens
    return MicroUsdc(-(-total // TOKENS_PER_PRICE))


def fee_on(payment: int, fee_bps: int) -> MicroUsdc:
    """The market's fee on a payment in basis points, rounded up."""
    return MicroUsdc(-(-payment * fee_bps // BASIS_POINTS))


def charge_on(payment: int, fee_bps: int) -> MicroUsdc:
    """What a customer owes for a payment: it and the fee."""
    return MicroUsdc(payment + fee_on(payment, fee_bps))


def payment_within(charge: int, fee_bps: int) -> MicroUsdc:
    """The largest payment whose charge is at most this."""
    payment = charge * BASIS_POINTS // (BASIS_POINTS + fee_bps)
    while payment > 0 and charge_on(payment, fee_bps) > charge:
        payment -= 1
    return MicroUsdc(payment)


def decimal_usdc(amount: int) -> str:
    """Micro-USDC as decimal text with six digits after the point: `0.000042`, `-0.000042`."""
    sign, whole = "-" if amount < 0 else "", abs(amount)
    return f"{sign}{whole // 1_000_000}.{whole % 1_000_000:06d}"


def format_usdc(amount: int) -> str:
    """The text of an amount on receipts: `0.000042 USDC`."""
    return f"{decimal_usdc(amount)} USDC"


def parse_usdc(text: str) -> MicroUsdc:
    """Read a decimal amount such as `1.50` (an optional ` USDC` may follow); ValueError for anything else."""
    match = _AMOUNT.fullmatch(text.removesuffix(" USDC"))
    if match is None:
        raise ValueError(f"{text[:32]!r} is no amount: digits, at most six of them after the point")
    whole, fraction = match.groups()
    return MicroUsdc(int(whole) * 1_000_000 + int((fraction or "").ljust(6, "0")))
