"""Retention deletes what may go and nothing else, what comes too late is kept apart, and the file shrinks (R28)."""

from __future__ import annotations

import pytest

from headwater_cloud import retention
from headwater_cloud.retention import Keep, length_us
from headwater_shared import frame
from headwater_shared.identity import shard_of
from headwater_shared.topics import DEAD_LETTERS
from tests.cloud.made import DAY, SHARD, T0, TEMP, Agent, Row, S, parts_of, row
from tests.cloud.side import FILE, Side, windows_of

A, B, C = ("a1", 1, 1), ("a1", 1, 2), ("a2", 3, 1)


@pytest.fixture
def aged(side: Side) -> Side:
    """A cloud side whose clock stands at T0."""
    side.clock.wall_us = T0
    return side


def pass_days(side: Side, days: float) -> None:
    """Let time pass, for the operators too."""
    side.put_clock(SHARD, seconds=days * 86_400)
    side.run()


def late(side: Side) -> list[tuple[str, frame.Frame]]:
    """Reason and content of each dead letter."""
    return [(stored.headers["reason"], frame.decode(stored.body)) for stored in side.topic(DEAD_LETTERS)]


def counts(side: Side, level: str = "10s") -> dict[float, int]:
    """Begin (seconds after T0) and count of the windows of a level."""
    query = "SELECT start, count FROM window JOIN level ON level.id = level WHERE name = ? AND shard >= 0 ORDER BY start"
    return {(start - T0) / S: count for start, count in side.rows(query, level)}


def test_r28_a_part_that_comes_after_the_parts_of_its_window_are_gone_is_a_dead_letter(aged: Side) -> None:
    """It is kept whole with its identity, reported, had, and never written over the window."""
    agent = Agent()
    aged.take(agent.frame(row(0, 1.0, opened=A)), agent.frame(row(1, 2.0, opened=B)))
    pass_days(aged, 8)
    before = windows_of(aged)
    aged.prune()
    assert aged.rows("SELECT count(*) FROM part") == [(0,)]
    assert windows_of(aged) == before
    late_ones = (("late", row(0, 1.0, 5.0, opened=A, revision=1)), ("later", row(2, 3.0, opened=C)))
    for name, revised in late_ones:
        aged.take(Agent(name, epoch=revised.tick + revised.epoch).frame(revised))
    assert windows_of(aged) == before
    (reason, first), (_, second) = late(aged)
    assert reason == "late"
    assert (first.agent, first.parts.names, first.parts.levels) == ("late", [TEMP], ["10s"])
    assert frame.encode(frame.Frame("", 0, 0, 0, 0, None, first.parts)) == frame.encode(
        frame.Frame("", 0, 0, 0, 0, None, parts_of([row(0, 1.0, 5.0, opened=A, revision=1)]))
    )
    assert second.parts.aggregates.count.tolist() == [1]
    assert [kind for kind, _ in aged.reports()] == ["late", "late"]
    assert aged.count("dead_letters_total", reason="late") == 2
    assert aged.haves()["late", 2, SHARD] == [1, 1]


def test_r28_windows_of_several_parts_may_be_revised_for_as_long_as_parts_are_kept(aged: Side) -> None:
    """A week from the window's end, to the microsecond: what comes then changes it."""
    agent = Agent()
    aged.take(agent.frame(row(0, 1.0, opened=A)), agent.frame(row(1, 2.0, opened=B)))
    aged.put_clock(SHARD, seconds=7 * 86_400 + 10)
    aged.run()
    aged.prune()
    aged.take(agent.frame(row(1, 2.0, 3.0, opened=B, revision=1)))
    assert counts(aged) == {0: 3}
    aged.put_clock(SHARD, seconds=1e-6)
    aged.run()
    aged.prune()
    aged.take(agent.frame(row(1, 2.0, 3.0, 4.0, opened=B, revision=2)))
    assert counts(aged) == {0: 3}
    assert len(late(aged)) == 1


def test_r28_a_window_of_one_part_holds_it_and_may_be_revised_for_ever(aged: Side) -> None:
    """Nothing was let go of it: an old device's reading is merged exactly."""
    agent = Agent()
    aged.take(agent.frame(row(0, 1.0, opened=A)))
    pass_days(aged, 30)
    aged.prune()
    aged.take(agent.frame(row(1, 2.0, opened=C)), agent.frame(row(0, 1.0, 4.0, opened=A, revision=1)))
    assert counts(aged) == {0: 3}
    assert late(aged) == []


def test_r28_a_window_that_never_was_is_written_however_old(aged: Side) -> None:
    """A truck that was offline for ten days brings windows that stand nowhere yet."""
    agent = Agent()
    pass_days(aged, 10)
    aged.take(agent.frame(row(0, 1.0, opened=A)), agent.frame(row(0, 1.0, level="1h", opened=B)))
    assert counts(aged) == {0: 1}
    assert late(aged) == []


