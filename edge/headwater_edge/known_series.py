"""Which series an agent's file knows, in the order of their numbers: for tools on a desk."""

from __future__ import annotations

import sqlite3

from headwater_edge import journal, snapshot
from headwater_edge.tick import with_new


def known_series(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all series by number: those of the newest snapshot, and what the journal after it adds.

    A number may have been another series' once, but no row of the journal is of that time: before it is let go they are gone.
    A name is empty where the number is free.

    Raises:
        journal.Damaged: a row cannot be read.
        ValueError: so it is with the snapshot.
    """
    names: list[str] = []
    reached = 0
    for tick in snapshot.ticks(connection)[:1]:
        query = "SELECT body FROM snapshot WHERE tick = ? AND section = 0"
        names = snapshot.names_in(tick, connection.execute(query, (tick,)).fetchone()[0])
        reached = tick
    rows = connection.execute("SELECT body FROM journal WHERE tick > ? ORDER BY tick", (reached,))
    for (body,) in rows:
        names = with_new(names, journal.decode(body))
    return names
