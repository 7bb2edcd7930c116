"""Duplicates as far back as the horizon, coverage beyond it (R2, R4): on a real file, against plain accounts."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.arrivals import Arrivals, hashes, out_of_order, summary
from headwater_edge.coverage import SILENCE_US, Coverage, packed, unpacked
from headwater_edge.events import Keyed
from headwater_edge.horizon import Horizon
from headwater_edge.idempotency import Verdict
from headwater_edge.tick import Readings
from headwater_shared.digest import NO_TIME
from tests.edge.desk import Desk
from tests.edge.feed import DAY, Message, S, step_settings_of

SERIES = "s1/d1/temp"
HOUR = 3600 * S


def at(second: float, value: float = 1.0, series: str = SERIES) -> Message:
    """A message with one reading, so many seconds after DAY."""
    return Message(((series, DAY + round(second * S), value),))


@pytest.fixture(autouse=True, scope="module")
def _short_memory() -> Iterator[None]:
    """Memory holds a handful of readings, so that small tests look into the journal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headwater_edge.recent._FIRST", 8)
        yield


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An agent's file whose horizon is an hour."""
    made = Desk(tmp_path, step_settings_of(horizon="1h"))
    yield made
    made.close()


def hear(desk: Desk, begin: int, end: int, series: str = SERIES) -> None:
    """Let a device send a reading every 20 s, in time."""
    for second in range(begin, end, 20):
        desk.tick(at(second, series=series))
        desk.clock.advance(20)


def test_r02_a_resend_that_left_memory_is_found_in_the_journal(desk: Desk) -> None:
    """Half an hour later nothing in memory knows the reading; the journal does, and it counts once."""
    hear(desk, 0, 1800)
    assert not (desk.state.levels.fine.recent.sent[: desk.state.levels.fine.recent.size] == DAY).any()
    output = desk.tick(at(0))
    assert (desk.state.counters.accepted, desk.state.counters.by_horizon, output.beyond) == (90, 1, [])


def test_r02_another_value_at_a_time_that_was_sent_counts(desk: Desk) -> None:
    """What is looked up is the reading, not its time: another value is another reading."""
    hear(desk, 0, 1800)
    desk.tick(at(0, 2.0))
    assert desk.state.counters.accepted == 91


def test_r02_a_late_reading_within_the_horizon_counts(desk: Desk) -> None:
    """Between readings that were heard, but never sent itself: it is new, and nobody takes it for a resend."""
    hear(desk, 0, 1800)
    output = desk.tick(at(10))
    assert (desk.state.counters.accepted, output.beyond) == (91, [])
    desk.tick(at(10))
    assert desk.state.counters.accepted == 91  # it came out of order, and is found all the same


def test_r04_in_a_gap_of_its_series_a_reading_counts_whatever_its_age(desk: Desk) -> None:
    """A truck that was offline for a day sends what it measured meanwhile: all of it counts, and without a look-up."""
    hear(desk, 0, 600)
    desk.clock.advance(24 * 3600)
    hear(desk, 24 * 3600, 24 * 3600 + 600)
    looked_up = desk.horizon.looked_up
    output = desk.tick(*(at(second) for second in range(700, 24 * 3600 - 100, 600)))
    assert output.beyond == []
    assert desk.state.counters.accepted == 60 + len(range(700, 24 * 3600 - 100, 600))
    assert desk.horizon.looked_up == looked_up


def _beyond_the_horizon(desk: Desk) -> None:
    """Fill an hour, and let it leave the journal."""
    hear(desk, 0, 3600)
    desk.clock.advance(2 * 3600)
    hear(desk, 3 * 3600, 3 * 3600 + 600)
    while desk.chores_run < 10 and desk.journal_from() < 100:
        desk.chores()
        desk.clock.advance(60)
        desk.tick()
    assert desk.journal_from() > 100


