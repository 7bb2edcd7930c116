"""The file that workers share: what a worker that was away, or whose commit failed, can no longer spoil (R27)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from headwater_cloud.book import Book
from headwater_cloud.pipeline import Output
from headwater_cloud.rule_records import rules_record
from headwater_cloud.shared_store import SharedStore
from headwater_shared import sqlite_file
from headwater_shared.errors import TryAgain
from headwater_shared.topics import IN
from tests.cloud.made import SHARD, T0, Agent, clock_record, row, without
from tests.cloud.notified import LINES
from tests.cloud.on_pieces import Death, PieceSide
from tests.cloud.side import FILE

FIRST, SECOND = "s2/d1/temp", "s1/d{}/temp"
"""Series of two shards; the sink writes the first one first."""
MANY = 300


@pytest.fixture
def side(folder: Path) -> Iterator[PieceSide]:
    made = PieceSide(folder)
    yield made
    made.close()


@contextmanager
def full(sink: SharedStore) -> Iterator[None]:
    """No page more fits."""
    connection = sink._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    yield
    connection.execute("PRAGMA max_page_count=1000000")


def windows(side: PieceSide) -> list[tuple[str, int]]:
    """Name of the series and count of each window."""
    return side.rows(
        "SELECT s.name, w.count FROM window w LEFT JOIN series s ON s.id = w.series WHERE w.shard >= 0 ORDER BY 1, 2"
    )


@pytest.mark.covers("R27")
def test_r27_numbers_of_a_commit_that_failed_are_not_used(side: PieceSide, folder: Path) -> None:
    """A commit of two shards fails on a full disk after new series had numbers, and another worker gives these numbers to others:
    each window stands under its own name afterwards.
    """
    many = [row(1, 1.0, series=SECOND.format(n)) for n in range(MANY)]
    side.put(Agent().frame(*many), Agent("a2").frame(row(1, 1.0, 2.0, series=FIRST)))
    with full(side.sink), pytest.raises(TryAgain):
        side.step()
    other = PieceSide(folder, log="other.db")
    other.take(Agent("a9").frame(row(1, 1.0, 2.0, 3.0, series="s9/d1/temp")))
    other.close()
    side.run()
    assert windows(side) == sorted([*((one.series, 1) for one in many), (FIRST, 2), ("s9/d1/temp", 3)])


@pytest.mark.covers("R27")
def test_r27_a_worker_that_was_away_writes_nothing_over_what_another_wrote(
    side: PieceSide, folder: Path
) -> None:
    """Two workers have the same shard for a while: the one that is behind writes no row, and what it has to say is not said."""
    agent, other = Agent(), PieceSide(folder)
    side.put(agent.frame(row(1, 1.0)), agent.anomaly("begin", 1.0))
    stale = side.work()
    side.put(agent.frame(row(1, 2.0, opened=("a1", 1, 2))))
    other.run()
    side.sink.write(stale, side.names)
    other.take(agent.anomaly("end", 2.0, begin=1.0))
    other.close()
    assert windows(side) == [("s1/d1/temp", 2)]
    assert side.rows("SELECT n, state FROM alert_event ORDER BY n") == [(1, "firing"), (2, "resolved")]


@pytest.mark.covers("R27")
def test_r07_of_several_batches_of_a_checkpoint_the_last_word_on_a_window_counts(side: PieceSide) -> None:
    """New rules, or a poisonous record, cut a checkpoint into batches: one has a window, a later one takes it back; and the other way round."""
    agent, some, other = Agent(), row(1, 1.0), row(12, 1.0)
    side.put(agent.frame(some, without(other, 1)))
    first = side.work()
    side.put(agent.frame(without(some, 1), other._replace(revision=2)))
    side.sink.write([*first, *side.work()], side.names)
    found = side.rows("SELECT start, count FROM window WHERE shard >= 0")
    assert found == [(other.start, 1)]


@pytest.mark.covers("R27")
def test_r27_a_file_that_somebody_holds_is_tried_again(
    side: PieceSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held for writing, or altogether: nothing is written and nothing ends; the same records count once it is free."""
    monkeypatch.setattr(sqlite_file, "BUSY_MS", 50)
    side.kill()
    agent = Agent()
    for how in ("IMMEDIATE", "EXCLUSIVE"):
        with closing(sqlite3.connect(side.folder / FILE, isolation_level=None)) as holder:
            holder.execute(f"BEGIN {how}")
            side.put(agent.frame(row(1, 1.0, opened=("a1", 1, agent.tick))))
            with pytest.raises(TryAgain):
                side.step()
        side.run()
    assert windows(side) == [("s1/d1/temp", 2)]


