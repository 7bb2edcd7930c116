"""The rules of CORRECTNESS.md that the step keeps, one test each, named after it."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from headwater_edge.events import Disconnect, Flush, Settings, Start
from headwater_edge.output import Output
from headwater_edge.rules import LimitRule
from headwater_edge.settings import StepSettings
from headwater_edge.snapshot import fingerprint
from headwater_edge.state import State
from headwater_edge.step import completeness, step
from headwater_edge.tick import Tick
from headwater_shared.clock import HELD, SYNCHRONISED, Now
from headwater_shared.digest import reading_digests
from tests.edge.feed import DAY, Feed, Message, S, connect, step_settings_of
from tests.edge.run import Run
from tests.support import ROOT

TEMP, FLOW = "s1/d1/temp", "s1/d1/flow"
BASE = 10 * S


def message(at: float, value: float = 1.0, name: str = TEMP, **more: object) -> Message:
    """A message of one reading, so many seconds after DAY."""
    return Message(((name, DAY + round(at * S), value),), **more)  # type: ignore[arg-type]


def run(settings: StepSettings | None = None) -> Run:
    made = Run(settings or step_settings_of())
    made.start()
    return made


def parts(output: Output, level: str = "10s") -> list[tuple[int, int, int, int, int]]:
    """Return (start after DAY in s, opening epoch, opening tick, revision, count) of the parts of one level."""
    out = []
    for frame in output.frames:
        p = frame.parts
        for row in range(len(p)):
            if p.levels[p.level[row]] == level:
                start = (int(p.start[row]) - DAY) // S
                out.append(
                    (
                        start,
                        p.epochs[p.epoch[row]],
                        int(p.tick[row]),
                        int(p.revision[row]),
                        int(p.aggregates.count[row]),
                    )
                )
    return sorted(out)


def test_r01_a_start_seals_open_panes_under_their_old_identity() -> None:
    """What was open goes out as opened; what comes for the same window afterwards is a part of the new epoch."""
    agent = run()
    opened = agent.tick(message(1)).tick
    sealed = agent.start()
    assert parts(sealed) == [(0, 1, opened, 0, 1)]
    assert parts(sealed, "1h") == [(0, 1, opened, 0, 1)]
    again = agent.tick(message(2)).tick
    closed = agent.tick(message(30))
    assert parts(closed) == [(0, 2, again, 0, 1)]
    agent.flush()
    agent.check()


@pytest.mark.parametrize("between", [0, 1, 3])
def test_r01_r06_a_coarse_part_is_named_after_its_base_pane(between: int) -> None:
    """An agent whose file went back, and one that did not, close a base pane at different ticks: the part of the minute that each
    begins with it bears the tick that opened the base pane, and so is one part.
    """
    agent = run()
    opened = agent.tick(message(1)).tick
    for at in range(between):
        agent.tick(message(2 + at))
    closed = agent.tick(message(30))
    assert closed.tick == opened + between + 1
    (found,) = parts(agent.flush(), "1m")
    assert found == (0, 1, opened, 0, between + 2)
    agent.check()


def test_r01_a_held_pane_of_the_old_epoch_is_not_revised_by_the_new_one() -> None:
    """Only the epoch that opened a part adds to it: a late reading after a start opens a part of its own."""
    agent = run()
    first = agent.tick(message(1), message(30)).tick
    agent.start()
    late = agent.tick(message(2))
    assert parts(late) == [(0, 2, late.tick, 0, 1)]
    assert (0, 1, first, 0, 1) in parts(agent.outputs[1])
    agent.flush()
    agent.check()


def test_r01_a_window_in_a_slot_that_was_used_again_gets_a_part_of_its_own() -> None:
    """A series that jumps hours ahead takes its ring's slots: readings for the old windows still count."""
    agent = run()
    agent.tick(message(1))
    agent.tick(message(9 * 10 * 1000 + 1))  # the same slot, far ahead
    late = agent.tick(message(2), message(3))
    assert parts(late) == [(0, 1, late.tick, 0, 2)]
    agent.flush()
    agent.check()


def test_r02_by_meaning_the_same_series_time_and_value_is_one_reading() -> None:
    """Sent again as a new message, in the same tick or later, alone or among others, in an open or a held pane."""
    agent = run()
    agent.tick(message(1), message(2), message(1))
    agent.tick(message(2), message(3, 7.0))
    agent.tick(message(30))
    agent.tick(message(1), Message(((TEMP, DAY + 2 * S, 1.0), (TEMP, DAY + 4 * S, 1.0))))
    assert agent.state.counters.by_meaning == 4
    assert agent.state.counters.accepted == 5
    agent.flush()
    agent.check()