def test_r04_beyond_the_horizon_what_was_covered_is_a_dead_letter(desk: Desk) -> None:
    """A resend of three hours ago, and a reading between two of that time, cannot be told apart: neither counts, both are kept."""
    _beyond_the_horizon(desk)
    accepted = desk.state.counters.accepted
    output = desk.tick(at(100), at(110), at(5000))
    assert output.beyond == [(0, 0), (1, 1)]
    assert desk.state.counters.accepted == accepted + 1
    assert desk.state.counters.beyond_horizon == 2


def test_r04_a_dead_letter_that_is_resent_is_no_second_one(desk: Desk) -> None:
    """What was put aside has arrived: its resend is a duplicate, within one tick as later."""
    _beyond_the_horizon(desk)
    assert desk.tick(at(100), at(100)).beyond == [(0, 0)]
    assert desk.tick(at(100)).beyond == []
    assert desk.state.counters.beyond_horizon == 1


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_r04_coverage_stands_for_rows_that_went_one_by_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """A restart while old rows are going takes the coverage that holds all that went, not the one before it."""
    monkeypatch.setattr("headwater_edge.keeping._ROWS", rows)
    hear(desk, 0, 3600)
    desk.clock.advance(2 * 3600)
    desk.tick()
    desk.clock.advance(3600)
    desk.tick()
    for _ in range(40 // min(rows, 40)):
        desk.chores()
    desk.restart()
    assert desk.journal_from() > 1
    accepted = desk.state.counters.accepted
    desk.tick(*(at(second) for second in range(0, 3600, 20)))
    assert desk.state.counters.accepted == accepted  # dead letters or duplicates, but none counts


def test_r04_only_what_is_older_than_the_horizon_leaves_the_journal(desk: Desk) -> None:
    """Rows of the last hour stay, whatever snapshots allow."""
    hear(desk, 0, 1800)
    for _ in range(5):
        desk.chores()
    assert desk.journal_from() == 1
    desk.clock.advance(3600)
    desk.tick()
    desk.chores()
    assert 1 < desk.journal_from() <= 92


def test_r04_the_verdict_is_journaled(desk: Desk) -> None:
    """A replay needs no look-up: the same state comes out of the journal alone."""
    _beyond_the_horizon(desk)
    desk.restart()
    desk.tick(at(100), at(3 * 3600 + 15), at(3 * 3600 + 20))
    before = desk.state.counters
    desk.close()
    desk._open()
    after = desk.state.counters
    assert (after.accepted, after.by_horizon, after.beyond_horizon) == (
        before.accepted,
        before.by_horizon,
        before.beyond_horizon,
    )
    assert (before.by_horizon, before.beyond_horizon) == (1, 1)


def test_r12_what_was_refused_under_anothers_key_has_not_arrived(desk: Desk) -> None:
    """Nothing of such a request was taken nor acknowledged; sent again under a key of its own, it counts: over a restart too."""
    hear(desk, 0, 600)
    desk.tick(at(610), events=(Keyed(1, 77, 1, 1),))
    output = desk.tick(at(5), at(6), events=(Keyed(2, 77, 2, 2),))
    assert output.verdicts == {2: Verdict.REFUSED}
    hear(desk, 620, 1200)
    accepted = desk.state.counters.accepted
    desk.tick(at(5), events=(Keyed(3, 78, 2, 1),))
    desk.restart()
    desk.tick(at(6), events=(Keyed(4, 79, 2, 1),))
    assert desk.state.counters.accepted == accepted + 2
    desk.tick(at(6), events=(Keyed(5, 80, 2, 1),))
    assert desk.state.counters.accepted == accepted + 2


def test_duplicates_by_transport_only_look_nothing_up(tmp_path: Path) -> None:
    """With `duplicates = "transport"` an old reading is a reading."""
    desk = Desk(tmp_path, step_settings_of(horizon="1h", duplicates="transport"))
    hear(desk, 0, 1800)
    desk.tick(at(0))
    assert (desk.state.counters.accepted, desk.horizon.looked_up) == (91, 0)
    desk.close()


def test_a_damaged_summary_is_said(desk: Desk) -> None:
    """A row of the file that is no summary is no crash of another kind."""
    with pytest.raises(ValueError, match="damaged summary"):
        Arrivals().add(1, b"\xc1")


# Whatever comes, in whatever order, over restarts and with rows going: each reading once, or in the dead letters once.

FIRST = -10_000


@dataclass
class Plain:
    """What must be, said without look-ups: every reading that ever came, and when."""

    desk: Desk
    came: dict[tuple[str, int | None, float], int] = field(default_factory=dict)
    """Reading to the age at which it came first."""
    counted: int = 0
    dead: int = 0

    def send(self, messages: list[Message]) -> None:
        """Send a tick, and compare what counts with what may."""
        state = self.desk.state
        age, before = state.age_us, state.counters.accepted
        new = {reading for message in messages for reading in message.readings} - self.came.keys()
        newest = {
            name: max((t or 0 for s, t, _ in self.came if s == name), default=FIRST) for name, _, _ in new
        }
        sure = sum((t or 0) > newest[name] for name, t, _ in new)
        output = self.desk.tick(*messages)
        counted = state.counters.accepted - before
        horizon = state.settings.horizon_us
        old = [
            reading
            for message in messages
            for reading in set(message.readings)
            if reading in self.came and self.came[reading] < age - horizon
        ]
        # Of what never came each is counted or a dead letter; of what came before, only what left the journal is one.
        assert sure <= counted <= len(new)
        assert len(new) <= counted + len(output.beyond) <= len(new) + len(old)
        self.counted += counted
        self.dead += len(output.beyond)
        for reading in new:
            self.came[reading] = age
        if not old and age < horizon:
            assert counted == len(new)


sends = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-40, 400), st.integers(0, 1), st.integers(1, 3)),
    min_size=1,
    max_size=8,
)
acts = st.one_of(
    sends.map(lambda s: ("send", s)),
    st.sampled_from([20, 300, 1900]).map(lambda s: ("advance", s)),
    st.sampled_from([("restart", 0), ("chores", 0), ("again", 0)]),
)


