"""Hopping windows, windows of some series only, and windows over the time of arrival."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from headwater_edge import snapshot
from headwater_edge.events import Settings
from headwater_edge.settings import EdgeSettings, StepSettings, WindowSettings, step_settings
from headwater_edge.state import State
from headwater_edge.window_settings import SomeWindows
from headwater_shared.errors import SettingsError
from tests.edge.feed import DAY, Message, S, hopping, session, step_settings_of
from tests.edge.run import Run
from tests.edge.test_rules import FLOW, TEMP, message, parts, run


def test_a_reading_is_in_every_hopping_window_around_it() -> None:
    """Windows of 30 s begin every 10 s: each reading is in three, each of which goes out once, at its end."""
    agent = run(step_settings_of(hopping("30s", "10s")))
    agent.tick(message(3))
    agent.tick(message(14))
    agent.tick(message(60))
    closed = [(part[0], part[4]) for output in agent.outputs for part in parts(output, "30s/10s")]
    assert closed == [(-20, 1), (-10, 2), (0, 2), (10, 1)]
    agent.flush()
    agent.check()


def test_every_open_hopping_window_has_a_pane_of_its_own() -> None:
    """However short windows are held: of readings in order each goes out once, whole."""
    agent = run(step_settings_of(hopping("1m", "10s"), levels=("10s",), held="0s", lateness="0s"))
    for at in range(0, 600, 5):
        agent.tick(message(at))
    agent.flush()
    rows = [part for output in agent.outputs for part in parts(output, "1m/10s")]
    assert len({part[0] for part in rows}) == len(rows) == 65
    agent.check()


def test_r07_a_late_reading_revises_every_hopping_window_that_it_is_in() -> None:
    """Once each, under its identity; those that are still open take it in, and go out once."""
    agent = run(step_settings_of(hopping("30s", "10s")))
    agent.tick(message(3))
    agent.tick(message(34))
    before = {part[:3]: part for output in agent.outputs for part in parts(output, "30s/10s")}
    assert [place[0] for place in before] == [-20, -10, 0]
    late = agent.tick(message(12))
    assert parts(late, "30s/10s") == [
        (start, epoch, tick, 1, 2) for start, epoch, tick in before if start != -20
    ]
    agent.flush()
    agent.check()


def test_r07_a_late_reading_for_hopping_windows_that_are_gone_is_a_part_in_each() -> None:
    """Of its own, beside the ones of before."""
    agent = run(step_settings_of(hopping("30s", "10s"), levels=("10s",), held="0s"))
    for at in range(0, 300, 10):
        agent.tick(message(at))
    late = agent.tick(message(12), message(13))
    assert parts(late, "30s/10s") == [(start, 1, late.tick, 0, 2) for start in (-10, 0, 10)]
    agent.flush()
    agent.check()


def test_r01_hopping_windows_are_sealed_by_a_start() -> None:
    """What is open goes out as it is, and what follows is a second part of each window."""
    agent = run(step_settings_of(hopping("30s", "10s"), levels=("10s",)))
    agent.tick(message(3))
    assert [part[:2] for part in parts(agent.start(), "30s/10s")] == [(-20, 1), (-10, 1), (0, 1)]
    agent.tick(message(4))
    assert [part[:2] for part in parts(agent.flush(), "30s/10s")] == [(-20, 2), (-10, 2), (0, 2)]
    agent.check()


def test_only_series_that_match_have_the_windows_of_a_table() -> None:
    """New series are looked at as they come; two tables of one definition are one level."""
    settings = step_settings_of(
        hopping("20s", "10s", "*/temp"),
        hopping("20s", "10s", "s9/*"),
        session("1m", "*/flow"),
        levels=("10s",),
    )
    assert [level.name for level in settings.some_levels] == ["20s/10s", "session-1m"]
    agent = run(settings)
    agent.tick(message(1), message(2, name=FLOW))
    names = [f"s{n}/d/{metric}" for n in range(80) for metric in ("temp", "flow", "else")]
    agent.tick(*(message(3, name=name) for name in names))
    agent.picture()
    agent.crash(agent.pictures[-1])
    agent.tick(message(4, name="s9/late/else"))
    agent.flush()
    agent.check(sessions_too=True)
    levels = {(name, level) for name, level, _ in agent.merged.windows()}
    assert {level for name, level in levels if name == TEMP} == {"10s", "20s/10s"}
    assert {level for name, level in levels if name == FLOW} == {"10s", "session-1m"}
    assert {level for name, level in levels if name == "s8/d/else"} == {"10s"}
    assert {level for name, level in levels if name in {"s9/d/else", "s9/late/else"}} == {"10s"} | {"20s/10s"}
    hopped = agent.state.levels.coarser[-1]
    assert len(hopped.ring) == hopped.ring.slots * 128  # room for the 82 that match, not for all


def test_windows_of_some_series_close_by_the_watermarks_of_their_own_devices() -> None:
    """Others that are far ahead, whatever their numbers are, close nobody else's."""
    slow, fast = "s1/slow/flow", "s1/fast/temp"
    agent = run(step_settings_of(hopping("20s", "10s", "*/flow"), session("10s", "*/flow"), levels=("10s",)))
    agent.tick(message(1000, name=fast), message(1, name=slow))
    agent.clock.advance(1)
    agent.tick(message(2000, name=fast), message(3, name=slow))
    assert [parts(output, level) for output in agent.outputs for level in ("20s/10s", "session-10s")] == [
        []
    ] * 6
    state = agent.state
    assert not state.levels.is_due(state.series_watermark(state.watermarks.advanced(agent.clock.now())))
    agent.tick(message(12, name=slow))
    assert [part[0] for part in parts(agent.outputs[-1], "20s/10s")] == [-10]
    assert parts(agent.outputs[-1], "session-10s") == []
    agent.flush()
    agent.check(sessions_too=True)