@pytest.mark.covers("R27")
def test_r27_a_checkpoint_that_is_done_again_may_be_cut_otherwise(side: PieceSide) -> None:
    """A worker dies after the file's commit, before Kafka's; the next one reads the same records in smaller batches, until it is past what is written."""
    agent = Agent()
    side.put(*(agent.frame(row(1, float(n), opened=("a1", 1, n))) for n in range(7)))
    side.step(dies="before")
    assert windows(side) == [("s1/d1/temp", 7)]
    side.batch = 2
    for counted in (7, 7, 7, 7):
        side.step()
        assert windows(side) == [("s1/d1/temp", counted)], "an older cut is not written over a newer one"
    side.take(agent.frame(row(1, 9.0, opened=("a1", 1, 9))))
    assert windows(side) == [("s1/d1/temp", 8)]


def told(side: PieceSide) -> list[tuple[str, bool]]:
    """What people were told: state, and whether it may be a repeat."""
    lines = (side.folder / LINES).read_bytes().splitlines()
    found = [msgspec.json.decode(line) for line in lines]
    return [(one["state"], one.get("possible_repeat", False)) for one in found]


@pytest.mark.covers("R29")
def test_r29_people_are_not_told_again_of_what_a_worker_works_on_again(side: PieceSide) -> None:
    """It had an alert to tell of, and died before Kafka's commit, or after it: the next one makes the same alert of the same records, or knows that
    it is made, and people hear of it once.
    """
    agent = Agent()
    side.put(agent.anomaly("begin", 1.0))
    side.step(dies="before")
    side.run()
    assert told(side) == [("firing", False)]
    side.put(agent.anomaly("end", 2.0, begin=1.0))
    side.step(dies="after")
    assert told(side) == [("firing", False)]
    side.take(clock_record(SHARD, T0))
    assert told(side) == [("firing", False), ("resolved", False)]
    assert side.rows("SELECT state FROM alert") == [("resolved",)]
    assert side.rows("SELECT n, state FROM alert_event ORDER BY n") == [(1, "firing"), (2, "resolved")]


@pytest.mark.covers("R24", "R26")
def test_r24_an_alert_that_only_a_failed_checkpoint_made_never_was(side: PieceSide) -> None:
    """Of a part of its records a worker made an alert, and died before Kafka's commit. The next one reads them with what came later, by which the
    episode began earlier: that is another alert, the only one, and people hear of no other.
    """
    agent = Agent()
    side.put(agent.anomaly("begin", 10.0))
    side.step(dies="before")
    side.take(agent.anomaly("begin", 5.0))
    assert side.rows("SELECT episode_us, state FROM alert") == [(T0 + 5_000_000, "firing")]
    assert side.rows("SELECT what FROM alert_event") == [("firing",)]
    assert told(side) == [("firing", False)]


@pytest.mark.covers("R24", "R26")
def test_r24_alerts_are_made_where_the_file_is_ahead_of_kafka(side: PieceSide) -> None:
    """A worker died before Kafka's commit; the next one reads the same records one by one: no row is written until it is past what is, but
    what is found counts.
    """
    agent = Agent()
    side.put(*(agent.anomaly("begin", 1.0, series=f"s1/d{n}/temp") for n in range(3)))
    side.step(dies="before")
    side.batch = 1
    side.run()
    found = side.rows("SELECT subject, state FROM alert ORDER BY subject")
    assert found == [(f"s1/d{n}/temp", "firing") for n in range(3)]
    assert told(side) == [("firing", False)]


