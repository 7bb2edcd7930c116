"""Rollups of sites, cohorts and the fleet: exact, whatever the order, the repetition and the cut of what they are made of (R25)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_cloud import by_device, dirty, export, query
from headwater_cloud.outputs import revived
from headwater_cloud.shard import PIECE_LIMIT, Shard, load
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import shard_of
from headwater_shared.parts import COARSENED
from headwater_shared.records import RegistryChange
from headwater_shared.topics import BY_METRIC, DEAD_LETTERS, IN
from tests.cloud.made import T0, TEMP, Agent, Row, S, clock_record, frame_record, row, without
from tests.cloud.rollups import assert_rollups, found
from tests.cloud.side import Side, in_memory
from tests.cloud.test_merge import OPENERS, Reading, cut, revisions_of

SHARDS = (shard_of("s1"), shard_of("s2"))
COHORTS = {"s1/d1": "pump-a", "s2/d9": "pump-a", "s1/d2": "CR 32/2"}

readings = st.lists(
    st.tuples(
        st.sampled_from(("s1/d1/temp", "s1/d2/temp", "s1/d3/temp", "s1/d1/flow", "s2/d9/temp")),
        st.sampled_from((0, 1, S, 9 * S, 10 * S, 59 * S, 60 * S)).map(lambda at: T0 + at),
        st.sampled_from((0.0, -0.0, 1.5, -2.25, 20.1, 20.2, 1e-300, -1e12, 1e6, 0.1)),
    ),
    min_size=1,
    max_size=14,
    unique_by=lambda reading: (reading[0], reading[1], reading[2] or 0.0),
)
openers = st.lists(st.sampled_from(OPENERS), min_size=14, max_size=14)

SOME = settings(max_examples=max(25, settings().max_examples - 75))


@contextmanager
def new_side(batch: int = 200) -> Iterator[Side]:
    with in_memory() as folder:
        made = Side(folder, batch=batch)
        made.clock.wall_us = T0
        yield made
        made.close()


def registered(device: str, cohort: str) -> Record:
    headers = records.headers(records.REGISTRY, f"registry/{device}", "test", T0)
    body = records.encode(RegistryChange(device, T0, cohort=cohort))
    return Record(IN.name, shard_of(device.partition("/")[0]), device, headers, body)


def settle(side: Side) -> None:
    """Let time pass until nothing is left to roll up."""
    for _ in range(2):
        side.clock.advance(11)
        side.put(*(clock_record(shard, side.clock.wall_us) for shard in SHARDS))
        side.run()


@SOME
@given(readings, openers, st.randoms(use_true_random=False), st.integers(1, 9))
def test_r25_rollups_are_what_their_windows_add_up_to(
    some: list[Reading], opened: list[tuple[str, int, int]], chance: random.Random, batch: int
) -> None:
    """Any order, repetition and cut of the same parts and clocks, with starts between them: the same rollups."""
    rows: list[Row] = revisions_of(some, opened)
    again = [*rows, *chance.choices(rows, k=chance.randint(0, len(rows)))]
    chance.shuffle(again)
    with new_side(batch) as side:
        side.take(*(registered(device, cohort) for device, cohort in COHORTS.items()))
        for frame in cut(again, chance):
            side.put(frame_record(frame))
            if chance.random() < 0.4:
                side.clock.advance(chance.choice((0.5, 1, 3, 12)))
                side.put(
                    *(clock_record(shard, side.clock.wall_us) for shard in SHARDS if chance.random() < 0.8)
                )
            if chance.random() < 0.3:
                side.run()
            if chance.random() < 0.1:
                side.reopen()
        side.run()
        settle(side)
        assert_rollups(side, lambda device: COHORTS.get(device, ""))
        assert found(side)


def counts(side: Side, level: str = "10s") -> dict[str, dict[float, int]]:
    """Of each rollup of a level the start, in seconds after T0, and the count of its windows."""
    out: dict[str, dict[float, int]] = {}
    for (series, name, start), whole in found(side).items():
        if name == level:
            out.setdefault(series, {})[(start - T0) / S] = whole.number
    return out


@pytest.fixture
def settled(side: Side) -> Side:
    """A cloud side whose clock stands at T0, and whose shards know it."""
    side.clock.wall_us = T0
    settle(side)
    return side


def pass_time(side: Side, seconds: float, *shards: int) -> None:
    side.clock.advance(seconds)
    side.take(*(clock_record(shard, side.clock.wall_us) for shard in shards or SHARDS))


def test_r25_a_level_and_start_is_rolled_up_when_it_was_quiet_for_two_seconds(settled: Side) -> None:
    """By the shard's clock; one that never gets quiet, ten seconds after its first change."""
    agent = Agent()
    settled.take(agent.frame(row(0, 1.0)))
    pass_time(settled, 1.9)
    assert counts(settled) == {}
    pass_time(settled, 0.1)
    assert counts(settled) == {"s1/+/temp": {0: 1}, "+/+/temp": {0: 1}}
    for n in range(6):
        settled.take(agent.frame(row(1 + n, 1.0, opened=("a1", 1, 2 + n))))
        assert counts(settled)["s1/+/temp"] == {0: 1}
        pass_time(settled, 1.9)
    assert counts(settled)["s1/+/temp"] == {0: 7}