def test_r02_what_differs_in_series_time_or_value_bits_counts() -> None:
    """Other series, other time, other value: each is a reading; so is each copy inside one message."""
    agent = run()
    agent.tick(
        message(1),
        message(1, name=FLOW),
        message(1.000001),
        message(1, 2.0),
        message(1, float(np.nextafter(1, 2))),
    )
    agent.tick(Message(((TEMP, DAY + 5 * S, 3.0), (TEMP, DAY + 5 * S, 3.0))))
    assert agent.state.counters.accepted == 7
    agent.flush()
    agent.check()


def test_r02_a_reading_without_a_time_has_no_identity_by_meaning() -> None:
    """Two equal values without a time are two readings."""
    agent = run()
    agent.tick(Message(((TEMP, None, 5.0),)), Message(((TEMP, None, 5.0),)))
    agent.tick(Message(((TEMP, None, 5.0),)))
    assert agent.state.counters.accepted == 3


def test_r02_minus_zero_is_zero() -> None:
    """The value's bits are compared with -0 as 0."""
    agent = run()
    agent.tick(message(1, 0.0))
    agent.tick(message(1, -0.0))
    assert agent.state.counters.by_meaning == 1


def test_r02_two_values_at_one_time_warn_once_and_name_the_setting() -> None:
    """Both count; the warning is said once a series, and a setting takes the test away."""
    agent = run()
    (warning,) = agent.tick(message(1), message(1, 2.0)).warnings
    assert TEMP in warning
    assert 'duplicates = "transport"' in warning
    assert agent.tick(message(1, 3.0), message(2), message(2, 4.0)).warnings == []
    agent.start()
    agent.crash()
    assert agent.tick(message(3), message(3, 2.0)).warnings == []
    agent.flush()
    agent.check()


def test_r02_by_transport_only_equal_readings_of_two_messages_both_count() -> None:
    """`duplicates = "transport"`: for sources whose clock is coarser than their rate."""
    agent = run(step_settings_of(duplicates="transport"))
    agent.tick(message(1), message(1))
    agent.tick(message(1))
    assert agent.state.counters.accepted == 3
    agent.flush()
    agent.check()


def test_r02_switching_to_meaning_knows_what_came_before() -> None:
    """Readings that were taken under "transport" are recognised after a restart under "meaning"."""
    agent = run(step_settings_of(duplicates="transport"))
    agent.tick(message(1), message(2))
    agent.tick(events=(Start(9, ""), _settings(step_settings_of())))
    agent.tick(message(2))
    assert agent.state.counters.by_meaning == 1


def _settings(settings: StepSettings) -> Settings:
    return Settings(msgspec.json.encode(settings).decode())


def qos1(at: float, packet_id: int, value: float = 1.0, *, dup: bool = False, connection: int = 1) -> Message:
    """A message without a time of its own, so that only transport can tell a repeat."""
    return Message(((TEMP, None, value + at),), connection, packet_id, dup)


def test_r03_dup_with_equal_content_is_a_duplicate() -> None:
    """In the same tick, in a later one, and again and again."""
    agent = run()
    agent.tick(qos1(1, 7), qos1(1, 7, dup=True), events=(connect(1, "c"),))
    agent.tick(qos1(1, 7, dup=True))
    agent.tick(qos1(2, 8), qos1(1, 7, dup=True))
    assert (agent.state.counters.accepted, agent.state.counters.by_transport) == (2, 3)


def test_r03_dup_with_other_content_is_new() -> None:
    """Another value, another series, another number of readings; and the id's last use is what counts."""
    agent = run()
    agent.tick(qos1(1, 7), events=(connect(1, "c"),))
    agent.tick(qos1(2, 7, dup=True), Message(((FLOW, None, 2.0),), 1, 7, dup=True))
    agent.tick(qos1(1, 7, dup=True))
    assert (agent.state.counters.accepted, agent.state.counters.by_transport) == (4, 0)


def test_r03_without_dup_a_message_is_new_and_ends_the_older_identity() -> None:
    """An id that is used again for equal bytes is a new message; a repeat of it is one of the newer."""
    agent = run()
    agent.tick(qos1(1, 7), qos1(1, 7), events=(connect(1, "c"),))
    agent.tick(qos1(5, 7))
    agent.tick(qos1(1, 7, dup=True), qos1(1, 7, dup=True))
    assert (agent.state.counters.accepted, agent.state.counters.by_transport) == (4, 1)