def test_r28_what_is_late_of_several_agents_and_shards_is_kept_by_agent_and_shard(aged: Side) -> None:
    """Each dead letter is a frame of one agent's epoch and of the shard that its series belong to."""
    series = (TEMP, "s2/d1/x", "s1/d2/y")
    openers = (A, C)
    for name, epoch, tick in openers:
        agent = Agent(name, epoch)
        aged.take(*(agent.frame(row(0, 1.0, series=one, opened=(name, epoch, tick))) for one in series))
    pass_days(aged, 8)
    aged.prune()
    sent = [
        Agent(name, epoch, seqs={shard_of(one[:2]): 50 + n}).frame(
            row(0, 1.0, 2.0, series=one, opened=(name, epoch, tick), revision=1)
        )
        for name, epoch, tick in openers
        for n, one in enumerate(series)
    ]
    aged.take(*sent)
    found = {(one.agent, one.epoch, one.shard): sorted(one.parts.names) for _, one in late(aged)}
    assert found == {
        (name, epoch, shard): names
        for name, epoch, _ in openers
        for shard, names in ((SHARD, ["s1/d1/temp", "s1/d2/y"]), (shard_of("s2"), ["s2/d1/x"]))
    }
    assert sum(len(one.parts) for _, one in late(aged)) == 6
    assert aged.count("dead_letters_total", reason="late") == 6


def test_r25_what_is_late_of_a_site_that_is_spread_is_a_dead_letter_of_the_shard_that_it_came_by(
    aged: Side,
) -> None:
    """Which that is says the frame: the cloud side knows no map."""
    aged.take(
        *(Agent(name, epoch).frame(row(0, 1.0, opened=(name, epoch, tick))) for name, epoch, tick in (A, C))
    )
    pass_days(aged, 8)
    aged.prune()
    name, epoch, _ = A
    aged.take(Agent(name, epoch).frame(row(0, 1.0, 2.0, opened=A, revision=1), shard=SHARD + 3))
    ((_, letter),) = late(aged)
    assert (letter.shard, letter.parts.names) == (SHARD + 3, [TEMP])


def levels(at: float, *opened: tuple[str, int, int]) -> list[Row]:
    """Parts of the windows that a reading belongs to, at every level."""
    return [
        row(at, 1.0 + n, level=level, opened=one)
        for level in ("10s", "1m", "10m", "1h")
        for n, one in enumerate(opened)
    ]


def test_windows_are_kept_by_level(aged: Side) -> None:
    """A fine level for days, a coarser one for longer, a level that is not named for ever; until its time a window stays."""
    agent = Agent()
    for day in range(4):
        aged.take(agent.frame(*levels(day * 86_400, A, C)))
    aged.put_clock(SHARD, seconds=3 * 86_400 + 10)
    aged.run()
    aged.prune(_10s=2, _1m=3)
    begins = [0, 86_400, 172_800, 259_200]
    assert list(counts(aged)) == begins[1:], "exactly two days old: it stays"
    assert list(counts(aged, "1m")) == begins
    aged.put_clock(SHARD, seconds=50 + 1e-6)
    aged.run()
    aged.prune(_10s=2, _1m=3)
    assert list(counts(aged)) == begins[2:]
    assert list(counts(aged, "1m")) == begins[1:]
    assert list(counts(aged, "10m")) == list(counts(aged, "1h")) == begins
    assert set(counts(aged).values()) == {2}