def arrival(**windows: Any) -> StepSettings:
    return step_settings_of(hopping("20s", "10s"), levels=("10s", "1m"), time="arrival", **windows)


def test_windows_over_the_time_of_arrival_know_nothing_of_the_times_sent() -> None:
    """Whatever a device's clock says, a reading is in the window of its arrival, in levels that are called so; the digest
    is of the time as sent, which tells the reading.
    """
    agent = run(arrival())
    agent.clock.wall_us = DAY + 3 * S
    agent.tick(message(-86_400), message(86_400, 2.0), Message(((TEMP, None, 3.0),)))
    agent.clock.advance(1)
    agent.tick(message(0))
    out = agent.flush()
    assert [(part[0], part[4]) for part in parts(out, "10s@arrival")] == [(0, 4)]
    assert [(part[0], part[4]) for part in parts(out, "20s/10s@arrival")] == [(-10, 4), (0, 4)]
    assert agent.state.counters.late == 0
    agent.check()


def test_windows_over_the_time_of_arrival_close_by_the_clock() -> None:
    """Once the clock is past the end, and no earlier; nothing waits for lateness, and nothing is late."""
    agent = run(arrival())
    agent.clock.wall_us = DAY
    agent.tick(message(0))
    agent.clock.advance(9.9)
    assert parts(agent.tick(message(1000)), "10s@arrival") == []
    marks = agent.state.watermarks.advanced(agent.clock.now())
    assert not agent.state.levels.is_due(agent.state.series_watermark(marks))
    agent.clock.advance(0.1)
    marks = agent.state.watermarks.advanced(agent.clock.now())
    assert agent.state.levels.is_due(agent.state.series_watermark(marks))
    assert [part[4] for part in parts(agent.tick(), "10s@arrival")] == [2]
    for _ in range(100):
        agent.clock.advance(3.3)
        agent.tick(message(-50_000), message(50_000))
    assert agent.state.counters.late == 0
    agent.flush()
    agent.check()


def test_r08_a_clock_that_is_set_back_begins_windows_of_arrivals_anew_and_loses_none() -> None:
    """What comes in the same tick revises windows that were closed; what comes after it is a part of their own."""
    agent = run(arrival())
    agent.tick(message(0))
    agent.clock.advance(30)
    agent.tick(message(1))
    agent.clock.wall_us -= 25 * S
    agent.tick(message(2))
    assert (agent.state.counters.set_back, agent.state.counters.late) == (1, 1)
    agent.tick(message(3))
    assert agent.state.counters.late == 1
    agent.flush()
    agent.check()


def test_r02_by_meaning_holds_for_windows_over_the_time_of_arrival() -> None:
    """The time as sent tells a resend, as long after its arrival as windows are held."""
    agent = run(arrival())
    agent.tick(message(5))
    agent.clock.advance(40)
    agent.tick(message(5), message(6))
    assert agent.state.counters.by_meaning == 1
    agent.flush()
    agent.check()