def test_r03_packet_ids_of_two_clients_do_not_meet() -> None:
    """The same id and content over another client's connection is new."""
    agent = run()
    agent.tick(qos1(1, 7), events=(connect(1, "c"), connect(2, "d")))
    agent.tick(qos1(1, 7, dup=True, connection=2))
    assert agent.state.counters.by_transport == 0


def test_r03_dup_at_qos_0_means_nothing() -> None:
    """Without a packet id there is no identity by transport."""
    agent = run()
    agent.tick(qos1(1, 0), qos1(1, 0, dup=True), events=(connect(1, "c"),))
    assert agent.state.counters.accepted == 2


def test_r03_a_sessions_end_forgets_its_packet_ids() -> None:
    """A clean start, or an expiry of 0: what comes with DUP afterwards cannot repeat anything of before."""
    for ends in ((connect(2, "c", clean=True),), (Disconnect(1, clean=True, expiry_s=0), connect(2, "c"))):
        agent = run()
        agent.tick(qos1(1, 7), events=(connect(1, "c"),))
        agent.tick(qos1(1, 7, dup=True, connection=2), events=ends)
        assert agent.state.counters.by_transport == 0


def test_r03_a_session_outlives_connections_and_restarts() -> None:
    """A device that comes back to its session and sends again what it has no acknowledgement of is recognised."""
    agent = run()
    agent.tick(qos1(1, 7), events=(connect(1, "c"),))
    agent.tick(qos1(1, 7, dup=True, connection=2), events=(Disconnect(1, clean=False), connect(2, "c")))
    agent.picture()
    agent.crash(agent.pictures[0])
    agent.start()
    agent.tick(qos1(1, 7, dup=True, connection=1), events=(connect(1, "c"),))
    assert (agent.state.counters.accepted, agent.state.counters.by_transport) == (1, 2)


def test_r03_messages_of_a_connection_that_ended_in_the_same_tick_have_its_session() -> None:
    """Sent, lost and resent within one tick, over a second connection that took over the first."""
    agent = run()
    agent.tick(events=(connect(1, "c"),))
    tick = agent.feed.tick(agent.clock.now(), [qos1(1, 7), qos1(1, 7, dup=True, connection=2)])
    tick.events = [(1, connect(2, "c")), (1, Disconnect(1, clean=False))]
    assert step(agent.state, tick).sessions == {2: True}
    assert (agent.state.counters.accepted, agent.state.counters.by_transport) == (1, 1)


def test_r03_the_last_use_of_every_id_in_flight_is_kept() -> None:
    """Tens of thousands of messages later, each of the last thousand is still known, in each of many sessions."""
    agent = run()
    agent.tick(events=tuple(connect(c, f"c{c}") for c in range(1, 5)))
    ids = [n % 65_535 + 1 for n in range(12_000)]
    for begin in range(0, len(ids), 3000):
        agent.tick(*[qos1(i, i, connection=c) for c in range(1, 5) for i in ids[begin : begin + 3000]])
    agent.picture()
    agent.crash(agent.pictures[-1])
    agent.tick(*[qos1(i, i, dup=True, connection=c) for c in range(1, 5) for i in ids[-1000:]])
    assert agent.state.counters.by_transport == 4000


def test_r03_unreadable_messages_are_told_by_their_bytes() -> None:
    """A resent one is a duplicate, so that it is one dead letter; one with other bytes is not."""
    agent = run()
    agent.tick(Message((), 1, 7, crc=11), events=(connect(1, "c"),))
    again = agent.tick(Message((), 1, 7, dup=True, crc=11))
    assert again.repeated == {0}
    assert agent.tick(Message((), 1, 7, dup=True, crc=12)).repeated == frozenset()
    assert agent.state.counters.dead == 2


def test_r05_r06_an_epoch_names_its_predecessor_in_each_shards_first_row() -> None:
    """Seqs begin at 1 in every epoch and shard; the first row says where the epoch before ended there, 0 if nowhere."""
    agent = run()
    other = "s2/d2/temp"
    agent.tick(message(1), message(30))
    agent.tick(message(60))
    assert [f.seq for o in agent.outputs for f in o.frames] == [1, 2]
    assert [f.predecessor for o in agent.outputs for f in o.frames] == [None, None]
    agent.start()
    sealed = agent.outputs[-1].frames
    assert [(f.epoch, f.seq, f.predecessor) for f in sealed] == [(2, 1, (1, 2))]
    agent.tick(Message(((other, DAY, 1.0),)))
    (first,) = agent.flush().frames
    assert (first.seq, first.predecessor) == (1, (1, 0))
    (second,) = agent.tick(message(90), message(200)).frames
    assert (second.seq, second.predecessor) == (2, None)


