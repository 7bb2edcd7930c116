"""Session windows: where one begins and ends, what late readings, starts and other settings do to it (R1, R7, R12)."""

from __future__ import annotations

import msgspec
import pytest

from headwater_edge.events import Settings, Start
from headwater_edge.session_level import MOST
from headwater_edge.settings import StepSettings
from headwater_edge.step import completeness
from tests.edge.feed import DAY, S, hopping, session, step_settings_of
from tests.edge.run import Run
from tests.edge.test_rules import TEMP, message, parts, run

MINUTE = "session-1m"


def of(*tables: object, **windows: object) -> StepSettings:
    return step_settings_of(*(tables or (session("1m"),)), **{"levels": ("10s",), **windows})  # type: ignore[arg-type]


def used(agent: Run, level: int = 0) -> list[tuple[int, int, int, bool]]:
    """Return (start, first, last, sealed) of the sessions in memory, in seconds after DAY."""
    table = agent.state.levels.sessions[level]
    columns = (table.start, table.first, table.last)
    rows = zip(
        *(((c[table.used] - DAY) // S).tolist() for c in columns), table.sealed[table.used], strict=True
    )
    return sorted((start, first, last, bool(sealed)) for start, first, last, sealed in rows)


def test_a_silence_longer_than_the_gap_ends_a_session_and_one_as_long_does_not() -> None:
    """Exact to the microsecond, wherever base windows begin and end; a session begins with its first reading."""
    agent = run(of())
    agent.tick(message(3), message(63), message(123.000001))
    out = agent.flush()
    assert [(part[0], part[4]) for part in parts(out, MINUTE)] == [(3, 2), (123, 1)]
    agent.check(sessions_too=True)


def test_a_session_is_open_while_a_base_window_is_that_may_hold_a_reading_of_it() -> None:
    """The gap ends at 63 s, the base window around that at 70 s: only then is the session over, and out at once."""
    agent = run(of(lateness="0s"))
    agent.tick(message(3))
    agent.tick(message(14))
    assert parts(agent.tick(message(63, name="s1/d1/flow")), MINUTE) == []  # the device's watermark
    agent.tick(message(79.999999, name="s1/d1/flow"))
    assert parts(agent.outputs[-1], MINUTE) == []
    out = agent.tick(message(80, name="s1/d1/flow"))
    assert [part[0] for part in parts(out, MINUTE)] == [3]
    ((_, (complete_us, _)),) = completeness(agent.state).shards.items()
    assert complete_us == DAY + 80 * S  # a session is over with the base window in which its gap ends


def test_a_silent_device_s_session_ends_by_the_passing_of_time() -> None:
    """The agent is due for a tick without messages when time alone ends one, and not before."""
    agent = run(of())
    agent.tick(message(3))
    agent.clock.advance(30)
    agent.tick()
    levels, marks = agent.state.levels, agent.state.watermarks
    assert not levels.is_due(agent.state.series_watermark(marks.advanced(agent.clock.now())))
    agent.clock.advance(60)
    assert levels.is_due(agent.state.series_watermark(marks.advanced(agent.clock.now())))
    assert [part[4] for part in parts(agent.tick(), MINUTE)] == [1]


def test_r07_a_late_reading_within_a_held_session_revises_it() -> None:
    """Whole again, under the same identity, with the next revision."""
    agent = run(of())
    opened = agent.tick(message(3), message(40)).tick
    agent.tick(message(200))
    assert parts(agent.outputs[-1], MINUTE) == [(3, 1, opened, 0, 2)]
    late = agent.tick(message(20))
    assert parts(late, MINUTE) == [(3, 1, opened, 1, 3)]
    agent.flush()
    agent.check(sessions_too=True)


def test_r07_a_late_reading_that_moves_the_end_beyond_the_watermark_opens_the_session_again() -> None:
    """It goes on, and its revision goes out when it is over."""
    agent = run(of())
    opened = agent.tick(message(3), message(40)).tick
    agent.tick(message(130))
    late = agent.tick(message(90))
    assert parts(late, MINUTE) == []
    on = agent.tick(message(140))
    assert parts(on, MINUTE) == []
    over = agent.tick(message(300))
    assert parts(over, MINUTE) == [(3, 1, opened, 1, 5)]
    agent.flush()
    agent.check(sessions_too=True)


def test_r07_a_session_that_absorbs_another_sends_it_with_count_0() -> None:
    """A late reading bridges two that are out: the later one is taken back, the earlier one holds all, in one frame."""
    agent = run(of(held="10m"))
    first = agent.tick(message(3), message(100)).tick
    second = agent.tick(message(300)).tick
    assert parts(agent.outputs[-2], MINUTE) == [(3, 1, first, 0, 1)]
    assert parts(agent.outputs[-1], MINUTE) == [(100, 1, second, 0, 1)]
    late = agent.tick(message(50))
    assert len(late.frames) == 1
    assert parts(late, MINUTE) == [(3, 1, first, 1, 3), (100, 1, second, 1, 0)]
    assert (3, 3, 100, False) in used(agent)
    agent.flush()
    agent.check(sessions_too=True)


def test_r07_what_absorbed_a_session_goes_out_with_it_though_it_is_not_over() -> None:
    """Late readings bridge two and go on to the watermark: stores lack nothing meanwhile, and get the rest at its end."""
    agent = run(of(held="10m"))
    agent.tick(message(3), message(100))
    agent.tick(message(300))
    late = agent.tick(*(message(at) for at in (50, 150, 200, 250)))
    assert [(part[0], part[3], part[4]) for part in parts(late, MINUTE)] == [(3, 1, 6), (100, 1, 0)]
    assert parts(agent.tick(message(355)), MINUTE) == []
    over = agent.flush()
    assert [(part[0], part[3], part[4]) for part in parts(over, MINUTE)] == [(3, 2, 8)]
    agent.check(sessions_too=True)


def test_r07_a_late_reading_before_a_session_that_is_out_moves_its_start() -> None:
    """The start is the window's identity: the old one is taken back, all is in a new part, in one frame."""
    agent = run(of())
    opened = agent.tick(message(50), message(100)).tick
    agent.tick(message(300))
    late = agent.tick(message(20))
    assert len(late.frames) == 1
    assert parts(late, MINUTE) == [(20, 1, late.tick, 0, 3), (50, 1, opened, 1, 0)]
    again = agent.tick(message(10))
    assert parts(again, MINUTE) == [(10, 1, again.tick, 0, 4), (20, 1, late.tick, 1, 0)]
    agent.flush()
    agent.check(sessions_too=True)


def test_r07_a_session_that_is_not_out_yet_moves_its_start_in_silence() -> None:
    """Nothing has to be taken back."""
    agent = run(of(lateness="20s"))
    agent.tick(message(50))
    agent.tick(message(85))
    agent.tick(message(30))
    agent.flush()
    assert [part[3:] for output in agent.outputs for part in parts(output, MINUTE)] == [(0, 3)]
    agent.check(sessions_too=True)


def test_r07_many_sessions_become_one_in_one_tick() -> None:
    """A batch of late readings, some of them inside of sessions, chains five of them and a new one together."""
    agent = run(of(held="20m"))
    agent.tick(*(message(at) for at in (0, 100, 200, 300, 400)))
    agent.tick(message(1000))
    late = agent.tick(*(message(at) for at in (350, 250, 150, 50, 60, 100.5, 460)))
    rows = parts(late, MINUTE)
    assert [(start, count) for start, *_, count in rows] == [(0, 12), (100, 0), (200, 0), (300, 0), (400, 0)]
    agent.flush()
    agent.check(sessions_too=True)


def test_r01_a_start_seals_open_sessions_and_what_follows_is_a_part_of_the_same_window() -> None:
    """The old part stays as it was put out; the new epoch's part bears the session's start, and the cloud merges both."""
    agent = run(of())
    agent.tick(message(3))
    agent.tick(message(30))
    sealed = agent.start()
    assert parts(sealed, MINUTE) == [(3, 1, sealed.tick - 1, 0, 2)]
    agent.tick(message(60))
    agent.start()
    agent.tick(message(100))
    out = agent.tick(message(400))
    assert [part[:2] for part in parts(out, MINUTE)] == [(3, 3)]
    agent.flush()
    agent.check(sessions_too=True)  # no reading was late: all is as if there had been no start


def test_r01_a_session_of_an_older_epoch_is_never_taken_back() -> None:
    """A late reading before it joins it, under the start that it has; one that bridges two joins the earlier one."""
    agent = run(of(held="10m"))
    agent.tick(message(50), message(150))
    agent.tick(message(400))
    agent.start()
    before = agent.tick(message(20))
    assert parts(before, MINUTE) == [(50, 2, before.tick, 0, 1)]
    bridge = agent.tick(message(100))
    assert parts(bridge, MINUTE) == [(50, 2, before.tick, 1, 2)]
    assert used(agent) == [(50, 20, 100, True), (150, 150, 150, True), (400, 400, 400, True)]
    agent.flush()
    agent.check()


def test_r01_a_session_of_an_older_epoch_absorbs_those_of_this_one() -> None:
    """Ours is taken back, and what it held goes into our part of the older one."""
    agent = run(of(held="10m"))
    agent.tick(message(50))
    agent.tick(message(400))
    agent.start()
    own = agent.tick(message(150))
    assert parts(own, MINUTE) == [(150, 2, own.tick, 0, 1)]
    bridge = agent.tick(message(100))
    assert parts(bridge, MINUTE) == [(50, 2, bridge.tick, 0, 2), (150, 2, own.tick, 1, 0)]
    agent.flush()
    agent.check(sessions_too=True)


def test_r01_no_two_parts_have_one_identity() -> None:
    """A session that is not out yet takes over the start of one that is out and forgotten: its part is one of this tick."""
    agent = run(of(session("10s"), held="0s", lateness="0s"))
    agent.tick(message(100))
    first = agent.tick(message(79), message(90))
    assert parts(first, "session-10s") == [(79, 1, first.tick, 0, 1)]
    assert used(agent) == [(90, 90, 90, False)]
    agent.tick(message(79, 2.0), message(82))
    agent.flush()
    window = agent.merged.windows()[TEMP, "session-10s", DAY + 79 * S]
    assert window.count == 5  # 79, 79, 82, 90, 100
    agent.check()


def test_what_comes_later_than_sessions_are_held_is_a_session_of_its_own() -> None:
    """It is known no more that there was one within the gap; the reading is in exactly one all the same."""
    agent = run(of(held="10s"))
    agent.tick(message(3), message(50))
    agent.tick(message(500))
    agent.tick(message(511))
    agent.tick(message(20))
    agent.flush()
    assert [(w[2] - DAY) // S for w in sorted(agent.merged.windows()) if w[1] == MINUTE] == [3, 20, 500]
    agent.check()


def test_a_backlog_of_late_readings_becomes_whole_sessions() -> None:
    """A device that was offline sends its day: each session is held as long after its last change as after its end."""
    agent = run(of())
    agent.tick(message(86_400))
    for at in range(0, 600, 20):
        agent.tick(message(at if at < 300 else at + 100), message(86_401 + at / 20))
    agent.flush()
    agent.check(sessions_too=True)


def test_few_sessions_are_held_of_a_series_that_sends_to_all_places() -> None:
    """Late readings far apart, thousands in a tick: all are out, and the ones touched last are still in memory."""
    agent = run(of())
    agent.tick(message(1_000_000))
    for tick in range(3):
        agent.tick(*(message(at) for at in range(tick, 100_000 + tick, 100)))
    assert len(used(agent)) == MOST
    agent.flush()
    agent.check()


def test_sessions_of_one_series_do_not_meet_those_of_another() -> None:
    """At the same times, in one tick, some of them bridged."""
    names = [f"s{n % 3}/d{n}/temp" for n in range(6)]
    agent = run(of(held="10m"))
    agent.tick(*(message(at, name=name) for name in names for at in (0, 100)))
    agent.tick(*(message(300, name=name) for name in names))
    agent.tick(*(message(50, name=name) for name in names[::2]))
    agent.flush()
    agent.check(sessions_too=True)


def test_r12_sessions_of_a_level_that_stays_go_on_under_other_settings() -> None:
    """They are sealed with all else, and what follows is of the same window; a series that is no longer meant begins anew."""
    agent = run(of(session("1m", "*/temp"), session("30s")))
    agent.tick(message(3), message(3, name="s1/d1/flow"))
    agent.tick(message(30), message(30, name="s1/d1/flow"))
    other = of(session("1m"), hopping("20s", "10s"))
    body = msgspec.json.encode(other).decode()
    output = agent.tick(events=(Start(2, ""), Settings(body)))
    assert {part[0] for part in parts(output, MINUTE)} == {3}
    assert {part[0] for part in parts(output, "session-30s")} == {3}
    agent.settings = other
    agent.tick(message(60), message(60, name="s1/d1/flow"))
    agent.tick(message(400))
    agent.flush()
    windows = {place: window.count for place, window in agent.merged.windows().items()}
    assert windows[TEMP, MINUTE, DAY + 3 * S] == 3
    assert windows["s1/d1/flow", MINUTE, DAY + 60 * S] == 1  # it had no such level before
    assert ("s1/d1/flow", "20s/10s", DAY + 50 * S) in windows


@pytest.mark.parametrize("taken", [False, True])
def test_r15_a_snapshot_holds_sessions(taken: bool) -> None:
    """Open, out, sealed and moved ones: what the file gives back is the same to the last bit."""
    agent = run(of(session("1m"), session("10s", "*/flow")))
    agent.tick(message(3), message(100), message(100, name="s1/d1/flow"))
    agent.start()
    agent.tick(message(130), message(70), message(300))
    if taken:
        agent.picture()
    agent.tick(message(250))
    agent.crash(agent.pictures[-1] if taken else None)
    agent.tick(message(120), message(310))
    agent.flush()
    agent.check()
