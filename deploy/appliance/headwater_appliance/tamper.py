"""Alters two stored windows behind the box's back, to show that the audit sees it (`DEMO_TAMPER=1`)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from headwater_shared.parts import level_of


def tamper(file: Path) -> list[str]:
    """Raise one base window's maximum, and turn a bit of another's digest; return what was done, a line each."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        levels = connection.execute("SELECT name, id FROM level").fetchall()
        base, level = min(levels, key=lambda one: level_of(one[0]).length_us)
        rows = connection.execute(
            "SELECT w.series, w.start, s.name FROM window w JOIN series s ON s.id = w.series WHERE w.level = ? AND w.shard IS NOT -1"
            " ORDER BY w.start, s.name",
            (level,),
        ).fetchall()
        done = []
        changes = ((rows[len(rows) // 3], "max = max + 1", "maximum raised by 1"),
                   (rows[2 * len(rows) // 3], "digest = ~digest", "digest altered"))  # fmt: skip
        for (series, start, name), change, what in changes:
            connection.execute(
                f"UPDATE window SET {change} WHERE level = ? AND start = ? AND series = ?",
                (level, start, series),
            )
            done.append(f"tampered with: {name} {base} window at {start}: {what}")
        return done
    finally:
        connection.close()
