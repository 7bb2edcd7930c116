"""Whose a file of the cloud side is. One process keeps the state of its windows in it; workers keep theirs in Kafka, and only
rows in the file. Who went on with the other's would know of a window only the parts that come from now on, and write over it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from headwater_shared.errors import StateError

_WORKERS = "INSERT OR IGNORE INTO meta VALUES ('runner', 'workers')"


def for_one(connection: sqlite3.Connection, path: Path) -> None:
    """See that a file is not the workers'.

    Raises:
        StateError: it is.
    """
    if _is_workers(connection):
        raise StateError(
            f"{path} is the workers', who keep the state of its windows in Kafka",
            hint="name another file in [cloud] file: it is made from all that hw-in holds; or start the workers again",
        )


def for_workers(connection: sqlite3.Connection, path: Path) -> None:
    """Take a new file for workers, in an open transaction, or see that it is theirs.

    Raises:
        StateError: one process made it.
    """
    begun = connection.execute("SELECT 1 FROM meta WHERE name = 'log'").fetchone() is not None
    if begun and not _is_workers(connection):
        raise StateError(
            f"{path} was made by one process, which keeps the state of its windows in it, and workers keep theirs in Kafka",
            hint="name another file in [cloud] file: the workers make it from all that hw-in holds; the old one can still be read",
        )
    connection.execute(_WORKERS)


def _is_workers(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM meta WHERE name = 'runner'").fetchone() is not None
