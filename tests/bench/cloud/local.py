"""`cloud-local`: the local runner on a SQLite log that is filled: rows/s, beside the rows alone bound into the same table."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from headwater_cloud import consume
from headwater_cloud.columns import WINDOW_COLUMNS
from headwater_cloud.runner import Runner
from headwater_cloud.store import Store
from headwater_shared.clock import SetClock
from headwater_shared.sqlite_log import SqliteLog
from tests.bench.cloud.frames import T0, registry, rounds, sites_of
from tests.bench.results import Result

ROWS = 1_000_000
SITES, AGENTS = 4, 2


class Took(NamedTuple):
    """What a run took, in microseconds a row."""

    wall: float
    cpu: float
    rows: int


def run(folder: Path) -> Iterator[Result]:
    """Fill a log, let the runner take it all in; then write the windows once more into an empty file, by `executemany`."""
    found = {
        size: measure(folder / str(size), size, ROWS // (4 if size == 100 else 1))
        for size in (100, 1_000, 5_000)
    }
    bound = _bound(folder / "1000" / "cloud.db", folder / "bound.db")
    yield Result(
        "cloud-local",
        1e6 / found[1_000].wall,
        "rows/s at 1,000 rows a frame",
        1e6 / bound,
        "the same windows bound row by row into the same table with executemany, 1,000 a commit: without log, merge or rollups",
        "WAL, synchronous FULL",
        {
            "CPU, us a row": found[1_000].cpu,
            "rows/s at 100 rows a frame": 1e6 / found[100].wall,
            "rows/s at 5,000 rows a frame": 1e6 / found[5_000].wall,
            "windows, rollups among them, a row": found[1_000].rows / ROWS,
        },
    )


def measure(folder: Path, size: int, rows: int) -> Took:
    """Run over so many rows."""
    folder.mkdir(parents=True)
    log = SqliteLog(folder / "log.db")
    sites = sites_of(SITES, AGENTS, size)
    log.append(registry(sites))
    made = 0
    for one in rounds(sites):
        log.append(one.records)
        made += one.rows
        if made >= rows:
            break
    store = Store(folder / "cloud.db")
    runner = Runner(log, store, SetClock(T0))
    with patch.object(consume, "CLOCK_OFF_US", 2**62):  # the log was not filled when its clock records say
        wall, cpu = time.monotonic(), time.process_time()
        while runner.step():
            pass
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    (windows,) = store.connection.execute("SELECT count(*) FROM window").fetchone()
    assert windows >= made, (windows, made)
    runner.close()
    store.close()
    log.close()
    return Took(wall / made * 1e6, cpu / made * 1e6, windows)


def _bound(found: Path, other: Path) -> float:
    source = sqlite3.connect(found)
    rows = source.execute("SELECT * FROM window").fetchall()
    source.close()
    store = Store(other)
    insert = f"INSERT OR REPLACE INTO window VALUES ({', '.join('?' * len(WINDOW_COLUMNS))})"
    began = time.monotonic()
    for at in range(0, len(rows), 1_000):
        with store.transaction() as connection:
            connection.executemany(insert, rows[at : at + 1_000])
    took = time.monotonic() - began
    store.close()
    return took / len(rows) * 1e6


if __name__ == "__main__":
    where = Path(sys.argv[1])
    for size in map(int, sys.argv[2:]):
        print(size, measure(where / str(size), size, ROWS // 4))
