"""Rows that SQLite copies out of an image of a database: they are the rows that Python would have bound one by one."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from headwater_cloud import bulk
from headwater_cloud.columns import REALS, WINDOW_COLUMNS, packed_words, to_rows, words_of
from headwater_cloud.merge import Windows
from headwater_cloud.store import Store
from headwater_cloud.write import write_windows
from headwater_shared.aggregates import COLUMNS, Aggregates
from headwater_shared.parts import Sketches

_KINDS = tuple(name in REALS for name in WINDOW_COLUMNS if name != "sketch")
_INSERT = f"INSERT OR REPLACE INTO window VALUES ({', '.join('?' * len(WINDOW_COLUMNS))})"


def windows_of(n: int, widest: int, seed: int = 1) -> Windows:
    """Windows of any 64 bits that a column may hold, and sketches up to so many buckets wide."""
    chance = np.random.default_rng(seed)
    top = 2 ** chance.integers(0, 63, (n, 9))
    level, start, series, parts, opener, tick, revision, flags, shard = (
        chance.integers(-top[:, at], top[:, at]) for at in range(9)
    )
    aggregates = Aggregates.of_words(chance.integers(-(2**63), 2**63 - 1, (n, len(COLUMNS))))
    for name in REALS & {*COLUMNS}:
        floats = np.exp(chance.uniform(-700, 700, n)) * chance.choice([-1.0, 1.0], n)
        floats[::7], floats[1::11], floats[2::13] = -0.0, np.inf, 3.0
        getattr(aggregates, name)[:] = floats
    aggregates.count[:] = chance.integers(1, 2**40, n)
    ends = np.cumsum(chance.integers(0, widest + 1, n) // chance.choice([1, 100], n))
    buckets = int(ends[-1])
    sketches = Sketches(ends, chance.integers(0, 2**18, buckets), chance.integers(0, 2**40, buckets))
    return Windows(level, start, series, parts, opener, tick, revision, flags, shard, aggregates, sketches)


def rows_of(store: Store) -> list[tuple[object, ...]]:
    return sorted(store.connection.execute("SELECT * FROM window").fetchall())


@pytest.mark.parametrize(("n", "widest"), [(1, 0), (1, 5), (250, 0), (3_000, 4), (40, 7_000), (9_000, 4)])
def test_rows_are_those_that_would_have_been_bound(tmp_path: Path, n: int, widest: int) -> None:
    """Any windows, in one image or several of one transaction, give the rows of `executemany`, to the last bit, and
    the file is whole.
    """
    found, wanted = Store(tmp_path / "found.db"), Store(tmp_path / "wanted.db")
    windows = windows_of(n, widest)
    with found.transaction() as connection:
        sketches = packed_words(windows.sketches)
        bulk.insert(connection, "window", WINDOW_COLUMNS, "sketch", REALS, words_of(windows), *sketches)
    with wanted.transaction() as connection:
        connection.executemany(_INSERT, to_rows(WINDOW_COLUMNS, windows))
    assert len(rows_of(wanted)) == n
    assert repr(rows_of(found)) == repr(rows_of(wanted))
    assert found.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found.close()
    wanted.close()


@pytest.mark.parametrize(("n", "widest"), [(1, 0), (40, 7_000), (8_192, 3)])
def test_an_image_is_a_whole_database(n: int, widest: int) -> None:
    """SQLite's own check finds nothing wrong with an image."""
    windows = windows_of(n, widest)
    image = bulk._image(_KINDS, words_of(windows), *packed_words(windows.sketches))
    connection = sqlite3.connect(":memory:")
    connection.deserialize(image.data)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT count(*), max(rowid) FROM row").fetchall() == [(n, n)]


def test_windows_are_replaced_and_wide_sketches_go_another_way(tmp_path: Path) -> None:
    """Of a window that is written again the last row stays; a sketch that no page has room for is written, too; and a
    transaction that is rolled back leaves nothing.
    """
    store, wanted = Store(tmp_path / "found.db"), Store(tmp_path / "wanted.db")
    first, again = windows_of(250, bulk.WIDEST + 2_000), windows_of(250, bulk.WIDEST + 2_000, seed=2)
    for name in ("level", "start", "series"):
        setattr(again, name, getattr(first, name))
    assert (np.diff(first.sketches.end, prepend=0) > bulk.WIDEST).any()
    for windows in (first, again):
        with store.transaction() as connection:
            write_windows(connection, windows)
    with suppress(KeyError), store.transaction() as connection:
        write_windows(connection, windows_of(300, 3, seed=3))
        raise KeyError
    with wanted.transaction() as connection:
        connection.executemany(_INSERT, to_rows(WINDOW_COLUMNS, again))
    assert repr(rows_of(store)) == repr(rows_of(wanted))
    store.close()
    wanted.close()