def test_r25_a_late_part_makes_a_later_revision_of_the_rollup(settled: Side) -> None:
    """Also after a start: what is stored of the level and start comes from the file then."""
    one, two = Agent("a1"), Agent("a2", epoch=7)
    settled.take(
        one.frame(row(0, 1.0), row(0, 2.0, series="s1/d2/temp")), two.frame(row(0, 4.0, series="s2/d1/temp"))
    )
    settle(settled)
    assert counts(settled) == {"s1/+/temp": {0: 2}, "s2/+/temp": {0: 1}, "+/+/temp": {0: 3}}
    settled.reopen()
    settled.take(two.frame(row(3, 5.0, series="s1/d3/temp", opened=("a2", 7, 9))))
    settle(settled)
    assert counts(settled) == {"s1/+/temp": {0: 3}, "s2/+/temp": {0: 1}, "+/+/temp": {0: 4}}
    settled.take(one.frame(row(0, 1.0, 1.5, revision=1)))
    settle(settled)
    assert counts(settled) == {"s1/+/temp": {0: 4}, "s2/+/temp": {0: 1}, "+/+/temp": {0: 5}}
    assert_rollups(settled)


def test_r25_a_site_over_two_shards_is_one_site(settled: Side) -> None:
    """Each shard's part of it adds up, and a revision in one leaves the other as it is."""
    agent = Agent()
    first, second = SHARDS
    sent = [row(n % 3, 1.0 * n, series=f"s1/d{n}/temp", opened=("a1", 1, n)) for n in range(6)]
    for one in sent:
        settled.take(agent.frame(one, shard=SHARDS[int(one.series[4]) % 2]))
    pass_time(settled, 3, first)
    assert counts(settled)["s1/+/temp"] == {0: 3}
    pass_time(settled, 3, second)
    assert_rollups(settled)
    settled.take(
        agent.frame(
            sent[1]._replace(revision=1, readings=(*sent[1].readings, (T0 + 5 * S, 7.0))), shard=second
        )
    )
    settle(settled)
    assert counts(settled) == {"s1/+/temp": {0: 7}, "+/+/temp": {0: 7}}
    settled.reopen()
    settled.take(agent.frame(row(9, 7.0, series="s1/d0/temp", opened=("a1", 1, 9)), shard=first))
    settle(settled)
    assert counts(settled) == {"s1/+/temp": {0: 8}, "+/+/temp": {0: 8}}
    assert_rollups(settled)


def test_r25_the_last_window_that_is_taken_away_takes_its_rollups_along(settled: Side) -> None:
    """Of two cohorts one has nothing left; the site has the other's (R7)."""
    agent = Agent()
    settled.take(*(registered(device, cohort) for device, cohort in COHORTS.items()))
    one, two = row(0, 1.0), row(0, 2.0, series="s1/d2/temp")
    settled.take(agent.frame(one, two))
    settle(settled)
    assert set(counts(settled)) == {
        "s1/+/temp", "+/+/temp", "s1/+pump-a/temp", "+/+pump-a/temp", "s1/+CR 32/2/temp", "+/+CR 32/2/temp",
    }  # fmt: skip
    settled.take(agent.frame(without(one, 1)))
    settled.reopen()
    settle(settled)
    assert set(counts(settled)) == {"s1/+/temp", "+/+/temp", "s1/+CR 32/2/temp", "+/+CR 32/2/temp"}
    assert_rollups(settled, lambda device: COHORTS.get(device, ""))
    settled.take(agent.frame(without(two, 1)))
    settle(settled)
    assert counts(settled) == {}
    settled.take(agent.frame(two._replace(revision=2)))
    settle(settled)
    assert counts(settled)["s1/+/temp"] == {0: 1}


def test_r25_sessions_have_no_rollups(settled: Side) -> None:
    """Each starts when its own series does, so there is nothing to merge it with."""
    settled.take(Agent().frame(row(0, 1.0, level="1m")._replace(level="session-1m", start=T0 + 3)))
    settle(settled)
    assert counts(settled, "session-1m") == {}


