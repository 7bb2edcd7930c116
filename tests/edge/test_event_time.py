"""R8: which time a reading belongs to when its device's clock, or ours, is wrong; nothing is lost whatever they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import snapshot
from headwater_edge.event_time import CLAMPED, RESTAMPED
from headwater_shared.clock import HELD, SYNCHRONISED, NtpClock, kernel_synchronised, parse_clock
from tests.edge.feed import DAY, Message, S, hopping, session, step_settings_of
from tests.edge.run import Run
from tests.edge.test_rules import TEMP, message, parts

OTHER = "s1/d2/temp"
HOUR = 3600 * S


def run(**windows: Any) -> Run:
    """An agent that has started, whose devices may be five minutes ahead."""
    agent = Run(step_settings_of(**({"future": "5m", "clock_wait": "10m"} | windows)))
    agent.start()
    return agent


def untimed(value: float, series: str = TEMP) -> Message:
    return Message(((series, None, value),))


def base(agent: Run) -> list[tuple[str, int, int, float]]:
    """Return (series, start after DAY in seconds, count, first) of all that went out of the base level, merged."""
    found = agent.merged.windows()
    return sorted(
        (series, (start - DAY) // S, window.count, window.first)
        for (series, level, start), window in found.items()
        if level == "10s"
    )


def test_r08_a_stamp_from_the_future_is_clamped_to_its_arrival() -> None:
    """A device an hour ahead: its reading counts now, and is counted as clamped; one four minutes ahead is taken at its word."""
    agent = run()
    agent.tick(message(3600, 1.0), message(240, 2.0, OTHER))
    agent.flush()
    assert base(agent) == [(TEMP, 0, 1, 1.0), (OTHER, 240, 1, 2.0)]
    assert agent.state.counters.clamped == 1


def test_r08_a_clamped_reading_keeps_its_identity_and_digest() -> None:
    """Its resend is a duplicate, and its digest is of the time as sent: an audit can find it."""
    agent = run()
    agent.tick(message(3600, 1.0))
    agent.clock.advance(2)
    agent.tick(message(3600, 1.0))
    agent.flush()
    assert agent.state.counters.by_meaning == 1
    (window,) = [w for (_, level, _), w in agent.merged.windows().items() if level == "10s"]
    sent = run(future="3650d")
    sent.tick(message(3600, 1.0))
    sent.flush()
    (as_sent,) = [w for (_, level, _), w in sent.merged.windows().items() if level == "10s"]
    assert window.digest == as_sent.digest


def test_r08_nothing_is_clamped_by_a_clock_that_is_not_believed() -> None:
    """A Pi that woke in 1970 has nothing to say of what a device's clock shows."""
    agent = run()
    agent.clock.quality, agent.clock.wall_us = HELD, 5 * S
    agent.tick(message(3600, 1.0))
    agent.flush()
    assert base(agent) == [(TEMP, 3600, 1, 1.0)]
    assert agent.state.counters.clamped == 0


def test_r08_a_future_stamp_closes_nobody_elses_window() -> None:
    """Another device's pane stays open whatever this one says the time is (PAINS 14)."""
    agent = run(future="3650d")
    agent.tick(message(1, 1.0, OTHER))
    assert parts(agent.tick(message(86_400, 1.0))) == []
    agent.tick(message(2, 2.0, OTHER))
    agent.flush()
    assert base(agent) == [(TEMP, 86_400, 1, 1.0), (OTHER, 0, 2, 1.0)]


def test_r08_a_boot_in_1970_loses_nothing_and_stamps_right_once_the_clock_is_set() -> None:
    """Readings without a time wait; when the clock is set they are where they belong, to the monotonic microsecond."""
    agent = run()
    agent.clock.quality, agent.clock.wall_us = HELD, 100 * S
    agent.tick(untimed(1.0))
    agent.clock.advance(15)
    agent.tick(untimed(2.0), message(7, 3.0, OTHER))  # a device that has a clock need not wait for ours
    agent.clock.advance(5)
    agent.clock.quality, agent.clock.wall_us = SYNCHRONISED, DAY + 60 * S
    agent.tick(untimed(4.0))
    agent.flush()
    assert base(agent) == [(TEMP, 40, 1, 1.0), (TEMP, 50, 1, 2.0), (TEMP, 60, 1, 4.0), (OTHER, 0, 1, 3.0)]
    assert agent.state.counters.restamped == 2
    assert not len(agent.state.waiting)


def test_r08_a_clock_that_is_never_set_holds_nothing_for_ever() -> None:
    """After `clock_wait` readings are stamped with what the clock says, and counted as held."""
    agent = run(clock_wait="1m")
    agent.clock.quality = HELD
    agent.tick(untimed(1.0))
    agent.clock.advance(59)
    agent.tick(untimed(2.0))
    assert agent.state.counters.held == 0
    agent.clock.advance(2)
    agent.tick()
    agent.flush()
    assert base(agent) == [(TEMP, 0, 1, 1.0), (TEMP, 50, 1, 2.0)]
    assert agent.state.counters.held == 2


