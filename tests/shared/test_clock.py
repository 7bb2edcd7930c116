"""The one clock: real, scaled, and set by tests; and what a scaled time is on the machine's own clock."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared.clock import (
    HELD,
    SYNCHRONISED,
    Now,
    RealClock,
    ScaledClock,
    SetClock,
    boot_id,
    parse_clock,
    wall_of,
)
from headwater_shared.errors import SettingsError
from tests.support import until

ORIGIN = 1_763_942_400_000_000
"""2025-11-24, in microseconds."""


def _wall_us() -> int:
    return time.time_ns() // 1000


def test_the_real_clock_is_the_machines() -> None:
    """Wall and monotonic time in microseconds, this boot, and a quality that believes a clock of this year."""
    before = _wall_us(), time.monotonic_ns() // 1000
    now = RealClock().now()
    assert before[0] <= now.wall_us <= _wall_us()
    assert before[1] <= now.mono_us <= time.monotonic_ns() // 1000
    assert (now.boot, now.quality) == (boot_id(), SYNCHRONISED)


def test_a_clock_before_this_code_was_written_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pi that boots in 1970 (R8): real and scaled say so; from 2025 on they are believed."""
    for year_2025_us, quality in ((-1, HELD), (0, SYNCHRONISED)):
        wall = 1_735_689_600_000_000 + year_2025_us
        monkeypatch.setattr(time, "time_ns", lambda wall=wall: wall * 1000)
        assert RealClock().now().quality == quality
        assert ScaledClock(60, 0).now().quality == quality


def test_a_scaled_clock_runs_so_many_times_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time from the origin on, monotonic time from its own zero; before the origin it is as far behind."""
    clock = ScaledClock(60, ORIGIN)
    for real_s in (0, 1, 3600, -2):
        monkeypatch.setattr(time, "time_ns", lambda s=real_s: (ORIGIN + s * 1_000_000) * 1000)
        assert clock.now().wall_us == ORIGIN + 60 * real_s * 1_000_000
    monkeypatch.setattr(time, "monotonic_ns", lambda: 5_000_000_000)
    assert clock.now().mono_us == 300_000_000


def test_two_scaled_clocks_of_one_origin_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes that are told the same setting show the same time."""
    setting = "scaled:7.5@2025-11-24T00:00:00+00:00"
    monkeypatch.setattr(time, "time_ns", lambda: (ORIGIN + 8_000_000) * 1000)
    assert parse_clock(setting).now().wall_us == parse_clock(setting).now().wall_us == ORIGIN + 60_000_000


@given(st.floats(0.01, 10_000), st.integers(-(10**15), 10**15))
def test_wall_of_undoes_the_scale(factor: float, real_us: int) -> None:
    """What a scaled clock shows at a moment is mapped back to that moment, to the resolution of a float (R24)."""
    clock = ScaledClock(factor, ORIGIN)
    shown = ORIGIN + int(real_us * factor)
    assert abs(wall_of(clock, shown) - (ORIGIN + real_us)) <= 1 + 1 / factor + abs(real_us) * 2**-50


@pytest.mark.parametrize("clock", [RealClock(), SetClock()])
def test_wall_of_an_unscaled_clock_is_what_it_shows(clock: Any) -> None:
    """There is nothing to undo."""
    assert wall_of(clock, ORIGIN) == ORIGIN


def test_monotonic_time_never_goes_back() -> None:
    """Real or scaled."""
    for clock in (RealClock(), ScaledClock(60, ORIGIN), ScaledClock(0.5, ORIGIN)):
        shown = [clock.now().mono_us for _ in range(100)]
        assert shown == sorted(shown)
        assert until(lambda clock=clock, last=shown[-1]: clock.now().mono_us > last)  # type: ignore[misc]


def test_the_tests_clock_moves_when_it_is_moved() -> None:
    """It stands still; `advance` moves both times by the same; wall, boot and quality can be set."""
    clock = SetClock(ORIGIN)
    first = clock.now()
    assert clock.now() == first == Now(ORIGIN, first.mono_us, "test-boot", SYNCHRONISED)
    clock.advance(1.5)
    assert (clock.now().wall_us - ORIGIN, clock.now().mono_us - first.mono_us) == (1_500_000, 1_500_000)
    clock.wall_us, clock.boot, clock.quality = 0, "next", HELD
    assert clock.now() == Now(0, first.mono_us + 1_500_000, "next", HELD)


@pytest.mark.parametrize(
    ("text", "factor", "origin_us"),
    [
        ("scaled:60@2025-11-24T00:00:00+00:00", 60.0, ORIGIN),
        ("scaled:60@2025-11-24T00:00:00Z", 60.0, ORIGIN),
        ("scaled:0.5@2025-11-24", 0.5, ORIGIN),
        ("scaled:1e3@2025-11-24T01:00:00.000001+01:00", 1000.0, ORIGIN + 1),
    ],
)
def test_a_setting_names_its_clock(text: str, factor: float, origin_us: int) -> None:
    """Factor and origin, the origin in UTC where it names no zone."""
    clock = parse_clock(text)
    assert isinstance(clock, ScaledClock)
    assert (clock._factor, clock._origin_us) == (factor, origin_us)


def test_a_scale_without_an_origin_begins_now() -> None:
    """Right for one process."""
    before = _wall_us()
    clock = parse_clock("scaled:60")
    assert isinstance(clock, ScaledClock)
    assert before <= clock._origin_us <= _wall_us()
    assert isinstance(parse_clock("real"), RealClock)


@pytest.mark.parametrize(
    "text",
    ["", "Real", "real ", "scaled", "scaled:", "scaled:0", "scaled:-1", "scaled:fast", "scaled:60@yesterday",
     "scaled:nan", "scaled:inf", "slow:60", "60"],
)  # fmt: skip
def test_what_is_no_clock(text: str) -> None:
    """It is refused, with what to write instead."""
    with pytest.raises(SettingsError) as refused:
        parse_clock(text)
    assert "scaled:60" in refused.value.hint


def test_wall_and_monotonic_time_of_a_scaled_clock_are_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that loses the processor between two looks at the machine's clocks looks again: stretched by the factor, the time
    between would be a clock that was set.
    """
    mono = iter([10_000_000, 15_000_000, 16_000_000, 16_010_000])  # 5 ms apart, then 10 us
    monkeypatch.setattr("time.monotonic_ns", lambda: next(mono))
    monkeypatch.setattr("time.time_ns", lambda: 1_800_000_000_000_000_000)
    assert parse_clock("scaled:1000@2025-11-24T00:00:00Z").now().mono_us == 16_005 * 1000
