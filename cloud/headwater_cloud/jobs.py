"""What is written beside changes, piece by piece: all that was there when a sink was registered, or a time that a person names."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import numpy as np

from headwater_cloud.changes import Keys
from headwater_cloud.followed_rows import Wanted
from headwater_cloud.influx_file import Job

_FOUND = {
    "anomaly": "SELECT DISTINCT id FROM anomaly WHERE id > $word AND begin_us >= $from AND begin_us < $to ORDER BY id LIMIT $most",
    "alert": "SELECT id FROM alert WHERE id > $word AND episode_us >= $from AND episode_us < $to ORDER BY id LIMIT $most",
    "alert_event": "SELECT alert, n FROM alert_event WHERE (alert, n) > ($word, $number) AND changed_us >= $from AND changed_us < $to"
    " ORDER BY alert, n LIMIT $most",
    "device": "SELECT DISTINCT device, time_us FROM device_change WHERE (device, time_us) > ($word, $number) AND time_us >= $from AND time_us < $to"
    " ORDER BY device, time_us LIMIT $most",
    "command": "SELECT DISTINCT id, status FROM command WHERE (id, status) > ($word, $number) AND time_us >= $from AND time_us < $to"
    " ORDER BY id, status LIMIT $most",
}  # fmt: skip
"""Of what was found, the keys after one; a key of two words ends with $number."""


def piece(db: sqlite3.Connection, job: Job, most: int) -> tuple[Job, Wanted]:
    """Return how far a job is after a piece of it, and the keys of that; without `at` it is at its end."""
    at: list[Any] = msgspec.json.decode(job.at) or ["window", *_first_level(db, -1, job.from_us)]
    if at[0] == "window":
        return _windows(db, job, at[1:], most)
    return _found(db, job, at, most)


def _first_level(db: sqlite3.Connection, after: int, from_us: int) -> list[int]:
    """The place before the first window of the level after one; empty: there is no such level."""
    row = db.execute("SELECT min(id) FROM level WHERE id > ?", (after,)).fetchone()
    return [] if row[0] is None else [row[0], from_us, -1]


def _windows(db: sqlite3.Connection, job: Job, at: list[int], most: int) -> tuple[Job, Wanted]:
    if not at:
        return _after(job, "window"), Wanted([], {})
    level, start, series = at
    rows = db.execute(
        "SELECT start, series FROM window WHERE level = ? AND start >= ? AND (start, series) > (?, ?) AND start < ?"
        " ORDER BY start, series LIMIT ?",
        (level, start, start, series, job.to_us, most),
    ).fetchall()
    if not rows:
        following = _first_level(db, level, job.from_us)
        return job._replace(at=_text("window", *following)), Wanted([], {})
    starts, numbers = np.array(rows, np.int64).T
    keys = Keys(np.full(len(rows), level), starts, numbers)
    return job._replace(at=_text("window", level, *rows[-1])), Wanted([keys], {})


def _found(db: sqlite3.Connection, job: Job, at: list[Any], most: int) -> tuple[Job, Wanted]:
    kind = at[0]
    word, number = at[1:2] or [""], at[2:3] or [_BEFORE]
    rows = db.execute(
        _FOUND[kind],
        {"word": word[0], "from": job.from_us, "to": job.to_us, "most": most, "number": number[0]},
    ).fetchall()
    if not rows:
        return _after(job, kind), Wanted([], {})
    keys = dict.fromkeys(rows)
    return job._replace(at=_text(kind, *rows[-1])), Wanted([], {kind: keys})


_BEFORE = -(2**63)


def _after(job: Job, kind: str) -> Job:
    """Return the job at the begin of the kind after one; after the last it is at its end."""
    kinds = ["window", *_FOUND]
    following = kinds.index(kind) + 1
    return job._replace(at=_text(kinds[following]) if following < len(kinds) else "")


def _text(*words: Any) -> str:
    return msgspec.json.encode(words).decode()