@pytest.mark.parametrize("end", ["flush", "reboot"])
def test_r08_what_waits_goes_out_with_a_flush_and_after_a_reboot(end: str) -> None:
    """At a flush nothing may stay behind; across a reboot nobody knows how long it has waited."""
    agent = run()
    agent.clock.quality = HELD
    agent.tick(untimed(1.0))
    if end == "reboot":
        agent.crash()
        agent.clock.boot, agent.clock.mono_us = "another boot", 0
        agent.clock.quality, agent.clock.wall_us = SYNCHRONISED, DAY + 500 * S
        agent.start()
    agent.flush()
    assert base(agent) == [(TEMP, 0, 1, 1.0)]
    assert (agent.state.counters.held, agent.state.counters.restamped) == (1, 0)


def test_r08_what_was_read_before_the_clock_was_set_is_stamped_by_the_tick_that_takes_it() -> None:
    """A socket read in 1970 and a tick that ends after the jump: the reading is of now, not of 1970."""
    agent = run()
    tick = agent.feed.tick(agent.clock.now(), [untimed(1.0)], arrived_us=5 * S)
    from headwater_edge.step import step

    frames = step(agent.state, tick).frames
    agent.flush()
    assert frames == []
    assert base(agent) == [(TEMP, 0, 1, 1.0)]
    assert agent.state.counters.restamped == 1


def test_r08_a_clock_set_back_an_hour_costs_one_part_a_window() -> None:
    """Readings that we stamp fall into windows that were passed already: these begin anew and close in their time, once each."""
    agent = run()
    for value in range(25):
        agent.tick(untimed(float(value)), message(value - 3600, 1.0, OTHER))
        agent.clock.advance(1)
    agent.clock.wall_us -= HOUR
    before = agent.state.counters.parts
    for value in range(25, 60):
        agent.tick(untimed(float(value)), message(value - 3600, 1.0, OTHER))
        agent.clock.advance(1)
    agent.flush()
    assert agent.state.counters.set_back == 1
    found = [row for row in base(agent) if row[0] == TEMP]
    assert sum(count for _, _, count, _ in found) == 60
    assert [row[1] for row in found] == [-3580, -3570, -3560, -3550, 0, 10, 20]
    assert [row[2] for row in found] == [5, 10, 10, 10, 10, 10, 5]
    assert agent.state.counters.revisions == 0
    assert agent.state.counters.parts - before < 30  # not one a reading, of which there were 35
    assert agent.state.counters.clamped == 0
    assert sum(count for name, _, count, _ in base(agent) if name == OTHER) == 60


def test_r08_a_clock_set_back_moves_no_device_that_has_its_own() -> None:
    """Times that a device sent are its own: its watermark stays, and its panes stay open."""
    agent = run(future="3650d")
    agent.tick(message(1))
    mark = agent.state.watermarks.mark.tolist()
    agent.clock.wall_us -= HOUR
    assert parts(agent.tick(message(2))) == []
    assert agent.state.watermarks.mark.tolist() >= mark
    assert agent.state.counters.set_back == 0


def test_r08_a_small_correction_is_none() -> None:
    """Clocks are slewed and stepped by seconds: that is what `lateness` is for."""
    agent = run()
    agent.tick(untimed(1.0))
    agent.clock.wall_us -= 4 * S
    agent.tick(untimed(2.0))
    assert agent.state.counters.set_back == 0


def test_what_waits_is_in_the_snapshot() -> None:
    """A start from a snapshot, or from the journal alone, goes on to the last bit."""
    agent = run()
    agent.clock.quality = HELD
    agent.tick(untimed(1.0))
    agent.picture()
    agent.tick(untimed(2.0, OTHER))
    agent.crash(agent.pictures[-1])
    agent.crash()
    again = snapshot.restore(agent.pictures[-1])
    assert np.array_equal(again.waiting.value, [1.0])


acts = st.one_of(
    st.tuples(
        st.just("send"),
        st.lists(st.tuples(st.sampled_from([None, 0, 5, 4000]), st.integers(0, 3)), min_size=1),
    ),
    st.tuples(st.just("pass"), st.sampled_from([1, 15, 700])),
    st.tuples(st.just("jump"), st.sampled_from([-4000, -20, 30, 7000])),
    st.sampled_from(
        [("lost", 0), ("set", 0), ("start", 0), ("reboot", 0), ("crash", 0), ("picture", 0), ("flush", 0)]
    ),
)


