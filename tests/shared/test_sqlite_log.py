"""The SQLite log beyond the bus contract: retention, space, its errors and its versions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater_shared import sqlite_file
from headwater_shared.bus import Record
from headwater_shared.errors import BusUnavailable, StateNewer
from headwater_shared.sqlite_log import APPLICATION, SCHEMA, SqliteLog

DAY = 86_400_000_000


class Wall:
    """The append time of the log, which the test sets."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def log(tmp_path: Path, wall: Wall) -> Iterator[SqliteLog]:
    found = SqliteLog(tmp_path / "log.db", wall=wall)
    yield found
    found.close()


def record(n: int, *, partition: int = 0, topic: str = "hw-in", key: str = "k", size: int = 10) -> Record:
    return Record(topic, partition, key, {"ce_id": str(n)}, n.to_bytes(4, "big") * (size // 4 + 1))


def offsets(log: SqliteLog, topic: str, partition: int = 0) -> list[int]:
    return [stored.offset for stored in log.read(topic, {partition: 0}, 100_000)]


def test_r27_old_records_go_unless_a_group_has_not_read_them(log: SqliteLog, wall: Wall) -> None:
    """Retention deletes what is older than the topic's days, but nothing that some registered group has yet to read."""
    log.append([record(n) for n in range(10)])
    log.append([record(n, partition=1) for n in range(10)])
    wall.us += 6 * DAY
    log.append([record(n) for n in range(10, 15)])
    wall.us += 2 * DAY
    log.read_up_to("slow", "hw-in", {0: 4})
    log.read_up_to("fast", "hw-in", {0: 15, 1: 10})
    assert log.retain(wall.us) == 4
    assert offsets(log, "hw-in") == list(range(4, 15))
    assert offsets(log, "hw-in", 1) == list(range(10)), "the slow group has not read this partition at all"
    log.read_up_to("slow", "hw-in", {0: 15, 1: 10})
    assert log.retain(wall.us) == 16
    assert offsets(log, "hw-in") == list(range(10, 15))
    assert log.retain(wall.us) == 0


def test_offsets_go_on_after_everything_was_deleted(log: SqliteLog, wall: Wall) -> None:
    """A partition that retention emptied keeps its end: the next record has the next offset, not 0."""
    log.append([record(n) for n in range(3)])
    assert log.retain(wall.us + 8 * DAY) == 3
    assert log.ends("hw-in") == {0: 3}
    log.append([record(9)])
    assert offsets(log, "hw-in") == [3]


def test_a_compacted_topic_keeps_the_latest_of_each_key(log: SqliteLog, wall: Wall) -> None:
    """In a compacted topic only superseded records go, at any age; what a group has not read stays."""
    log.append([record(n, topic="hw-have", key=f"k{n % 3}") for n in range(9)])
    log.read_up_to("agent", "hw-have", {0: 2})
    assert log.retain(wall.us) == 2
    log.read_up_to("agent", "hw-have", {0: 9})
    assert log.retain(wall.us + 400 * DAY) == 4
    assert offsets(log, "hw-have") == [6, 7, 8]


def test_retention_gives_space_back(log: SqliteLog, wall: Wall, tmp_path: Path) -> None:
    """After retention the file is smaller, and still whole."""
    for _ in range(5):
        log.append([Record("hw-in", 0, "k", {}, os.urandom(2000)) for _ in range(500)])
    full = (tmp_path / "log.db").stat().st_size
    wall.us += 8 * DAY
    log.append([record(1)])
    assert log.retain(wall.us) == 2500
    assert (tmp_path / "log.db").stat().st_size < full / 5
    check = sqlite3.connect(tmp_path / "log.db")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


def test_long_bodies_are_stored_compressed(log: SqliteLog, tmp_path: Path) -> None:
    """Bodies over 200 bytes take less room than they have bytes, and are read as they were."""
    body = b"a column of numbers " * 500
    log.append([Record("hw-in", 0, "k", {}, body)] * 50)
    assert (tmp_path / "log.db").stat().st_size < 50 * len(body) / 10
    assert [s.body for s in log.read("hw-in", {0: 0}, 100)] == [body] * 50


def test_a_locked_log_says_so_and_works_again_later(
    log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the file, append and read raise BusUnavailable with a hint; afterwards all works."""
    monkeypatch.setattr(sqlite_file, "BUSY_MS", 20)
    mine = SqliteLog(tmp_path / "log.db")
    log.append([record(0)])
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BusUnavailable, match="locked") as found:
        mine.append([record(1)])
    assert "another process" in found.value.hint
    with pytest.raises(BusUnavailable):
        mine.read("hw-in", {0: 0}, 10)
    other.execute("ROLLBACK")
    other.close()
    mine.append([record(2)])
    assert [s.headers["ce_id"] for s in mine.read("hw-in", {0: 0}, 10)] == ["0", "2"]
    mine.close()


def test_a_full_disk_says_so_and_keeps_what_was_there(log: SqliteLog) -> None:
    """An append that does not fit raises BusUnavailable and leaves nothing of itself; with room again it goes on."""
    log.append([record(0)])
    assert log._open is not None
    (pages,) = log._open.execute("PRAGMA page_count").fetchone()
    log._open.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(BusUnavailable, match="full") as found:
        log.append(
            [*(record(n, partition=n) for n in range(1, 60)), Record("hw-in", 0, "k", {}, os.urandom(20_000))]
        )
    assert "space" in found.value.hint
    assert offsets(log, "hw-in") == [0]
    assert log.ends("hw-in") == {0: 1}
    log.append([record(1)])
    assert offsets(log, "hw-in") == [0, 1]


def test_a_log_of_a_newer_version_is_left_alone(log: SqliteLog, tmp_path: Path) -> None:
    """StateNewer, and the file stays as it is."""
    log.close()
    newer = sqlite_file.open_writer(
        tmp_path / "log.db", application=APPLICATION, schema=[*SCHEMA, "CREATE TABLE more(n);"], wal=False
    )
    newer.close()
    before = (tmp_path / "log.db").read_bytes()
    with pytest.raises(StateNewer):
        SqliteLog(tmp_path / "log.db")
    assert (tmp_path / "log.db").read_bytes() == before


def test_a_damaged_log_is_said_to_be_damaged(tmp_path: Path) -> None:
    """A file that is no database: BusUnavailable, and the hint says what to do."""
    (tmp_path / "log.db").write_bytes(b"garbage " * 1000)
    with pytest.raises(BusUnavailable) as found:
        SqliteLog(tmp_path / "log.db")
    assert "move it away" in found.value.hint


def test_reading_when_there_is_nothing_new_is_cheap(log: SqliteLog) -> None:
    """A read that finds no commit since the last one looks at no table."""
    log.append([record(n) for n in range(10)])
    assert log.read("hw-in", {0: 10}, 100) == []
    assert log._open is not None
    seen: list[str] = []
    log._open.set_trace_callback(seen.append)
    for _ in range(3):
        assert log.read("hw-in", {0: 10}, 100) == []
    assert seen == ["PRAGMA data_version"] * 3
