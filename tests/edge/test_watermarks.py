"""Watermarks against plain numbers: how far each device's event time has certainly come (R8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.recent import NEVER
from headwater_edge.watermarks import Watermarks
from headwater_shared.clock import HELD, SYNCHRONISED, Now

LATENESS, IDLE = 2_000, 10_000
DEVICES = 3


@dataclass
class Device:
    """One device of the account: all that R8 asks for."""

    silent_us: int = 0
    newest: int | None = None
    mark: int = NEVER

    def advance(self) -> None:
        if self.newest is not None:
            idle = self.silent_us if self.silent_us > IDLE else 0
            self.mark = max(self.mark, self.newest - LATENESS + idle)


readings = st.lists(
    st.tuples(st.integers(0, DEVICES - 1), st.integers(-(2**61), 2**61)), min_size=1, max_size=5
)
acts = st.one_of(
    readings.map(lambda what: ("hear", what)),
    st.integers(0, 30_000).map(lambda us: ("wait", us)),
    st.tuples(st.integers(-50_000, 50_000), st.sampled_from((SYNCHRONISED, HELD))).map(
        lambda how: ("boot", how)
    ),
    st.integers(0, 30_000).map(lambda us: ("start", us)),
)


@given(st.lists(acts, max_size=20))
def test_r08_a_mark_is_what_the_rule_says(todo: list[tuple[str, Any]]) -> None:
    """Behind the newest reading, on by monotonic time in silence, over a boot only by a believed clock, never back."""
    marks, plain = Watermarks(LATENESS, IDLE), [Device() for _ in range(DEVICES)]
    now = Now(1_800_000_000_000_000, 10**9, "boot 0", SYNCHRONISED)
    marks.grow(DEVICES, now)
    for number, (name, what) in enumerate(todo):
        before, away = now, 0
        if name == "hear":
            devices, event = (np.array(column, np.int64) for column in zip(*what, strict=True))
            marks.hear(devices, event, np.zeros(len(event), np.bool_), now)
            for at, time_us in what:
                newest = plain[at].newest
                plain[at].newest = time_us if newest is None else max(newest, time_us)
                plain[at].silent_us = 0
        elif name == "wait":
            away = what
            now = now._replace(
                wall_us=now.wall_us - 3 * away, mono_us=now.mono_us + away
            )  # the wall means nothing
        elif name == "boot":
            wall, quality = what
            now = Now(now.wall_us + wall, 5_000 * number, f"boot {number + 1}", quality)
            away = max(wall, 0) if quality == before.quality == SYNCHRONISED else 0
            marks.start(before, now)
        else:
            away = what
            now = now._replace(wall_us=now.wall_us - 3 * away, mono_us=now.mono_us + away)
            marks.start(before, now)
        for device in plain:
            device.silent_us += away
        looked = marks.advanced(now).tolist()
        last = marks.mark.tolist()
        found = marks.advance(now).tolist()
        for device in plain:
            device.advance()
        assert found == looked == [device.mark for device in plain]
        assert all(mark >= earlier for mark, earlier in zip(found, last, strict=True))


def test_r08_looking_changes_nothing() -> None:
    """What the marks will be at a later time can be asked without moving them."""
    marks = Watermarks(LATENESS, IDLE)
    now = Now(0, 0, "b", SYNCHRONISED)
    marks.grow(1, now)
    marks.hear(np.array([0]), np.array([50_000]), np.zeros(1, np.bool_), now)
    assert marks.advanced(now._replace(mono_us=IDLE + 1)).tolist() == [50_000 - LATENESS + IDLE + 1]
    assert marks.mark.tolist() == [NEVER]
    assert marks.advanced(now).tolist() == [50_000 - LATENESS]


def test_r08_a_first_start_has_nothing_to_bridge() -> None:
    """Without a time before, nothing is moved."""
    marks = Watermarks(LATENESS, IDLE)
    marks.grow(2, Now(0, 7, "b", SYNCHRONISED))
    marks.start(None, Now(99, 99, "c", SYNCHRONISED))
    assert marks.heard.tolist() == [7, 7]