@given(st.lists(acts, max_size=25))
def test_r08_whatever_clocks_do_every_reading_counts_once(what: list[tuple[str, object]]) -> None:
    """Ours lost, set, jumping both ways, rebooting; devices' without, right, ahead: count and digest of all windows are whole."""
    agent = run(clock_wait="5m")
    sent = 0
    for name, more in what:
        clock = agent.clock
        if name == "send":
            assert isinstance(more, list)
            made = []
            for ahead, device in more:
                sent += 1
                time_us = None if ahead is None else clock.wall_us + ahead * S + sent
                made.append(Message(((f"s1/d{device}/temp", time_us, float(sent)),)))
            agent.tick(*made)
        elif name == "pass":
            clock.advance(more)  # type: ignore[arg-type]
            agent.tick()
        elif name == "jump":
            clock.wall_us += more * S  # type: ignore[operator]
        elif name in {"lost", "set"}:
            clock.quality = HELD if name == "lost" else SYNCHRONISED
        elif name == "picture":
            agent.picture()
        elif name == "crash":
            agent.crash(agent.pictures[-1] if agent.pictures else None)
        elif name == "flush":
            agent.flush()
        else:
            if name == "reboot":
                clock.boot, clock.mono_us = clock.boot + "'", 0
            agent.start()
    agent.flush()
    digests = [reading[3:] for reading in agent.account.counted]
    assert len(digests) == sent
    wanted = agent.account.windows(agent.settings)
    for level in agent.settings.levels:
        windows = [w for (_, of, _), w in agent.merged.windows().items() if of == level]
        assert sum(window.count for window in windows) == sent
        digest = sum(w.digest for (_, of, _), w in wanted.items() if of == level)
        assert sum(w.digest for w in windows) % 2**64 == digest % 2**64


def test_r08_a_clock_that_no_server_disciplines_is_not_believed() -> None:
    """With `clock = "ntp"` the kernel decides; what it says here is an answer, whichever."""
    believed = [False]
    clock = NtpClock(lambda: believed[0])
    assert clock.now().quality == HELD
    believed[0] = True
    assert clock.now().quality == SYNCHRONISED
    assert kernel_synchronised() in {True, False}
    assert isinstance(parse_clock("ntp"), NtpClock)


def flags(agent: Run) -> dict[tuple[str, str], int]:
    """Return the flags of all parts that went out, joined by series and level."""
    found: dict[tuple[str, str], int] = {}
    for output in agent.outputs:
        for frame in output.frames:
            p = frame.parts
            for row in range(len(p)):
                key = p.names[p.series[row]], p.levels[p.level[row]]
                found[key] = found.get(key, 0) | int(p.flags[row])
    return found


def test_r08_a_part_bears_what_was_done_to_the_times_that_it_counts() -> None:
    """At every level, tumbling, hopping and by session, and of no other series."""
    agent = Run(
        step_settings_of(
            hopping("30s", "10s"), session("1m"), future="5m", clock_wait="10m", levels=("10s", "1m")
        )
    )
    agent.start()
    names = [f"s1/d{n}/temp" for n in range(5)]
    agent.tick(message(1, 1.0, names[0]), message(1, 1.0, names[CLAMPED]))
    agent.tick(message(3600, 2.0, names[CLAMPED]))
    agent.clock.quality = HELD
    agent.tick(untimed(1.0, names[RESTAMPED]), message(2, 2.0, names[0]))
    agent.clock.quality = SYNCHRONISED
    agent.tick(message(3, 3.0, names[0]))
    agent.clock.quality = HELD
    agent.tick(untimed(1.0, names[2]))
    agent.flush()
    levels = agent.state.levels.names
    assert len(levels) == 4
    assert flags(agent) == {(names[n], level): n for n in (0, CLAMPED, 2, RESTAMPED) for level in levels}


def test_r08_a_late_reading_flags_the_revision_and_the_part_of_its_own() -> None:
    """A device five minutes ahead: what is clamped falls behind its own watermark."""
    for held, revised in (("10m", True), ("0s", False)):
        agent = run(held=held, levels=("10s", "1m"))
        for at in range(0, 250, 10):
            agent.tick(message(at, 1.0))
        agent.tick(message(3600, 3.0))
        agent.flush()
        for level, before in (("10s", 1), ("1m", 6)):
            found = [
                (int(p.flags[row]), int(p.aggregates.count[row]))
                for output in agent.outputs
                for p in [frame.parts for frame in output.frames]
                for row in range(len(p))
                if p.levels[p.level[row]] == level and p.start[row] == DAY
            ]
            assert found == [(0, before), (CLAMPED, before + 1 if revised else 1)]


def test_r08_flags_outlive_a_restart_and_end_with_their_part() -> None:
    """What is sealed at a start keeps them; what opens a new part of the same window has none."""
    agent = run()
    agent.tick(message(3600, 1.0))
    agent.picture()
    agent.crash(agent.pictures[-1])
    sealed = agent.start()
    agent.tick(message(1, 2.0))
    agent.flush()
    assert {int(flag) for frame in sealed.frames for flag in frame.parts.flags} == {CLAMPED}
    (own,) = [frame.parts for frame in agent.outputs[-1].frames]
    assert own.flags.tolist() == [0] * len(own)
