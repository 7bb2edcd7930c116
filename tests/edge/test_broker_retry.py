"""When an agent connects to its broker again: capped, decorrelated, anew only after a connection that lasted."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from headwater_edge.broker_retry import Retry


@pytest.mark.parametrize("away_s", [0.1, 5.0, 60.0, 600.0])
def test_a_thousand_agents_come_back_spread_out_and_all(away_s: float) -> None:
    """However long their broker is away: at most half of them try in any one second, at most a quarter comes in, and all
    are back within the longest wait. Without jitter all thousand would in the same one.
    """
    draw = random.Random(7)
    returned: list[float] = []
    attempts: Counter[int] = Counter()
    for _ in range(1000):
        retry, now, lasted = Retry(5.0, 60.0, uniform=draw.uniform), 0.0, 3600.0
        while now < away_s:
            now += retry.after(lasted)
            lasted = 0.0
            attempts[int(now)] += 1
        returned.append(now - away_s)
    assert max(returned) <= 60.0
    assert max(Counter(map(int, returned)).values()) <= 250
    assert max(attempts.values()) <= 500


def test_delays_grow_to_the_cap_while_nothing_lasts() -> None:
    """A broker that lets in and drops is no better than one that is away; the cap holds."""
    retry = Retry(5.0, 60.0, uniform=lambda _, most: most)
    assert [retry.after(lasted) for lasted in (0.0, 0.0, 59.0, 1.0, 0.0)] == [5.0, 15.0, 45.0, 60.0, 60.0]


def test_a_connection_that_lasted_starts_the_delays_anew() -> None:
    """No back-off is stuck high."""
    retry = Retry(5.0, 60.0, uniform=lambda _, most: most)
    for _ in range(10):
        retry.after(0.0)
    assert retry.after(61.0) == 5.0


def test_after_a_takeover_the_wait_is_long_at_once() -> None:
    """Two agents with one client id end each other's connections: the less often the better."""
    retry = Retry(5.0, 60.0, uniform=lambda least, _: least)
    assert retry.after_takeover() == 30.0
