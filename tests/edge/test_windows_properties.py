"""Hopping and session windows, and windows over the time of arrival, against the plain reference, whatever comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.settings import StepSettings
from tests.edge.feed import S, hopping, session, step_settings_of
from tests.edge.test_step_properties import VALUES, _act, _connected, acts

TABLES = (
    hopping("1m", "20s"),
    hopping("30s", "10s", "*/temp"),
    session("10s", "s1/*"),
    session("1m"),
)
SETTINGS = (
    step_settings_of(*TABLES),
    step_settings_of(
        hopping("6s", "2s"),
        session("1s"),
        session("7s"),
        levels=("1s", "3s"),
        held="2s",
        lateness="0s",
        idle="1s",
    ),
    step_settings_of(hopping("1m", "30s"), session("30s"), levels=("10s", "1m"), held="0s", lateness="30s"),
    step_settings_of(*TABLES, levels=("10s", "1m"), time="arrival", duplicates="transport"),
)
IDS = ("default", "short levels", "late devices", "by arrival")


@given(st.sampled_from(SETTINGS), st.lists(acts, max_size=25))
def test_each_reading_is_in_each_window_once_whatever_comes(
    settings: StepSettings, todo: list[tuple[str, object]]
) -> None:
    """Any interleaving of messages, resends, jumps, silences, flushes, snapshots, crashes and starts: hopping windows are
    the reference's, sessions part the readings, and none hides a silence longer than its gap.
    """
    run, devices = _connected(settings)
    for name, what in todo:
        _act(run, devices, name, what)
    run.flush()
    run.check()


NEAR = (0, 1, S, 3 * S, 9 * S, 10 * S, 11 * S, 59 * S, 60 * S, 60 * S + 1, 61 * S, 90 * S)
readings = st.tuples(
    st.integers(0, 4), st.booleans(), st.sampled_from(NEAR), st.sampled_from(VALUES), st.booleans()
)
acts_without_start = st.one_of(
    st.lists(
        st.tuples(st.lists(readings, min_size=1, max_size=4), st.booleans(), st.integers(1, 2)).map(
            lambda m: ("new", *m)
        ),
        max_size=6,
    ).map(lambda sends: ("tick", sends)),
    st.sampled_from((0.0, 0.5, 5.0, 12.0, 100.0)).map(lambda s: ("advance", s)),
    st.sampled_from(("picture", "crash", "flush")).map(lambda name: (name, None)),
)
LONG_HELD = (
    step_settings_of(session("10s"), session("1m"), levels=("10s",), held="4h"),
    step_settings_of(session("1m"), session("90s"), levels=("1m",), held="1d", lateness="90s"),
    step_settings_of(session("5s"), session("9s"), levels=("5s",), held="2h", lateness="0s", idle="0s"),
)


@given(st.sampled_from(LONG_HELD), st.lists(acts_without_start, max_size=25))
def test_sessions_are_the_references_while_they_are_held(
    settings: StepSettings, todo: list[tuple[str, object]]
) -> None:
    """No start, and nothing later than sessions are held: every session begins with its first reading, ends with its last
    and is whole, however late readings extended and bridged them; what was taken back left nothing behind.
    """
    run, devices = _connected(settings)
    for name, what in todo:
        _act(run, devices, name, what)
    run.flush()
    run.check(sessions_too=True)


@pytest.mark.parametrize("settings", SETTINGS, ids=IDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_reading_is_in_each_window_once_over_a_long_run(seed: int, settings: StepSettings) -> None:
    """Large ticks, late batches, crashes and starts: rings turn over, tables of sessions grow and are cut back."""
    chance = random.Random(seed)
    run, devices = _connected(settings)
    for _ in range(120):
        made = []
        for _ in range(chance.choice((0, 1, 5, 40))):
            says = [
                devices.reading(
                    chance.randrange(5),
                    chance.random() < 0.4,
                    chance.choice((0, 1, S, 3 * S, 11 * S, 29 * S, 61 * S, 100 * S, 1000 * S))
                    // chance.choice((1, 1, 3)),
                    round(chance.gauss(20, 5), 3),
                    chance.random() < 0.95,
                )
                for _ in range(chance.choice((1, 1, 1, 5)))
            ]
            made.append(devices.message(says, chance.random() < 0.8, chance.randint(1, 2)))
        run.tick(*made)
        run.clock.advance(chance.choice((0.25, 0.25, 1.0, 15.0, 70.0)))
        for name, odds in (("picture", 0.03), ("crash and start", 0.02), ("flush", 0.01)):
            if chance.random() < odds:
                _act(run, devices, name, None)
    run.flush()
    run.check()
    taken_back = sum(int(part.row.count[0]) == 0 for part in run.merged.parts.values())
    assert taken_back > 10 or settings not in SETTINGS[:2]
