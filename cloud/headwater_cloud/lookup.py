"""What is stored of the windows that a batch touches; most windows are new, and that is known without a look."""

from __future__ import annotations

import sqlite3

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.columns import PART_COLUMNS, WINDOW_COLUMNS, part_rows, window_rows
from headwater_cloud.kept import Found
from headwater_cloud.merge import Merged, Windows
from headwater_cloud.recent import Recent
from headwater_cloud.rows import PartRows
from headwater_shared.identity import shard_of, site_of

Ints = NDArray[np.int64]

_NEVER = -(2**63)
_PART = ", ".join(PART_COLUMNS)
_AT = (
    f"SELECT {', '.join(WINDOW_COLUMNS[:-1])}, ?1 FROM window w WHERE level = ?2 AND start = ?3"
    " AND ifnull(shard, (SELECT shard_of(name) FROM series WHERE id = w.series)) = ?1"
)


class Lookup:
    """Reads the consumer's own file through its one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute(
            "CREATE TEMP TABLE IF NOT EXISTS wanted(level INTEGER, start INTEGER, series INTEGER,"
            " PRIMARY KEY(level, start, series)) WITHOUT ROWID"
        )
        connection.create_function("shard_of", 1, _shard_of, deterministic=True)
        self._newest: dict[int, Ints] = {}
        self._recent = Recent()
        self._kept_from: dict[int, int] = dict(
            connection.execute("SELECT id, kept_from FROM level WHERE kept_from IS NOT NULL").fetchall()
        )

    def parts_of(self, arrived: PartRows) -> Found:
        """Find the stored parts of all windows that `arrived` touches."""
        is_gone = self._is_deleted(arrived)
        maybe = self._may_be_stored(arrived) & ~is_gone
        if not maybe.any():
            return Found(PartRows.empty(), 0, is_gone)
        execute = self._connection.execute
        execute("DELETE FROM wanted")
        keys = [column[maybe].tolist() for column in (arrived.level, arrived.start, arrived.series)]
        self._connection.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", zip(*keys, strict=True))
        join = "FROM wanted CROSS JOIN {} USING (level, start, series)"
        inside = execute(f"SELECT {_PART} {join.format('window')} WHERE parts = 1").fetchall()
        beside = execute(f"SELECT {_PART} {join.format('part')}").fetchall()
        gone = execute(
            f"SELECT level, start, series {join.format('window')} WHERE parts > 1"
            f" EXCEPT SELECT level, start, series {join.format('part')}"
        ).fetchall()
        if gone:
            lost = set(gone)
            is_gone[maybe] = [key in lost for key in zip(*keys, strict=True)]
        return Found(part_rows(inside + beside), len(inside), is_gone)

    def windows_at(self, shards: Ints, levels: Ints, starts: Ints) -> Windows:
        """Find all windows that shards have of some levels and starts; shape (n,) each.

        Returns:
            The windows, in no order but that of several rows of one window the latest is the last.
        """
        keys = zip(shards.tolist(), levels.tolist(), starts.tolist(), strict=True)
        remembered, others = self._recent.find(keys)
        rows = [
            row
            for shard, level, start in others
            if start >= self._kept_from.get(level, _NEVER)
            for row in self._connection.execute(_AT, (shard, level, start))
        ]
        return Windows.concatenate([*remembered, window_rows(rows) if rows else Windows.empty()])

    def wrote(self, merged: Merged) -> None:
        """Note which windows are stored now."""
        parts = merged.parts
        self._recent.wrote(merged.windows, {level: int(newest[0]) for level, newest in self._newest.items()})
        for level in parts.levels():
            of_level = parts.level == level
            series = parts.series[of_level]
            np.maximum.at(self._newest_of(level, int(series.max()) + 1), series, parts.start[of_level])

    def deleted(self, level: int, kept_from: int) -> None:
        """Note that windows of a level that start before `kept_from` are deleted."""
        self._kept_from[level] = kept_from

    def _is_deleted(self, parts: PartRows) -> NDArray[np.bool_]:
        """True for windows of a time from which retention has deleted all of the level."""
        deleted = np.zeros(len(parts), np.bool_)
        for level, kept_from in self._kept_from.items():
            deleted |= (parts.level == level) & (parts.start < kept_from)
        return deleted

    def _may_be_stored(self, parts: PartRows) -> NDArray[np.bool_]:
        """False for windows that are newer than all that is stored of their series and level."""
        maybe = np.zeros(len(parts), np.bool_)
        for level in parts.levels():
            of_level = parts.level == level
            series = parts.series[of_level]
            newest = self._newest_of(level, int(series.max()) + 1)
            maybe[of_level] = parts.start[of_level] <= newest[series]
        return maybe

    def _newest_of(self, level: int, series: int) -> Ints:
        """The start of the newest window by series; a series not seen since the start may have any that the level has."""
        newest = self._newest.get(level)
        if newest is None:
            (floor,) = self._connection.execute(
                "SELECT max((SELECT ifnull(max(start), ?2) FROM window WHERE level = ?1),"
                " (SELECT ifnull(max(start), ?2) FROM part WHERE level = ?1))",
                (level, _NEVER),
            ).fetchone()
            newest = np.full(1, floor, np.int64)  # place 0 keeps the floor, series are one further on
        if len(newest) <= series:
            grown = np.full(max(series + 1, len(newest) * 2), newest[0], np.int64)
            grown[: len(newest)] = newest
            newest = grown
        self._newest[level] = newest
        return newest[1:]


def _shard_of(series: str) -> int:
    """Of a window that was written before windows had a shard."""
    return shard_of(site_of(series))
