"""What history keeps: windows of fine levels for days, parts as long as windows may be revised, and the space beyond (R28)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from headwater_cloud import changes
from headwater_cloud.changes import Cursor, Followed
from headwater_cloud.lookup import Lookup
from headwater_cloud.names import Names
from headwater_cloud.store import Store
from headwater_shared.crash import reached
from headwater_shared.errors import SettingsError
from headwater_shared.parts import level_of
from headwater_shared.sqlite_file import give_back

_CHUNK = 5_000
"""Rows of one transaction: the next batch waits no longer than for that."""


class Keep(NamedTuple):
    """Lengths of time in microseconds; a level that is not named is kept for ever."""

    windows_us: Mapping[str, int]
    parts_us: int
    found_us: int | None = None
    """Anomalies, alerts that are over, reports, notifications; None: for ever."""
    told: Callable[[], int] = lambda: 0
    """Which row of the notifications the courier took up last: what it has not seen is never deleted."""
    followed: Followed = Followed()
    """How far the sink has followed: what a registered one has not read is never deleted (R27)."""

    def of(self, level: str) -> int | None:
        """Return how long a level is kept, None for ever; `1m@arrival` as long as `1m` unless it is named itself."""
        return self.windows_us.get(level, self.windows_us.get(level.removesuffix("@arrival")))


def prune(store: Store, names: Names, lookup: Lookup, now_us: int, keep: Keep) -> int:
    """Delete a chunk of what is older than it is kept.

    Args:
        store: the file.
        names: its names.
        lookup: is told from when on windows are kept.
        now_us: the operators' clock.
        keep: for how long.

    Returns:
        How many rows; 0 means that nothing is left to delete.
    """
    return prune_levels(store.transaction, list(enumerate(names.levels)), now_us, keep, lookup.deleted)


def prune_levels(
    transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    levels: Sequence[tuple[int, str]],
    now_us: int,
    keep: Keep,
    gone: Callable[[int, int], None] = lambda level, kept_from: None,  # noqa: ARG005 - nobody wants to know
) -> int:
    """As `prune`: of a file whose levels have these numbers; `gone` is told of each level that was cut, and from when on it is kept."""
    cursor = keep.followed.cursor()
    with transaction() as connection:
        deleted = changes.forget(connection, cursor, keep.found_us)
    for number, name in levels:
        ended = now_us - length_us(name)
        with transaction() as connection:
            deleted += _delete(connection, "part", number, ended - keep.parts_us)[0]
            kept_us = keep.of(name)
            if kept_us is not None:
                held_from = keep.followed.held(connection, cursor).of(number)
                before = ended - kept_us if held_from is None else min(held_from, ended - kept_us)
                rows, kept_from = _delete(connection, "window", number, before)
                if rows:
                    deleted += rows
                    connection.execute(
                        "UPDATE level SET kept_from = max(ifnull(kept_from, ?1), ?1) WHERE id = ?2",
                        (kept_from, number),
                    )
                    gone(number, kept_from)
    if keep.found_us is not None:
        deleted += _forget(transaction, now_us - keep.found_us, keep, cursor)
    return deleted


_FOUND = {
    "anomaly": "(id, phase, agent, epoch, shard, seq) IN (SELECT id, phase, agent, epoch, shard, seq FROM anomaly WHERE time_us < ? LIMIT ?)",
    "finding": "id IN (SELECT id FROM finding WHERE start_us < ? LIMIT ?)",
    "alert": "id IN (SELECT id FROM alert WHERE state IN ('resolved', 'withdrawn') AND episode_us < ?1 AND time_us < ?1 LIMIT ?2)",
    "alert_event": "(alert, n) IN (SELECT alert, n FROM alert_event WHERE changed_us < ? AND alert NOT IN (SELECT id FROM alert) LIMIT ?)",
    "report": "id IN (SELECT id FROM report WHERE time_us < ? LIMIT ?)",
    "notification": "n IN (SELECT n FROM notification WHERE time_us < ?1 AND n <= ?3 LIMIT ?2)",
}

_FOLLOWED = frozenset({"anomaly", "alert", "alert_event"})


def _forget(
    transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
    before: int,
    keep: Keep,
    cursor: Cursor | None,
) -> int:
    """Delete a chunk of what was found and is over; whatever still fires stays."""
    deleted = 0
    for table, which in _FOUND.items():
        with transaction() as connection:
            held_from = keep.followed.held(connection, cursor).of("found") if table in _FOLLOWED else None
            before_us = before if held_from is None else min(held_from, before)
            values = (before_us, _CHUNK, keep.told())[: 3 if "?3" in which else 2]
            deleted += connection.execute(f"DELETE FROM {table} WHERE {which}", values).rowcount
    return deleted


def shrink(connection: sqlite3.Connection) -> None:
    """Give back so much that no more than a quarter of the file is free."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    surplus = (4 * free - pages) // 3  # free - surplus is a quarter of pages - surplus
    if surplus > 0:
        reached("cloud.shrink")
        give_back(connection, min(surplus, _CHUNK))


def _delete(connection: sqlite3.Connection, table: str, level: int, before: int) -> tuple[int, int]:
    """Delete the oldest rows of a level that start before a time. Returns how many, and from when on all are kept."""
    row = connection.execute(
        f"SELECT start FROM {table} WHERE level = ? AND start < ? ORDER BY start LIMIT 1 OFFSET {_CHUNK}",
        (level, before),
    ).fetchone()
    kept_from = row[0] + 1 if row else before
    cursor = connection.execute(f"DELETE FROM {table} WHERE level = ? AND start < ?", (level, kept_from))
    return cursor.rowcount, kept_from


def length_us(level: str) -> int:
    """Return how long the windows of a level are; 0 for a kind whose length varies."""
    try:
        return level_of(level).length_us
    except SettingsError:
        return 0
