"""What limits reserve, as properties of the arithmetic: never less than a job can cost, never more than is left."""

from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute

from pinaivu_host.gateway.limit_headers import format_duration, headers_of
from pinaivu_host.gateway.reservation import Reservation
from pinaivu_host.store.key_charges import month_start_ms, next_month_ms
from pinaivu_host.store.limits import Level
from pinaivu_host.store.limits_windows import Window
from pinaivu_shared.money import amount_owed, charge_on

PRICES = st.integers(1, 2**40)
TOKENS = st.integers(0, 2**31)
DAY_MS = 86_400_000


@st.composite
def reservations(draw: st.DrawFn) -> Reservation:
    request_bytes = draw(st.integers(0, 10**7))
    return Reservation(
        request_bytes=request_bytes,
        prompt_tokens=request_bytes + draw(st.integers(0, 65_536)),
        max_tokens=draw(TOKENS),
        expected_tokens=draw(st.none() | st.integers(0, 10**6)),
        input_price=draw(PRICES),
        output_price=draw(PRICES),
        fee_bps=draw(st.integers(0, 10_000)),
    )


def cost(of: Reservation, prompt_tokens: int, completion_tokens: int) -> int:
    payment = amount_owed(
        input_price=of.input_price,
        prompt_tokens=prompt_tokens,
        output_price=of.output_price,
        completion_tokens=completion_tokens,
    )
    return charge_on(payment, of.fee_bps)


@given(reservations(), st.integers(-10, 10**15), st.data())
def test_what_is_reserved_pays_for_whatever_is_used_and_is_there(
    of: Reservation, left: int, data: st.DataObject
) -> None:
    found = of.cost_within(left)
    if found is None:
        assert cost(of, of.prompt_tokens, min(of.max_tokens, 1)) > left, "not even one token is left"
        return
    reserved, tokens = found
    assert reserved <= left
    assert tokens <= of.max_tokens
    assert tokens == of.max_tokens or cost(of, of.prompt_tokens, tokens + 1) > left, "no shorter than it must be"
    prompt, completion = data.draw(st.integers(0, of.prompt_tokens)), data.draw(st.integers(0, tokens))
    assert cost(of, prompt, completion) <= reserved


@given(reservations(), TOKENS)
def test_tokens_are_the_prompt_at_four_bytes_each_and_the_answer_that_is_allowed_or_else_a_default(
    of: Reservation, allowed: int
) -> None:
    least, most = (tokens - of.request_bytes // 4 for tokens in of.tokens(allowed))
    if of.expected_tokens is None:
        assert least == most == allowed
    elif of.expected_tokens == 0:
        assert (least, most) == (0, allowed)
    else:
        assert most == (min(allowed, 4096) if allowed else 4096)
        assert least == min(most, of.expected_tokens)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.001, 60), st.data())
def test_after_the_wait_there_is_room_and_before_there_was_none(
    limit: int, previous: int, current: int, left_s: float, data: st.DataObject
) -> None:
    amount = data.draw(st.integers(1, limit))
    window = Window(previous, left_s, current, left_s + 60)
    wait_s = window.wait_s(limit=limit, cost=amount, window_s=60)
    assert 1 <= wait_s <= 121
    assert _counted(window, wait_s) < limit - amount + 1
    assert wait_s == 1 or _counted(window, wait_s - 1) > limit - amount + 1 - 1e-3 * (previous + current + 1)


def _counted(window: Window, after_s: float) -> float:
    """What counts so many seconds later, as the package `limits` weighs it."""
    span = RateLimitItemPerMinute(1).get_expiry()
    if after_s < window.previous_s:
        return window.previous * (window.previous_s - after_s) / span + window.current
    return window.current * max(0.0, window.current_s - after_s) / span


@given(st.integers(0, 10**10))
def test_a_duration_is_read_back_as_go_reads_it(duration_ms: int) -> None:
    assert _parsed_ms(format_duration(duration_ms)) == duration_ms


def test_durations_look_like_openais() -> None:
    shown = {0: "0s", 12: "12ms", 999: "999ms", 1000: "1s", 60_500: "1m0.5s", 360_000: "6m0s", 3_600_000: "1h0m0s"}
    assert {duration_ms: format_duration(duration_ms) for duration_ms in shown} == shown


def test_headers_are_plain_numbers_and_durations() -> None:
    assert headers_of({"tokens": Level(1000, 7, 90_000)}) == (
        ("x-ratelimit-limit-tokens", "1000"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("x-ratelimit-reset-tokens", "1m30s"),
    )


@given(st.integers(0, 4_102_444_800_000))
def test_a_month_ends_where_the_next_begins(time_ms: int) -> None:
    start_ms, end_ms = month_start_ms(time_ms), next_month_ms(time_ms)
    assert start_ms <= time_ms < end_ms
    assert end_ms - start_ms in {days * DAY_MS for days in (28, 29, 30, 31)}
    assert (month_start_ms(end_ms - 1), month_start_ms(end_ms)) == (start_ms, end_ms)


def _parsed_ms(text: str) -> int:
    """`time.ParseDuration`, of the units that are used."""
    if text.endswith("ms"):
        return int(text.removesuffix("ms"))
    total_ms, rest = 0, text
    for unit, unit_ms in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        number, found, after = rest.partition(unit)
        if found:
            total_ms, rest = total_ms + round(float(number) * unit_ms), after
    assert rest == ""
    return total_ms
