"""Weekly seasons, counters and states: what each says at a moment follows from seed and moment alone."""

from __future__ import annotations

import numpy as np
import pytest

from headwater_firmware_sim.signals import DAY_US, Counter, OnOff, Signal, WeeklySeason, generator

MONDAY_US = 20_416 * DAY_US  # 2025-11-24


@pytest.mark.parametrize(
    "signal",
    [WeeklySeason(size=2.0), Counter(rate=0.5), OnOff(slot="10s")],
    ids=lambda signal: type(signal).__name__,
)
def test_a_moment_says_the_same_whichever_moments_came_before(signal: Signal) -> None:
    """Whole blocks, halves, or the second half only: the same times have the same values."""
    times = MONDAY_US + np.arange(0, 3 * DAY_US, 7_000_000)
    whole = signal.start(generator(7, "a"))(times)
    later = signal.start(generator(7, "a"))(times[500:])
    assert later.tolist() == whole[500:].tolist()


def test_a_weekly_season_is_high_in_the_hours_of_work() -> None:
    """Monday to Friday from 8 to 17, and not at the weekend."""
    block = WeeklySeason(size=5.0, begin=8, end=17).start(generator(1, "any"))
    hours = MONDAY_US + np.arange(7 * 24) * (DAY_US // 24)
    busy = block(hours).reshape(7, 24) > 0
    assert busy[:5, 8:17].all()
    assert busy.sum() == 5 * 9


def test_a_counter_counts_up_in_pulses_and_wraps_around() -> None:
    """It grows by its rate, only by whole pulses, and goes down only where it begins at nothing again."""
    block = Counter(rate=0.5, pulse=0.25, wraps_at=100.0).start(generator(1, "meter"))
    values = np.concatenate([block(MONDAY_US + np.arange(n, n + 64) * 1_000_000) for n in range(0, 640, 64)])
    steps = np.diff(values)
    assert np.array_equal(values, np.floor(values / 0.25) * 0.25)
    (wraps,) = np.nonzero(steps < 0)
    assert len(wraps) == 3  # 320 in 640 s
    assert steps[steps >= 0].mean() == pytest.approx(0.5, rel=0.02)


def test_a_state_holds_for_its_slot_and_is_on_for_its_share() -> None:
    """Two values, changes at the edges of slots only, the share over many of them; other series are on at other times."""
    times = MONDAY_US + np.arange(0, 20_000) * 1_000_000
    door = OnOff(slot="10s", share=0.3)
    values = door.start(generator(1, "door"))(times)
    assert set(values.tolist()) == {0.0, 1.0}
    assert values.mean() == pytest.approx(0.3, abs=0.03)
    (changes,) = np.nonzero(np.diff(values))
    assert set(((times[changes + 1] // 1_000_000) % 10).tolist()) == {0}
    assert door.start(generator(1, "other"))(times).tolist() != values.tolist()