def test_r06_r23_every_epoch_says_something_in_each_shard_of_the_one_before() -> None:
    """An epoch that measured nothing there puts out an empty frame, so that the chain of epochs and their ends has no hole."""
    agent = run()
    agent.tick(message(1))
    agent.flush()
    last = max(frame.seq for output in agent.outputs for frame in output.frames)
    for epoch in (71, 72):
        started = agent.tick(events=(Start(epoch, "test", announces=True),))
        (frame,) = started.frames
        assert (len(frame.parts), frame.epoch, frame.seq) == (0, epoch, 1)
        assert frame.predecessor is not None
        assert frame.predecessor.seq == (last if epoch == 71 else 1)


@pytest.mark.parametrize(("level", "seconds"), [("10s", 10), ("1m", 60), ("10m", 600), ("1h", 3600)])
def test_r07_a_late_reading_revises_what_is_held_at_each_level(level: str, seconds: int) -> None:
    """The part goes out whole again, with the next revision and one reading more; then again."""
    agent = run()
    agent.tick(message(1), message(seconds - 9))
    agent.tick(message(seconds + 5))
    closed = [part for output in agent.outputs for part in parts(output, level) if part[0] == 0]
    ((_, epoch, opened, revision, count),) = closed
    assert revision == 0
    for n, at in enumerate((2, 3), 1):
        late = agent.tick(message(at))
        assert parts(late, level) == [(0, epoch, opened, n, count + n)]
    agent.flush()
    agent.check()


@pytest.mark.parametrize(("level", "seconds"), [("10s", 10), ("1m", 60), ("10m", 600), ("1h", 3600)])
def test_r07_a_late_reading_for_what_is_gone_is_a_new_part_at_each_level(level: str, seconds: int) -> None:
    """Held no more: the reading goes out at once as a part of its own, beside the ones of before."""
    agent = run()
    agent.tick(message(1))
    for at in range(1, 12):
        agent.tick(message(at * seconds + 1))  # newer windows take the slots
    late = agent.tick(message(2), message(3))
    assert parts(late, level) == [(0, 1, late.tick, 0, 2)]
    agent.flush()
    agent.check()


def test_r07_a_late_reading_for_an_open_coarser_pane_makes_no_revision_there() -> None:
    """The minute is still open: it takes the reading in and goes out once, at its end."""
    agent = run()
    agent.tick(message(1), message(20))
    late = agent.tick(message(2))
    assert [part[3] for part in parts(late)] == [1]
    assert parts(late, "1m") == []
    minute = agent.tick(message(70))
    assert [(part[3], part[4]) for part in parts(minute, "1m")] == [(0, 3)]


def test_r08_an_idle_device_closes_by_monotonic_time_since_its_last_reading() -> None:
    """Whatever the wall clock does, and however far its event time is from it; before `idle` nothing closes."""
    agent = run()
    agent.tick(message(1))
    agent.clock.wall_us += 3600 * S
    assert agent.tick().frames == []
    agent.clock.mono_us += 10 * S
    assert agent.tick().frames == []  # 1 + 10 - 2 s of lateness is inside the window
    agent.clock.wall_us -= 7200 * S
    agent.clock.mono_us += 1 * S
    assert parts(agent.tick()) == [(0, 1, 2, 0, 1)]


def test_r08_a_watermark_never_goes_back() -> None:
    """A device that was idle and then sends in the old place: its windows are closed, and its readings late."""
    agent = run()
    agent.tick(message(1))
    agent.clock.mono_us += 100 * S
    agent.tick()
    mark = agent.state.watermarks.mark.tolist()
    late = agent.tick(message(2))
    assert agent.state.watermarks.mark.tolist() == mark
    assert [part[3] for part in parts(late)] == [1]
    agent.start()
    assert agent.state.watermarks.mark.tolist() == mark