@pytest.mark.covers("R24", "R29")
def test_r24_another_machine_writes_what_the_one_before_could_not(side: PieceSide, folder: Path) -> None:
    """A worker died after Kafka's commit of an alert, and one with a file of its own has the shard then: it has the alert, and tells people of it,
    marked, for the first machine may have. What comes after that is told by it alone.
    """
    agent, other = Agent(), PieceSide(folder / "other", log="../log.db")
    side.put(agent.anomaly("begin", 1.0))
    side.step(dies="after")
    side.hand_over(other)
    other.take(clock_record(SHARD, T0), agent.anomaly("end", 2.0, begin=1.0))
    assert other.rows("SELECT n, what FROM alert_event ORDER BY n") == [(1, "firing"), (2, "resolved")]
    assert told(other) == [("firing", True), ("resolved", False)]
    other.take(clock_record(SHARD, T0 + 1_000_000))
    side.pieces, side.offsets = other.pieces, other.offsets
    side.take(clock_record(SHARD, T0 + 2_000_000))
    assert side.rows("SELECT count(*) FROM notification") == [(0,)]
    other.close()


@pytest.mark.covers("R24")
def test_r24_effects_leave_the_state_once_they_are_written(side: PieceSide) -> None:
    """The shard's next checkpoint lets them go, large ones too: whoever takes it over then has nothing to write again."""
    agent, many = Agent(), 1_000
    side.batch = many
    side.take(clock_record(SHARD, T0))
    before = side.pieces[SHARD].keys()
    side.put(*(agent.anomaly("begin", 1.0, series=f"s1/d{n}/temp") for n in range(many)))
    side.step()
    assert len([name for name in side.pieces[SHARD] if name.startswith("effects/")]) > 1
    side.take(clock_record(SHARD, T0 + 1_000_000))
    assert not [name for name in side.pieces[SHARD].keys() - before if name.startswith("effects/")]


@pytest.mark.covers("R24")
def test_r24_cuts_of_a_checkpoint_have_their_effects_together(side: PieceSide) -> None:
    """New rules cut a checkpoint: what was found before them and after them is written, also by who takes the shard over."""
    agent = Agent()
    deaths: list[tuple[Death, float]] = [("", 1.0), ("after", 50.0)]
    for dies, at in deaths:
        begun = [agent.anomaly("begin", at, series=f"s1/d{n}-{at}/temp") for n in range(2)]
        side.put(begun[0], rules_record(Book(time_us=T0 + round(at)), SHARD), begun[1])
        side.step(dies=dies)
    side.take(clock_record(SHARD, T0))
    assert side.rows("SELECT count(*) FROM alert WHERE state = 'firing'") == [(4,)]


@pytest.mark.covers("R24")
def test_r24_a_later_change_of_an_alert_stays(side: PieceSide) -> None:
    """A worker of a version that wrote effects at once came between, and let those in the state lie: they are not written over what came after."""
    agent = Agent()
    side.put(agent.anomaly("begin", 1.0))
    side.step(dies="after")
    left = {name: body for name, body in side.pieces[SHARD].items() if name.startswith("effects")}
    side.take(agent.anomaly("end", 2.0, begin=1.0))
    side.pieces[SHARD].update(left)
    side.kill()
    side.take(clock_record(SHARD, T0))
    assert side.rows("SELECT state FROM alert") == [("resolved",)]
    assert told(side) == [("firing", False), ("resolved", False)]


@pytest.mark.covers("R27")
def test_r27_dead_letters_are_noted_until_the_next_commit(side: PieceSide) -> None:
    """What who died had decided is kept with the first rows of the next worker, which may be of a part of those records only."""
    noted, agent = "SELECT value FROM meta WHERE name LIKE 'dead letters of %'", Agent()
    side.put(*(msgspec.structs.replace(agent.frame(row(1, 1.0)), body=b"?") for _ in range(2)))
    side.step(dies="before")
    assert len(side.sink.decided((IN.name, SHARD))) == 2
    side.put(agent.frame(row(2, 1.0)))
    (batch,) = side.work()
    for left in ([0, 1], []):
        side.sink.write([batch._replace(out=Output())], side.names)
        assert [int(n) for (text,) in side.rows(noted) for n in msgspec.json.decode(text)] == left
