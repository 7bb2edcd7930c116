"""Which series an agent's file knows, in the order of their numbers: for tools on a desk."""

from __future__ import annotations

import sqlite3

from headwater_edge import journal, snapshot


def known_series(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all series: those of the newest snapshot, and what the journal after it adds.

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
        names += journal.decode(body).new_series
    return names