@pytest.mark.parametrize(
    ("before", "after", "wall_s", "closes"),
    [
        (SYNCHRONISED, SYNCHRONISED, 60, True),
        (SYNCHRONISED, HELD, 60, False),
        (HELD, SYNCHRONISED, 60, False),
        (SYNCHRONISED, SYNCHRONISED, -3600, False),
    ],
)
def test_r08_across_a_reboot_only_a_believed_clock_bridges(
    before: int, after: int, wall_s: int, closes: bool
) -> None:
    """Monotonic time begins anew; how long the machine was off is known only if both clocks are believed."""
    agent = run()
    agent.clock.quality = before
    agent.tick(message(1))
    agent.clock.boot, agent.clock.mono_us, agent.clock.quality = "another boot", 5 * S, after
    agent.clock.wall_us += wall_s * S
    agent.start()
    mark = int(agent.state.watermarks.mark[0])
    assert (mark >= DAY + 50 * S) is closes
    if not closes:
        assert mark == DAY - 1 * S
        agent.clock.mono_us += 11 * S
        agent.tick()
        assert int(agent.state.watermarks.mark[0]) == DAY + 10 * S


def test_r10_digests_equal_the_vectors() -> None:
    """Of single readings and of windows, as the design gives them."""
    path = ROOT.parent / "shared" / "data" / "digest-vectors.json"
    if not path.exists():
        pytest.skip(f"{path} is not here: the vectors lie beside the checkout")
    vectors = json.loads(path.read_text())
    times = np.array([vector["t_us"] for vector in vectors["readings"]], np.int64)
    values = np.array([float(vector["value"]) for vector in vectors["readings"]])
    digests = reading_digests(times, values)
    assert [f"{one:016x}" for one in digests.tolist()] == [
        vector["digest_hex"] for vector in vectors["readings"]
    ]
    whole = digests.sum(dtype=np.uint64)
    assert f"{int(whole):016x}" == vectors["sum_hex"]
    assert int(whole.view(np.int64)) == vectors["sum_int64"]


def test_r10_a_windows_digest_is_the_vectors_sum() -> None:
    """The same readings through the step: one window, the digest that the design gives."""
    path = ROOT.parent / "shared" / "data" / "digest-vectors.json"
    if not path.exists():
        pytest.skip(f"{path} is not here: the vectors lie beside the checkout")
    vectors = json.loads(path.read_text())
    agent = run(step_settings_of(levels=("10s",), duplicates="transport"))
    agent.tick(
        *[Message(((TEMP, vector["t_us"], float(vector["value"])),)) for vector in vectors["readings"]]
    )
    agent.flush()
    total = sum(int(part.row.digest[0]) for part in agent.merged.parts.values()) % 2**64
    assert f"{total:016x}" == vectors["sum_hex"]


@pytest.mark.parametrize("starts", [(Start(2, ""),), ()], ids=["at a start", "while it runs"])
def test_r12_a_setting_that_moves_windows_closes_them_first_under_the_old_one(
    starts: tuple[Start, ...],
) -> None:
    """Panes of levels that are no more go out with their level's name; what comes next is under the new levels."""
    agent = run()
    agent.tick(message(1))
    other = step_settings_of(levels=("20s", "2m"))
    output = agent.tick(events=(*starts, _settings(other)))
    assert {p.levels[i] for f in output.frames for p in [f.parts] for i in p.level.tolist()} == {
        "10s",
        "1m",
        "10m",
        "1h",
    }
    agent.tick(message(2))
    closed = agent.flush()
    assert {p.levels[i] for f in closed.frames for p in [f.parts] for i in p.level.tolist()} == {"20s", "2m"}
    assert agent.state.counters.late == 0


def test_r12_counters_outlive_a_change_of_settings() -> None:
    """What was late stays counted."""
    agent = run()
    agent.tick(message(1), message(30))
    agent.tick(message(2))
    assert agent.state.counters.late == 1
    agent.tick(events=(Start(2, ""), _settings(step_settings_of(levels=("20s",)))))
    agent.tick(message(100), message(200))
    assert agent.state.counters.late == 1


def test_r12_a_rule_that_is_gone_ends_what_it_found() -> None:
    """An anomaly that nobody would watch any more is ended at the start that took the rule away; one that stays, stays."""
    hot = LimitRule("hot", "*/temp", 1.0, 80.0, 70.0, "warning", "too hot")
    wet = LimitRule("wet", "*/temp", 1.0, 90.0, 90.0, "warning", "too wet")
    agent = run(replace(step_settings_of(), rules=[hot, wet]))
    begun = agent.tick(message(1, 95.0)).anomalies
    assert [a.rule for a in begun] == ["hot", "wet"]
    output = agent.tick(events=(Start(2, ""), _settings(replace(step_settings_of(), rules=[hot]))))
    ((_, end),) = [(a.rule, a) for a in output.anomalies]
    assert (end.rule, end.phase, end.id, end.begin_us) == ("wet", "end", begun[1].id, begun[1].begin_us)
    assert agent.tick(message(2, 95.0)).anomalies == []
    (over,) = agent.tick(message(3, 60.0)).anomalies
    assert (over.rule, over.phase, over.id) == ("hot", "end", begun[0].id)