@given(st.lists(acts, min_size=4, max_size=25))
def test_r04_each_reading_counts_once_or_is_a_dead_letter(what: list[tuple[str, object]]) -> None:
    """Random disorder, resends, silences, rows that go and restarts: nothing counts twice and nothing vanishes."""
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder), step_settings_of(horizon="10m"))
        plain = Plain(desk)
        clock, sent = 0, []
        for name, more in what:
            if name == "send":
                messages = []
                for series, back, value, copies in more:  # type: ignore[attr-defined]
                    message = at(clock - back * 10, float(value), f"s1/d1/m{series}")
                    messages += [message] * copies
                sent.append(messages)
                plain.send(messages)
            elif name == "again":
                for messages in sent[-2:]:
                    plain.send(messages)
            elif name == "advance":
                clock += more  # type: ignore[operator]
                desk.clock.advance(more)  # type: ignore[arg-type]
                desk.tick()
            elif name == "restart":
                desk.restart()
            else:
                desk.chores()
        assert plain.counted <= len(plain.came) <= plain.counted + plain.dead
        desk.close()


# Coverage and arrivals by themselves.

heard = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 60)), min_size=1, max_size=12)


@given(st.lists(heard, min_size=1, max_size=6))
def test_coverage_is_what_was_heard_without_silences(ticks: list[list[tuple[int, int]]]) -> None:
    """Intervals hold every time that was heard, split exactly at silences of more than a minute, and come back from bytes."""
    coverage = Coverage()
    coverage.grow(2)
    times: dict[int, set[int]] = {0: set(), 1: set()}
    for tick in ticks:
        series = np.array([s for s, _ in tick], np.int32)
        sent = np.array([t * 25 * S for _, t in tick], np.int64)
        coverage.hear(series, sent)
        for s, t in zip(series.tolist(), sent.tolist(), strict=True):
            times[s].add(t)
    again = unpacked(packed(coverage, []))
    for s, all_times in times.items():
        rising = sorted(all_times)
        inside = set(rising)
        for one, next_one in itertools.pairwise(rising):
            if next_one - one <= SILENCE_US:
                inside.update(range(one, next_one, 5 * S))
        asked = np.arange(-6 * 25 * S, 62 * 25 * S, 5 * S)
        for each in (coverage, again):
            covers = each.covers(np.full(len(asked), s, np.int32), asked)
            assert set(asked[covers].tolist()) == inside


