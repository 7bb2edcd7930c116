"""A row of the cloud's file of which no point can be made is set aside with its reason; nothing that comes waits for it (R28)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headwater_cloud.halves import made_of
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.records import RegistryChange
from headwater_shared.topics import IN
from tests.cloud.followed import Sink, of, register, windows_of_file, windows_of_store
from tests.cloud.line_store import LineStore, line_store
from tests.cloud.made import SHARD, T0, Agent, row
from tests.cloud.side import Side


@pytest.fixture
def store() -> Iterator[LineStore]:
    with line_store() as made:
        yield made


@pytest.fixture
def sink(side: Side, store: LineStore) -> Iterator[Sink]:
    register(side.store)
    side.clock.wall_us = T0
    made = Sink(side.folder, store.url)
    made.run()
    yield made
    made.close()


def known(device: str) -> Record:
    headers = records.headers(records.REGISTRY, f"registry/{device}", "test", T0)
    return Record(IN.name, SHARD, device, headers, records.encode(RegistryChange(device, T0, model="P1")))


def written(side: Side, query: str) -> None:
    with side.store.transaction() as connection:
        assert connection.execute(query).rowcount == 1


ONE = f"WHERE start = {T0} AND level = (SELECT id FROM level WHERE name = '10s') AND series = (SELECT id FROM series WHERE name = 's1/d1/temp')"
WINDOW = ["window", "10s", "s1/d1/temp", T0]


@pytest.mark.parametrize(
    ("break_it", "mend_it", "key", "why"),
    [
        ("UPDATE alert SET evidence = '{'", "UPDATE alert SET evidence = '[]'", ["alert"], "DecodeError"),
        ("UPDATE registry SET metrics = '{'", "UPDATE registry SET metrics = '{}'", ["device", "s1/d1"], "DecodeError"),
        ("UPDATE device_change SET status = 'odd'", "UPDATE device_change SET status = 'online'", ["device", "s1/d1"], "KeyError"),
        (f"UPDATE window SET sketch = x'010203' {ONE}", f"UPDATE window SET sketch = x'' {ONE}", WINDOW, "ValueError"),
        (f"UPDATE window SET parts = 'three' {ONE}", f"UPDATE window SET parts = 1 {ONE}", WINDOW, "ValueError"),
    ],
)  # fmt: skip
def test_r28_a_row_of_which_no_point_can_be_made_is_a_dead_letter_and_the_rest_goes_on(
    side: Side, sink: Sink, store: LineStore, break_it: str, mend_it: str, key: list[Any], why: str
) -> None:
    """Broken JSON, a word that nobody knows, a blob that is none: the one row waits with its reason, all others are written, and what comes
    after it. It is written once it can be, by `retry`.
    """
    agent = Agent()
    rows = (row(10 * n, 1.0 + n) for n in range(5))
    side.take(
        agent.frame(*rows), known("s1/d1"), agent.status("s1/d1", "online", 0), agent.anomaly("begin", 0)
    )
    written(side, break_it)
    sink.run()
    side.take(agent.frame(row(100, 9.0)))
    sink.run()
    dead = sink.file.dead()
    events = {"alert_event"} if key == ["alert"] else set()  # they bear its tags
    assert {json.loads(one.key)[0] for one in dead} - events == {key[0]}
    assert [one for one in dead if json.loads(one.key)[: len(key)] == key]
    assert all((why in one.why, one.line, one.status) == (True, b"", 0) for one in dead)
    assert sink.follower.dead_letters == sink.writer.counts.dead == len(dead) == 1 + len(events)
    missing = windows_of_file(side.folder).keys() - windows_of_store(store).keys()
    assert missing == ({("s1/d1/temp", "10s", T0)} if key == WINDOW else set())
    assert (len(of(store, "alerts")), len(of(store, "devices"))) == (
        int(key[0] != "alert"),
        int(key[0] != "device"),
    )
    sink.reopen()
    assert sink.follower.dead_letters == len(dead)
    sink.file.retry()
    sink.run()
    assert {one.again for one in sink.file.dead()} == {False}, (
        "still broken: still a letter, and nothing waits"
    )
    written(side, mend_it)
    sink.file.retry()
    sink.run()
    assert sink.file.dead() == []
    assert windows_of_store(store).keys() == windows_of_file(side.folder).keys()
    assert (len(of(store, "alerts")), len(of(store, "devices"))) == (1, 1)


def test_r28_a_name_that_is_not_there_holds_back_its_own_windows_only(
    side: Side, sink: Sink, store: LineStore
) -> None:
    """A window of a number that names no series: its key says so, and it is none any more once its row is gone."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0), row(0, 2.0, series="s1/d2/temp")))
    written(side, "UPDATE series SET id = 999 WHERE name = 's1/d1/temp'")
    (number,) = {series for (series,) in side.rows("SELECT DISTINCT series FROM window")} - {
        series for (series,) in side.rows("SELECT id FROM series")
    }
    sink.run()
    assert {key[0] for key in windows_of_store(store)} >= {"s1/d2/temp"}
    assert [json.loads(one.key) for one in sink.file.dead()] == [["window", "10s", f"#{number}", T0]]
    sink.file.retry()
    sink.run()
    assert sink.file.dead() == []


def test_r28_a_note_that_cannot_be_read_holds_nothing_back_and_its_retry_writes_everything(
    side: Side, sink: Sink, store: LineStore
) -> None:
    """Nobody knows which keys it named: a person is told, and all is written again."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)))
    with side.store.transaction() as connection:
        connection.execute("UPDATE change SET body = x'00' WHERE kind = 'window'")
    side.take(agent.frame(row(20, 1.0)))
    sink.run()
    assert windows_of_store(store).keys() & {("s1/d1/temp", "10s", T0), ("s1/d1/temp", "10s", T0 + 20_000_000)} == {
        ("s1/d1/temp", "10s", T0 + 20_000_000)
    }  # fmt: skip
    assert {json.loads(one.key)[0] for one in sink.file.dead()} == {"change"}
    sink.file.retry()
    sink.run()
    assert sink.file.dead() == []
    assert windows_of_store(store) == windows_of_file(side.folder)


def test_what_is_made_of_many_is_made_in_few_pieces_and_without_the_broken() -> None:
    """By halves; an error of the machine is no row's, and goes through."""
    told: list[int] = []

    def make(error: type[Exception]) -> Callable[[Any], list[int]]:
        def of_some(rows: Any) -> list[int]:
            if 3 in rows:
                raise error
            return list(rows)

        return of_some

    assert made_of(range(8), make(ValueError), lambda row, _: told.append(row)) == [[0, 1], [2], [4, 5, 6, 7]]
    assert told == [3]
    assert made_of([], make(ValueError), lambda *_: None) == []
    for machines in (MemoryError, OSError):
        with pytest.raises(machines):
            made_of(range(8), make(machines), lambda *_: None)