def test_flush_closes_every_window_and_what_follows_is_late() -> None:
    """At every level, of every series; a reading after it for the same window revises it."""
    agent = run()
    agent.tick(message(1), message(1, name="s2/d2/temp"))
    flushed = agent.flush()
    for level in ("10s", "1m", "10m", "1h"):
        assert len(parts(flushed, level)) == 2
    assert {part[3] for part in parts(agent.tick(message(2)))} == {1}
    assert agent.tick(events=(Flush(),)).frames == []
    agent.check()


def test_completeness_says_no_more_than_what_is_out() -> None:
    """By shard, the slowest device's watermark, and the last seq; a shard without a reading is not in it."""
    agent = run()
    assert completeness(agent.state).shards == {}
    agent.tick(message(1), message(100), message(30, name="s1/d2/temp"))
    ((time_us, seq),) = completeness(agent.state).shards.values()
    assert time_us == DAY + 28 * S
    assert seq == agent.outputs[-1].frames[-1].seq
    for frame in agent.flush().frames:
        ends = frame.parts.start + np.array([BASE, 6 * BASE, 60 * BASE, 360 * BASE])[frame.parts.level]
        assert (ends > time_us).all()


def test_a_step_needs_nothing_but_its_state_and_tick() -> None:
    """Two states that are fed the same ticks stay equal, though the machine's clock went on between them."""
    settings = step_settings_of()
    feed, now = Feed(), Now(DAY, 0, "b", SYNCHRONISED)
    ticks = [feed.tick(now, [message(at)]) for at in range(0, 100, 7)]
    first = [step_of(ticks, settings), step_of(ticks, settings)]
    assert first[0] == first[1]


def step_of(ticks: list[Tick], settings: StepSettings) -> str:
    state = State(settings)
    for tick in ticks:
        step(state, tick)
    return fingerprint(state)


def test_r01_a_seal_in_the_middle_of_an_epoch_opens_no_part_twice() -> None:
    """A clock is set back, and in the same tick readings come for windows that are put out by it: no part bears the name of
    another one.
    """
    agent = run()
    agent.clock.wall_us = DAY + 20 * S
    agent.tick(Message(((TEMP, None, 1.0),)))
    agent.clock.wall_us = DAY + 12 * S
    agent.tick(Message(((TEMP, None, 2.0),)), message(3, 5.0))
    assert agent.state.counters.set_back == 1
    agent.flush()
    agent.check()


def test_r01_what_a_start_lets_go_of_is_of_the_new_epoch() -> None:
    """A reading waited for the clock, and a reboot released it into a window that closes at once: its part is the new
    epoch's, and so is the revision of it.
    """
    agent = run(step_settings_of(clock_wait="10m"))
    agent.clock.quality, agent.clock.wall_us = HELD, DAY + 3 * S
    agent.tick(message(20, 7.0), Message(((TEMP, None, 1.0),)))
    agent.clock.boot, agent.clock.mono_us = "another boot", 0
    started = agent.start()
    assert (0, 2, started.tick, 0, 1) in parts(started)
    assert parts(agent.tick(message(4))) == [(0, 2, started.tick, 1, 2)]
    agent.flush()
    agent.check()


def test_r12_what_a_start_lets_go_of_is_at_the_new_levels() -> None:
    """The start brings other settings, too: what it seals is at the levels of before, what it counts at those of now."""
    agent = run(step_settings_of(levels=("10s", "1m"), clock_wait="10m"))
    agent.clock.quality, agent.clock.wall_us = HELD, DAY + 3 * S
    agent.tick(message(20, 7.0), Message(((TEMP, None, 1.0),)))
    agent.clock.boot, agent.clock.mono_us = "another boot", 0
    other = step_settings_of(levels=("5s", "1m"), clock_wait="10m")
    output = agent.tick(events=(Start(2, ""), _settings(other)))
    assert parts(output) == [(20, 1, 2, 0, 1)]
    assert parts(output, "5s") == [(0, 2, output.tick, 0, 1)]