def test_coverage_keeps_at_most_64_intervals_and_covers_no_less() -> None:
    """The oldest become one: more is taken for covered than was heard, never less."""
    coverage = Coverage()
    coverage.grow(1)
    times = np.arange(100) * 1000 * S
    for t in times.tolist():
        coverage.hear(np.zeros(1, np.int32), np.array([t]))
    assert coverage.covers(np.zeros(100, np.int32), times).all()
    assert len(coverage.older[0]) == 2 * 63
    assert coverage.covers(np.zeros(2, np.int32), np.array([500 * S, 99_500 * S])).tolist() == [True, False]


columns = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([0, 1, 2, 50, 100, 4000, None]), st.sampled_from([0.0, 1.5])
    ),
    min_size=1,
    max_size=12,
)


@given(st.lists(columns, min_size=1, max_size=5))
def test_every_reading_is_found_in_the_row_that_holds_it(
    ticks: list[list[tuple[int, int | None, float]]],
) -> None:
    """Among the rows that a look-up reads is the one in which a reading arrived, in order or not."""
    arrivals = Arrivals()
    last_sent = np.full(2, -(2**62))
    rows: list[Readings] = []
    for number, tick in enumerate(ticks):
        readings = Readings(
            np.array([s for s, _, _ in tick], np.int32),
            np.array([NO_TIME if t is None else t * S for _, t, _ in tick], np.int64),
            np.array([v for _, _, v in tick], np.float64),
        )
        odd = out_of_order(readings, last_sent)
        newest = {s: int(last_sent[s]) if s < len(last_sent) else -(2**62) for s in range(4)}
        for i, (s, t) in enumerate(zip(readings.series.tolist(), readings.sent.tolist(), strict=True)):
            assert odd[i] == (t != NO_TIME and t <= newest[s])
            newest[s] = max(newest[s], t)
        last_sent = np.array([newest[s] for s in range(4)])
        arrivals.add(number, summary(readings, odd))
        rows.append(readings)
    for number, readings in enumerate(rows):
        for i in np.flatnonzero(readings.sent != NO_TIME).tolist():
            one = slice(i, i + 1)
            hashed = hashes(readings.series[one], readings.sent[one], readings.value[one])
            assert number in arrivals.ticks(readings.sent[one], hashed)


def test_a_device_whose_clock_stands_in_1970_widens_no_other_rows_interval() -> None:
    """A look-up of today's reading reads today's rows only, though each row holds a reading of 1970 too."""
    arrivals = Arrivals()
    for number in range(100):
        sent = np.array([number * S, DAY + number * S])
        readings = Readings(np.array([0, 1], np.int32), sent, np.ones(2))
        arrivals.add(number, summary(readings, np.zeros(2, np.bool_)))
    hashed = np.zeros(1, np.uint64)
    assert arrivals.ticks(np.array([DAY + 50 * S]), hashed).tolist() == [50]


def test_a_silent_horizon_is_no_hurdle(tmp_path: Path) -> None:
    """A file without a single reading starts."""
    desk = Desk(tmp_path, step_settings_of())
    desk.restart()
    assert isinstance(desk.horizon, Horizon)
    desk.close()
