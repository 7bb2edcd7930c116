"""What a file holds and whether it is sound: versions, what waits, bytes a day, and where they go. Nothing is written."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headwater_edge import journal, snapshot
from headwater_edge.store import PAGE_SIZE, VERSION
from headwater_shared import pages

_TABLES = {
    "journal": "length(body)", "arrival": "length(body)", "coverage": "length(body)", "snapshot": "length(body)",
    "outbox": "length(body) + length(hash)", "dead_letter": "length(bytes) + length(topic) + coalesce(length(readings), 0)",
    "alert": "length(body) + length(topic)",
}  # fmt: skip
_GROWING = ("journal", "arrival", "coverage", "dead_letter")
_DAY_US = 86_400_000_000
_FAULTS = 20


def report(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """Look through a file that is open for reading; `faults` says what is wrong, empty if nothing is.

    Raises:
        sqlite3.DatabaseError: it is damaged so that it cannot be looked through.
    """
    read = connection.execute
    meta = dict(read("SELECT name, value FROM meta").fetchall())
    faults = [text for (text,) in read(f"PRAGMA integrity_check({_FAULTS})") if text != "ok"]
    broken_log = pages.log_trouble(path, PAGE_SIZE)
    faults += [broken_log] if broken_log else []
    first, last, rows = read(
        "SELECT coalesce(min(tick), 0), coalesce(max(tick), 0), count(*) FROM journal"
    ).fetchone()
    if rows and last - first + 1 != rows:
        faults.append(f"the journal lacks {last - first + 1 - rows} ticks between {first} and {last}")
    pictures = _pictures(connection, faults)
    if rows and first > 1 and not any(good and tick >= first - 1 for tick, good in pictures):
        faults.append(f"no good snapshot reaches the journal's first tick, {first}: a start salvages it")
    times = [_wall_of(connection, tick, faults) for tick in (first, last)] if rows else [0, 0]
    span_us = max(times[1] - times[0], 0)
    pending, unsent, oldest = _waiting(connection)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "log bytes": _size(path.with_name(path.name + "-wal")),
        "format": f"{meta.get('version')} (newest known here: {VERSION})",
        "written by": _last_version(connection),
        "agent": meta.get("agent", "not noted"),
        "bound to": meta.get("hardware") or "nothing",
        "starts that did not end": int(meta.get("attempts", 0)),
        "epochs": read("SELECT count(*) FROM epoch").fetchone()[0],
        "journal": f"ticks {first} to {last}" if rows else "empty",
        "journal time": f"{_when(times[0])} to {_when(times[1])}" if rows else "none",
        "snapshots": [f"tick {tick}: {'good' if good else 'cannot be read'}" for tick, good in pictures],
        "pending": pending,
        "unsent": unsent,
        "oldest unsent": _oldest(connection, oldest, faults),
        "dead letters": read("SELECT count(*) FROM dead_letter").fetchone()[0],
        "bytes by table": _by_table(connection),
        "bytes a day": _a_day(connection, span_us),
        "faults": faults,
    }


def _pictures(connection: sqlite3.Connection, faults: list[str]) -> list[tuple[int, bool]]:
    found = []
    for tick in snapshot.ticks(connection):
        try:
            snapshot.read(connection, tick)
        except ValueError as error:
            faults.append(str(error))
            found.append((tick, False))
        else:
            found.append((tick, True))
    return found


def _waiting(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return how many rows the cloud side is not known to have, how many were not sent, and the tick of the oldest of those."""
    (pending,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
    unsent, oldest = connection.execute(
        "SELECT count(*), coalesce(min(tick), 0) FROM outbox WHERE n > coalesce((SELECT n FROM sent WHERE sent.lane = outbox.lane), 0)"
    ).fetchone()
    return int(pending), int(unsent), int(oldest)


def _oldest(connection: sqlite3.Connection, tick: int, faults: list[str]) -> str:
    if not tick:
        return "none"
    at = _wall_of(connection, tick, faults)
    return f"of tick {tick}, {_when(at)}" if at else f"of tick {tick}, which has left the journal"


def _wall_of(connection: sqlite3.Connection, tick: int, faults: list[str]) -> int:
    found = connection.execute("SELECT body FROM journal WHERE tick = ?", (tick,)).fetchone()
    try:
        return journal.decode(found[0]).now.wall_us if found else 0
    except journal.Damaged as error:
        faults.append(f"tick {tick}: {error}")
        return 0


def _by_table(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the bytes of the pages of each table, what is free, and what SQLite keeps for itself; where it cannot tell, of the rows."""
    try:
        found = dict(
            connection.execute(
                "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"
            ).fetchall()
        )
    except sqlite3.OperationalError:  # this SQLite was built without it
        found = {
            table: connection.execute(f"SELECT coalesce(sum({size}), 0) FROM {table}").fetchone()[0]
            for table, size in _TABLES.items()
        }
    (free,), (size,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size")
    )
    return {**found, "free": free * size}


def _a_day(connection: sqlite3.Connection, span_us: int) -> dict[str, int]:
    """Return what rows weigh that were added in the time that the journal spans, a day; snapshots replace each other."""
    if not span_us:
        return {}
    found = {}
    for table in (*_GROWING, "outbox"):
        query = f"SELECT coalesce(sum({_TABLES[table]}), 0) FROM {table} WHERE tick >= (SELECT min(tick) FROM journal)"
        (size,) = connection.execute(query).fetchone()
        found[table] = round(size * _DAY_US / span_us)
    return found


def _last_version(connection: sqlite3.Connection) -> str:
    found = connection.execute("SELECT version FROM epoch ORDER BY tick DESC LIMIT 1").fetchone()
    return found[0] if found else "nobody yet"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _when(us: int) -> str:
    try:
        return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return f"{us} us since 1970"
