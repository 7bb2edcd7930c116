"""When a tick ends: by age, by size, and early within a token bucket (R19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.ticker import Ticker

MS, S = 1000, 1_000_000
SHORTEST, BIG = 250 * MS, 2500


def _early_ends(ticker: Ticker, seconds: float, *, urgent: bool, from_us: int = 0) -> int:
    """Ask for an early end of every tick, each begun the moment the one before was over, and look every millisecond."""
    before = ticker.early_ends
    for now_us in range(from_us, from_us + round(seconds * S), MS):
        ticker.began(now_us)
        ticker.ask_early(urgent=urgent)
        if ticker.is_over(now_us, 1):
            ticker.ended(now_us, 1)
    return ticker.early_ends - before


def test_r19_early_ends_come_out_of_a_token_bucket() -> None:
    """Four at once, then eight a second, whatever asks; after a calm second as many as there is room for: four."""
    ticker = Ticker(SHORTEST, BIG)
    assert _early_ends(ticker, 0.05, urgent=True) == 4
    assert _early_ends(ticker, 10, urgent=True, from_us=50 * MS) in {79, 80, 81}
    assert _early_ends(ticker, 0.05, urgent=True, from_us=20 * S) == 4


def test_r19_senders_that_wait_leave_tokens_to_what_is_urgent() -> None:
    """They take half of the bucket and go on at its rate; an anomaly that comes then still ends its tick at once, twice."""
    ticker = Ticker(SHORTEST, BIG)
    assert _early_ends(ticker, 0.05, urgent=False) == 2
    assert _early_ends(ticker, 0.05, urgent=True, from_us=50 * MS) == 2
    assert _early_ends(ticker, 10, urgent=False, from_us=100 * MS) in {77, 78, 79, 80}


def test_r19_one_urgent_asker_makes_the_tick_urgent() -> None:
    """In whatever order they ask; and the next tick is not urgent by that."""
    for order in ((True, False), (False, True)):
        ticker = Ticker(SHORTEST, BIG)
        _early_ends(ticker, 0.05, urgent=False)  # two tokens are left, for what is urgent
        ticker.began(50 * MS)
        for urgent in order:
            ticker.ask_early(urgent=urgent)
        assert ticker.is_over(50 * MS, 1)
        ticker.ended(50 * MS, 1)
        ticker.began(51 * MS)
        ticker.ask_early(urgent=False)
        assert not ticker.is_over(51 * MS, 1)


def test_without_a_token_a_tick_ages_like_any_other() -> None:
    """What asked in vain is committed when the tick is old, at the latest."""
    ticker = Ticker(SHORTEST, BIG)
    _early_ends(ticker, 0.05, urgent=True)
    ticker.began(50 * MS)
    ticker.ask_early()
    assert not ticker.is_over(51 * MS, 1)
    assert ticker.is_over(50 * MS + ticker.length_us(), 1)


def test_a_tick_that_nothing_asked_for_lasts_until_it_is_old_or_big() -> None:
    """250 ms at first, from the first burst on; 2,500 readings end it at once."""
    ticker = Ticker(SHORTEST, BIG)
    assert not ticker.is_over(10 * S, BIG)  # none has begun
    ticker.began(0)
    ticker.began(200 * MS)  # a later burst does not begin it again
    assert not ticker.is_over(SHORTEST - 1, BIG - 1)
    assert ticker.is_over(SHORTEST, 1)
    assert ticker.is_over(1, BIG)


@pytest.mark.parametrize(
    ("rate", "lasts_us"),
    [(0, SHORTEST), (20, S), (200, S), (400, 500 * MS), (800, SHORTEST), (100_000, SHORTEST)],
)
def test_calm_ticks_are_stretched_up_to_a_second(rate: int, lasts_us: int) -> None:
    """So that a commit is worth its pages: about two hundred readings, between the shortest and a second."""
    ticker = Ticker(SHORTEST, BIG)
    now_us = 0
    for _ in range(50):
        ticker.began(now_us)
        now_us += 200 * MS
        ticker.ended(now_us, rate // 5)
    assert ticker.length_us() == pytest.approx(lasts_us, rel=0.01)


def test_a_shortest_time_above_a_second_is_kept() -> None:
    """A person may choose few commits."""
    assert Ticker(5 * S, BIG).length_us() == 5 * S
    ticker = Ticker(5 * S, BIG)
    ticker.began(0)
    ticker.ended(S, 10)
    assert ticker.length_us() == 5 * S


acts = st.lists(
    st.tuples(st.integers(0, 400 * MS), st.sampled_from(("burst", "urgent", "waiting")), st.integers(0, 200)),
    max_size=40,
)


@given(acts)
def test_when_it_is_due_it_is_over(todo: list[tuple[int, str, int]]) -> None:
    """A timer set by `due_in_us` finds its tick over: no tick waits for another burst, and no timer fires in vain."""
    ticker = Ticker(SHORTEST, BIG)
    now_us = readings = 0
    begun = False
    for wait_us, name, more in todo:
        now_us += wait_us
        ticker.began(now_us)
        begun = True
        readings += more
        if name != "burst":
            ticker.ask_early(urgent=name == "urgent")
        if ticker.is_over(now_us, readings):
            ticker.ended(now_us, readings)
            readings, begun = 0, False
            continue
        due_us = ticker.due_in_us(now_us)
        assert 0 < due_us <= max(ticker.length_us(), SHORTEST)
    if begun:
        now_us += ticker.due_in_us(now_us)
        assert ticker.is_over(now_us, readings)
