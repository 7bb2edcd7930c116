"""How long the disk lasts: what waits for the cloud side against the quota, what is kept for good against the free space."""

from __future__ import annotations

import sqlite3

import msgspec

from headwater_appliance.box import Box
from headwater_cloud.history import History
from headwater_edge import journal
from headwater_edge.store import read_store
from headwater_shared.errors import StateError

DAY_S = 86_400
_LEAST_S = 600.0
"""What is known of a shorter time says nothing of days."""
_WAITS_S = 60.0
"""An outbox whose oldest row is younger does not grow: the cloud side takes what comes."""
_SOME = 200
_UNSENT = "n > coalesce((SELECT n FROM sent WHERE sent.lane = outbox.lane), 0)"


class Outbox(msgspec.Struct):
    """What the agent's file holds for the cloud side."""

    rows: int = 0
    bytes: int = 0
    """Reckoned from the latest rows."""
    oldest_s: float | None = None
    """How long ago the oldest row was made; None: there is none, or its tick has left the journal."""
    unread: str = ""
    """Why nothing could be read."""


def outbox_of(box: Box, now_us: int, pending: int | None) -> Outbox:
    """Read what waits, also while no agent runs.

    Args:
        box: whose file it is.
        now_us: by the clock of the settings.
        pending: how many rows the cloud side is not known to have, by the running agent: the latest ones, since it takes them in
            order. The file keeps more: those that no two snapshots are after. None: no agent answers, and it is what was not sent.
    """
    if not box.edge_file.exists():
        return Outbox(unread="there is no agent's file yet")
    try:
        reader = read_store(box.edge_file)
    except (StateError, sqlite3.DatabaseError) as error:
        return Outbox(unread=str(error).splitlines()[0])
    try:
        if pending is None:
            (pending,) = reader.execute(f"SELECT count(*) FROM outbox WHERE {_UNSENT}").fetchone()
        if not pending:
            return Outbox()
        (each,) = reader.execute(
            "SELECT avg(length(body)) FROM (SELECT body FROM outbox ORDER BY n DESC LIMIT ?)",
            (min(pending, _SOME),),
        ).fetchone()
        oldest = reader.execute(
            "SELECT j.body FROM (SELECT tick FROM outbox ORDER BY n DESC LIMIT 1 OFFSET ?) o JOIN journal j ON j.tick = o.tick",
            (pending - 1,),
        ).fetchone()
        age_s = None if oldest is None else max(now_us - journal.decode(oldest[0]).now.wall_us, 0) / 1e6
        return Outbox(int(pending), round(pending * (each or 0)), age_s)
    except (sqlite3.DatabaseError, journal.Damaged) as error:
        return Outbox(unread=str(error))
    finally:
        reader.close()


def days_to_quota(outbox: Outbox, left: int) -> float | None:
    """Return for how many days the quota lasts while the outbox grows as it did; None: it does not grow, or for too short a time."""
    if outbox.oldest_s is None or outbox.oldest_s < _WAITS_S or not outbox.bytes:
        return None
    return max(left, 0) / (outbox.bytes / outbox.oldest_s * DAY_S)


def days_to_full(history: History | None, stored: int, left: int) -> float | None:
    """Return for how many days the free space lasts if what is stored grows as it did on average; None: not known yet.

    Args:
        history: says since when there are windows.
        stored: bytes of the cloud side's file and the bus.
        left: bytes that are free above the floor.
    """
    if history is None:
        return None
    query = "SELECT min(start), max(start) FROM window WHERE level = ?"
    spans = [history.connection.execute(query, level).fetchone() for level in history.connection.execute("SELECT id FROM level").fetchall()]  # fmt: skip
    known = [(first, last) for first, last in spans if first is not None]
    if not known or not stored:
        return None
    seconds = (max(last for _, last in known) - min(first for first, _ in known)) / 1e6
    return max(left, 0) / (stored / seconds * DAY_S) if seconds >= _LEAST_S else None
