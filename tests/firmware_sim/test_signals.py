"""Signals and faults: what each adds, and exactly where it begins and ends."""

from __future__ import annotations

import numpy as np
import pytest

from headwater_firmware_sim.faults import Drift, Dropout, Fault, LevelShift, Spike
from headwater_firmware_sim.signals import (
    DAY_US,
    DailySeason,
    DutyCycle,
    Noise,
    RandomWalk,
    Signal,
    generator,
)

HOUR_US = DAY_US // 24
ALL: list[Signal] = [
    DailySeason(size=8.0),
    RandomWalk(step=0.5, bound=4.0),
    Noise(deviation=2.0, memory=0.6),
    DutyCycle(size=3.0, period="90s", share=0.7),
]


@pytest.mark.parametrize("signal", ALL, ids=lambda signal: type(signal).__name__)
def test_a_signal_follows_from_its_seed(signal: Signal) -> None:
    """Block by block the same values come for the same seed and series, others for another."""
    times = np.arange(0, 64 * 1_000_000, 1_000_000)

    def two_blocks(*words: str) -> list[float]:
        block = signal.start(generator(7, *words))
        return [*block(times).tolist(), *block(times + 64_000_000).tolist()]

    assert two_blocks("pump-1", "flow") == two_blocks("pump-1", "flow")
    if not isinstance(signal, DailySeason):
        assert two_blocks("pump-1", "flow") != two_blocks("pump-2", "flow")


def test_a_daily_season_peaks_at_its_hour_and_has_a_day() -> None:
    """Highest at the hour set, lowest twelve hours later, and the same a day on."""
    block = DailySeason(size=8.0, peak=15.0).start(generator(1, "any"))
    day = np.arange(24) * HOUR_US
    values = block(day)
    assert int(values.argmax()) == 15
    assert int(values.argmin()) == 3
    assert values.max() == pytest.approx(8.0)
    assert block(day + DAY_US).tolist() == values.tolist()


def test_a_random_walk_moves_in_steps_and_stays_inside() -> None:
    """Steps have the deviation set, and the walk comes back from its bounds."""
    block = RandomWalk(step=0.1, bound=3.0).start(generator(1, "walk"))
    values = np.concatenate([block(np.arange(1000)) for _ in range(20)])
    assert np.abs(values).max() <= 3.0
    assert values.max() > 2.5
    assert values.min() < -2.5
    steps = np.diff(values)
    assert steps.std() == pytest.approx(0.1, rel=0.05)


def test_noise_has_its_deviation_and_its_memory() -> None:
    """Autoregressive of first order: deviation and correlation with the sample before are those set."""
    block = Noise(deviation=2.0, memory=0.6).start(generator(1, "noise"))
    values = np.concatenate([block(np.arange(1000)) for _ in range(30)])
    assert values.std() == pytest.approx(2.0, rel=0.05)
    assert np.corrcoef(values[:-1], values[1:])[0, 1] == pytest.approx(0.6, abs=0.03)


def test_a_duty_cycle_is_on_for_its_share() -> None:
    """Two levels; on for the share of each period; each series begins at a moment of its own."""
    times = np.arange(0, 900_000_000, 100_000)
    on = DutyCycle(size=3.0, period="90s", share=0.7)
    values = on.start(generator(1, "a"))(times)
    assert set(values.tolist()) == {0.0, 3.0}
    assert (values > 0).mean() == pytest.approx(0.7, abs=0.01)
    assert np.count_nonzero(np.diff(values)) in range(19, 22)
    assert on.start(generator(1, "b"))(times).tolist() != values.tolist()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Spike(device="d", begin="0s", end="4s", size=8.0), [18.0, 16.0, 14.0, 12.0]),
        (Drift(device="d", begin="0s", end="4s", size=8.0), [10.0, 12.0, 14.0, 16.0]),
        (LevelShift(device="d", begin="0s", end="4s", size=8.0), [18.0] * 4),
        (Dropout(device="d", begin="0s", end="4s"), [float("nan")] * 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_fault_does_to_its_samples(fault: Fault, expected: list[float]) -> None:
    """A spike falls back, a drift grows, a level shift stays, a dropout leaves nothing."""
    found = fault.apply(np.array([0.0, 0.25, 0.5, 0.75]), np.full(4, 10.0))
    assert np.array_equal(found, np.array(expected), equal_nan=True)