@pytest.mark.parametrize("again", [False, True], ids=["same process", "next process"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside newer windows"])
@pytest.mark.parametrize("series", [TEMP, "s1/new/x"], ids=["known", "new series"])
def test_r28_what_comes_for_a_time_whose_windows_are_deleted_is_a_dead_letter(
    aged: Side, again: bool, beside: bool, series: str
) -> None:
    """It would stand for a whole window and be deleted in turn: whatever else is stored, in whatever batch, it is kept apart."""
    agent = Agent()
    aged.take(agent.frame(row(0, 1.0, opened=A)), agent.frame(row(0, 1.0, level="1h", opened=A)))
    pass_days(aged, 9)
    aged.prune(_10s=1)
    assert counts(aged) == {}
    if again:
        aged.reopen()
    if beside:
        aged.take(agent.frame(row(9 * 86_400, 1.0, opened=B)))
    aged.take(
        agent.frame(row(3, 2.0, series=series, opened=B), row(0, 2.0, level="1h", series=series, opened=B))
    )
    assert 0 not in counts(aged)
    ((reason, one),) = late(aged)
    assert (reason, one.parts.names, one.parts.start.tolist()) == ("late", [series], [T0])
    assert [one.parts.levels[level] for level in one.parts.level] == ["10s"]
    of_hours = "SELECT sum(count) FROM window JOIN level ON id = level WHERE name = '1h' AND shard >= 0"
    assert aged.rows(of_hours) == [(2,)], "a level that is kept has it"


def test_retention_waits_until_what_was_merged_is_written(aged: Side) -> None:
    """Parts that a batch was merged with stay until that batch is committed."""
    agent = Agent()
    aged.take(agent.frame(row(0, 1.0, opened=A)), agent.frame(row(1, 2.0, opened=B)))
    pass_days(aged, 8)
    aged.put(agent.frame(row(1, 2.0, 3.0, opened=B, revision=1)))
    aged.runner._take()
    assert aged.runner.prune(Keep({}, 7 * DAY)) == 0
    aged.settle()
    assert counts(aged) == {0: 3}
    assert aged.runner.prune(Keep({}, 7 * DAY)) == 2


def test_retention_works_in_chunks(aged: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next batch never waits for more than a chunk, and a chunk takes the parts of a start all at once."""
    monkeypatch.setattr(retention, "_CHUNK", 10)
    agent = Agent()
    for n in range(12):
        rows = [row(10 * n, 1.0, series=f"s1/d{k}/x", opened=one) for k in range(6) for one in (A, C)]
        aged.take(agent.frame(*rows))
    pass_days(aged, 8)
    deleted = []
    while some := aged.runner.prune(Keep({"10s": 7 * DAY}, 7 * DAY)):
        deleted.append(some)
        left = aged.rows("SELECT start, count(*) FROM part GROUP BY start")
        assert {count for _, count in left} <= {12}
    assert sum(deleted) == 12 * 12 + 12 * (6 + 2), "two are rollups, of the site and of all sites"
    assert max(deleted) <= 2 * (10 + 12)
    assert counts(aged) == {}


def test_what_was_found_goes_when_it_is_long_over(aged: Side) -> None:
    """Anomalies and alerts that are over, and reports, after their time; an alert that still fires stays, however old it is."""
    agent = Agent()
    aged.take(agent.anomaly("begin", 1), agent.anomaly("end", 2, begin=1), agent.anomaly("begin", 5))
    pass_days(aged, 20)
    aged.take(agent.anomaly("end", 20 * 86_400, begin=20 * 86_400 - 9, series="s1/d1/flow"))
    keep = Keep({}, 7 * DAY, 30 * DAY)
    assert aged.runner.prune(keep) == 0
    pass_days(aged, 15)
    while aged.runner.prune(keep):
        pass
    assert aged.rows("SELECT phase, (time_us - ?) / 1000000 FROM anomaly", T0) == [("end", 20 * 86_400)]
    states = aged.rows(
        "SELECT state, (episode_us - ?) / 1000000 FROM alert WHERE rule <> 'agent-silent' ORDER BY episode_us",
        T0,
    )
    assert states == [("firing", 5), ("resolved", 20 * 86_400 - 9)]
    ((old,),) = aged.rows("SELECT count(*) FROM report WHERE time_us < ?", T0 + DAY)
    assert old == 0


def test_no_time_no_retention(aged: Side) -> None:
    """Without a clock record nothing is old."""
    aged.take(Agent().frame(row(0, 1.0, opened=A)))
    assert aged.runner.prune(Keep({"10s": DAY}, DAY)) == 0
    assert counts(aged) == {0: 1}


def size(side: Side) -> int:
    side.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return (side.folder / FILE).stat().st_size


def test_the_file_shrinks(aged: Side) -> None:
    """What retention deletes goes back to the file system, but for a quarter that the next windows use."""
    agent = Agent()
    for n in range(20):
        values = [k * 1.1**n for k in range(60)]
        aged.take(agent.frame(*(row(10 * n, *values, series=f"s1/d{k}/x", opened=A) for k in range(50))))
    pass_days(aged, 9)
    aged.take(agent.frame(row(9 * 86_400, 1.0, opened=B)))
    before = size(aged)
    aged.prune(_10s=1)
    assert list(counts(aged)) == [9 * 86_400]
    after = size(aged)
    assert before > 500_000
    assert after < before / 2
    ((free,),) = aged.rows("PRAGMA freelist_count")
    ((pages,),) = aged.rows("PRAGMA page_count")
    assert free <= pages / 4 + 1


@pytest.mark.parametrize(
    ("name", "us"), [("10s", 10 * S), ("1h", 3600 * S), ("session-5m", 0), ("", 0), ("s", 0)]
)
def test_a_level_s_length_is_in_its_name(name: str, us: int) -> None:
    """A kind that has no fixed length counts from its start."""
    assert length_us(name) == us