def test_r12_settings_of_an_older_version_are_read() -> None:
    """A journal row and a snapshot that know nothing of tables of windows: there are none."""
    old = msgspec.to_builtins(step_settings_of())
    del old["some_levels"]
    agent = run()
    agent.tick(message(1))
    output = agent.tick(events=(Settings(msgspec.json.encode(old).decode()),))
    assert agent.state.settings == step_settings_of()
    assert output.frames == []  # they are the same, so nothing was sealed
    agent.picture()
    picture = agent.pictures[-1]
    del picture.scalars["settings"]["some_levels"]
    restored = snapshot.restore(snapshot.decode(picture.tick, snapshot.encode(picture)))
    assert snapshot.fingerprint(restored) == snapshot.fingerprint(agent.state)


def table(**given: str) -> EdgeSettings:
    made: SomeWindows = msgspec.convert({"series": "*", **given}, SomeWindows)
    return EdgeSettings(window=(made,))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "tumbling"}, "needs a length"),
        ({"kind": "tumbling", "length": "1m", "hop": "10s"}, "has no hop"),
        ({"kind": "hopping", "length": "1m"}, "needs a hop"),
        ({"kind": "session", "length": "1m"}, "has no length"),
        ({"kind": "session"}, "needs a gap"),
        ({"kind": "tumbling", "length": "15s"}, "multiple of the base window, 10s"),
        ({"kind": "tumbling", "length": "0s"}, "no window length"),
        ({"kind": "hopping", "length": "1m", "hop": "15s"}, "multiple of the base window, 10s"),
        ({"kind": "hopping", "length": "1m", "hop": "40s"}, "2 to 1000 hops"),
        ({"kind": "hopping", "length": "1m", "hop": "1m"}, "2 to 1000 hops"),
        ({"kind": "hopping", "length": "1m", "hop": "0s"}, "multiple of the base window, 10s"),
        ({"kind": "hopping", "length": "1d", "hop": "10s"}, "2 to 1000 hops"),
        ({"kind": "session", "gap": "9s"}, "at least the base window, 10s"),
        ({"kind": "session", "gap": "10500ms"}, "no window length"),
        ({"kind": "tumbling", "length": "60s"}, "all series have 1m windows"),
    ],
)
def test_tables_that_make_no_window_are_refused(given: dict[str, str], says: str) -> None:
    """With the pattern of the table, and what it needs."""
    with pytest.raises(SettingsError, match=says):
        step_settings(table(**given))


def test_tables_make_levels_whose_names_say_what_they_are() -> None:
    """In the largest unit, and over the time that all windows are over."""
    made = [
        step_settings(table(**given)).some_levels[0].name
        for given in (
            {"kind": "tumbling", "length": "120s"},
            {"kind": "hopping", "length": "600s", "hop": "60s"},
            {"kind": "session", "gap": "90s"},
        )
    ]
    assert made == ["2m", "10m/1m", "session-90s"]
    by_arrival = EdgeSettings(
        windows=WindowSettings(time="arrival"), window=(session("5m"), hopping("1h", "10m"))
    )
    settings = step_settings(by_arrival)
    assert settings.levels == ("10s@arrival", "1m@arrival", "10m@arrival", "1h@arrival")
    assert [level.name for level in settings.some_levels] == ["session-5m@arrival", "1h/10m@arrival"]


def test_without_tables_a_step_has_nothing_more_to_do() -> None:
    """No level beside those that all series have: the common way is as it was."""
    levels = State(step_settings_of()).levels
    assert (levels.some, levels.sessions) == ([], [])
    assert all(a.level.length_us < b.level.length_us for a, b in pairwise(levels.coarser))


def test_a_large_tick_of_many_series_and_windows() -> None:
    """Hundreds of series, some hundred hopping windows each: panes by the ten thousand, none lost."""
    agent = Run(step_settings_of(hopping("10m", "10s"), session("10s"), levels=("10s",)))
    agent.start()
    names = [f"s{n % 7}/d{n}/temp" for n in range(120)]
    for at in (1, 15, 33, 90):
        agent.tick(*(message(at + n / 100, name=name) for n, name in enumerate(names)))
    agent.flush()
    agent.check(sessions_too=True)
    assert len(agent.merged.parts) > 120 * 60