def test_r22_a_rollup_is_marked_where_finer_windows_of_a_device_are_not_kept(settled: Side) -> None:
    """Within its minute the rollups of ten seconds lack that device's readings, and are not shown; the minute has all."""
    agent = Agent()
    minute = agent.made(row(0, 1.0, 2.0, level="1m"), row(0, 3.0, level="1m", series="s1/d2/temp"))
    minute.parts.flags[:] = [COARSENED, 0]
    settled.take(frame_record(minute), agent.frame(row(0, 3.0, series="s1/d2/temp")))
    settle(settled)
    assert counts(settled) == {"s1/+/temp": {0: 1}, "+/+/temp": {0: 1}}
    assert counts(settled, "1m") == {"s1/+/temp": {0: 3}, "+/+/temp": {0: 3}}
    assert_rollups(settled)
    with settled.history() as history:
        assert len(history.windows("s1/+/temp", "10s")) == 0
        assert history.windows("s1/+/temp", "1m").aggregates.count.tolist() == [3]


def test_r25_what_is_dirty_outlives_a_start(settled: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day comes at once: what is more than the state may hold is rolled up at once, and nothing is forgotten."""
    monkeypatch.setattr(dirty, "MOST", 100)
    monkeypatch.setattr(dirty, "AT_ONCE", 40)
    agent = Agent()
    for n in range(0, 300, 60):
        settled.put(agent.frame(*(row(10 * (n + k), 1.0, opened=("a1", 1, n + k)) for k in range(60))))
    settled.run()
    assert len(counts(settled)["s1/+/temp"]) == 200
    settled.reopen()
    for n in range(3):
        pass_time(settled, 3)
        assert len(counts(settled)["s1/+/temp"]) == min(240 + 40 * n, 300)
    assert_rollups(settled)


def test_r24_what_is_dirty_is_a_small_piece() -> None:
    """Also with the longest names, and with many rollups that windows were taken away from."""
    shard = Shard(0)
    for n in range(dirty.MOST // 2):
        dirty.mark(shard.dirty, ("session-999999d@arrival", T0 + n), [], T0)
    names = [f"{n:0128}/+/{n:0128}" for n in range(dirty.MOST // 12)]
    dirty.mark(shard.dirty, ("1h", T0), names[: dirty.MOST // 12 - 2], T0)
    assert dirty.due(shard.dirty, T0) == []
    pieces = shard.dirty_piece()
    assert load(0, pieces.items()).dirty == shard.dirty
    assert max(map(len, pieces.values())) < PIECE_LIMIT / 2
    dirty.mark(shard.dirty, ("1h", T0), [*names, *"abcde"], T0)
    assert dirty.due(shard.dirty, T0)


def test_r28_windows_that_are_no_longer_kept_are_not_rolled_up_again(settled: Side) -> None:
    """Retention deletes rollups as it does windows; what comes later for such a time is a dead letter, and no rollup."""
    agent = Agent()
    settled.take(agent.frame(row(0, 1.0), row(0, 1.0, level="1m")))
    settle(settled)
    pass_time(settled, 10 * 86_400)
    settled.prune(_10s=1)
    assert counts(settled) == {}
    settled.take(agent.frame(row(1, 1.0, opened=("a1", 1, 2))))
    settle(settled)
    assert counts(settled) == {}
    assert counts(settled, "1m") == {"s1/+/temp": {0: 1}, "+/+/temp": {0: 1}}
    assert [letter.headers["reason"] for letter in settled.topic(DEAD_LETTERS)] == ["late"]


def test_r27_rollups_are_read_once(settled: Side) -> None:
    """How far second stages' topics are read is committed with what was read; the next process goes on there, and a clean end leaves nothing."""
    settled.take(Agent().frame(row(0, 1.0)))
    settled.clock.advance(3)
    settled.put(*(clock_record(shard, settled.clock.wall_us) for shard in SHARDS))
    settled.runner._take()
    settled.reopen()
    assert counts(settled)["s1/+/temp"] == {0: 1}
    assert settled.runner.lag() == 0
    settled.run()
    assert settled.count("rollups_total") == 0
    settled.runner.read_for_good()
    consumers = "SELECT sum(offset) FROM consumer WHERE topic = 'hw-by-metric'"
    read = settled.log._open.execute(consumers).fetchall()  # type: ignore[union-attr]
    assert read == [(1,)]


def test_a_rollup_that_cannot_be_revised_stays_as_it_is(settled: Side) -> None:
    """Its parts are gone, so the late window of one site is in that window, and in no rollup; nothing is lost, so it is no dead letter."""
    one, two = Agent("a1"), Agent("a2", epoch=5)
    settled.take(one.frame(row(0, 1.0)), two.frame(row(0, 1.0, series="s2/d1/temp", opened=("a2", 5, 1))))
    settle(settled)
    pass_time(settled, 8 * 86_400)
    settled.prune()
    settled.take(one.frame(row(1, 1.0, opened=("a1", 1, 2))))
    settle(settled)
    assert counts(settled) == {"s1/+/temp": {0: 2}, "s2/+/temp": {0: 1}, "+/+/temp": {0: 2}}
    assert settled.topic(DEAD_LETTERS) == []


def test_what_is_no_rollup_on_a_second_stages_topic_is_a_dead_letter(settled: Side) -> None:
    """With its bytes; the others count."""
    settled.take(Agent().frame(row(0, 1.0)))
    pass_time(settled, 3)
    (good,) = settled.topic(BY_METRIC)
    record = Record(good.topic, good.partition, good.key, good.headers, good.body)
    of_device = frame_record(Agent("rollup").made(row(0, 1.0)))
    of_fleet = frame_record(Agent("rollup").made(row(0, 1.0, series="+/+/temp"), shard=0))
    for body in (good.body[:-2], b"\xc3\x01" + bytes(30), of_device.body, of_fleet.body):
        settled.put(msgspec.structs.replace(record, body=body))
    settled.take(record)
    reasons = [letter.headers["reason"] for letter in settled.topic(DEAD_LETTERS)]
    assert reasons == ["damaged", "unknown-version", "damaged", "damaged"]
    letters = settled.topic(DEAD_LETTERS)
    assert letters[0].body == good.body[:-2]
    again = revived(letters[0])
    assert again is not None
    assert (again.topic, again.partition, again.body) == (good.topic, good.partition, good.body[:-2])
    assert counts(settled) == {"s1/+/temp": {0: 1}, "+/+/temp": {0: 1}}


def test_readers_do_not_take_rollups_for_devices(settled: Side) -> None:
    """A pattern matches them only with a `+`; all that goes by device leaves them out."""
    settled.take(Agent().frame(row(0, 1.0), row(0, 2.0, series="s1/d2/temp")))
    settle(settled)
    with settled.history() as history:
        assert history.series() == history.series("s1/*") == [TEMP, "s1/d2/temp"]
        assert history.series("*+*") == ["+/+/temp", "s1/+/temp"]
        assert [one.device for one in by_device.recent(history, "10s", T0, T0 + 60 * S)] == ["s1/d1", "s1/d2"]
        assert by_device.all_devices(history) == {"s1/d1": 1, "s1/d2": 1}
        assert history.level("10s").aggregates.count.tolist() == [1, 1]
        assert history.rollups("10s").aggregates.count.tolist() == [2, 2]
        assert history.count_windows() == 2
        exported = [one for page in export.windows(history, "10s") for one in page]
        assert {one[0] for one in exported} == {TEMP, "s1/d2/temp"}
        exported = [one for page in export.windows(history, "10s", "+/*") for one in page]
        assert [one[:4] for one in exported] == [("+/+/temp", "10s", T0, 2)]
        shown = list(query.windows(history, "+/+/temp", "10s"))
        assert [one[0] for one in shown] == ["+/+/temp"]


def test_windows_of_before_have_the_shard_of_their_site(settled: Side) -> None:
    """A file of an older version says of no window which shard has it."""
    agent = Agent()
    settled.take(
        agent.frame(row(0, 1.0), row(0, 2.0, series="s1/d2/temp")),
        agent.frame(row(0, 2.0, series="s2/d2/temp")),
    )
    settled.store.connection.execute("UPDATE window SET shard = NULL")
    settled.reopen()
    settled.take(agent.frame(row(1, 1.0, opened=("a1", 1, 2))))
    settle(settled)
    assert_rollups(settled)


def test_rollups_of_wide_sketches_are_several_records(settled: Side) -> None:
    """Each is one that Kafka takes; all of them are read."""
    agent = Agent()
    values = [1.02**n for n in range(900)]
    for n in range(40):
        settled.put(agent.frame(row(10 * n, *values, opened=("a1", 1, n))))
    settled.run()
    pass_time(settled, 3)
    sizes = [len(stored.body) for stored in settled.topic(BY_METRIC)]
    assert len(sizes) > 1
    assert max(sizes) < 400_000
    assert counts(settled)["+/+/temp"] == {10.0 * n: 900 for n in range(40)}
    assert_rollups(settled)
