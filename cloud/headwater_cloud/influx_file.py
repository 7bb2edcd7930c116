"""The sink's own file, `influx.db`: how far the cloud's file is followed, what is written again, dead letters, known sets of tags.

One process has it, by the lock beside it (R32). The cursor moves in one commit, after the store has the points, with what was learnt
on the way, and it is of one store: see `of_store`. It is in no backup: without it everything is written again, to the same points.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headwater_cloud.changes import Cursor
from headwater_cloud.store import one_commit
from headwater_shared.crash import reached
from headwater_shared.errors import HeadwaterError, StateError
from headwater_shared.sqlite_file import WriterLock, open_reader, open_writer, says_damaged

APPLICATION = "headwater-influx"
FILE = "influx.db"
"""In the data folder."""
SCHEMA = (
    """
    CREATE TABLE cursor(one INTEGER PRIMARY KEY CHECK(one = 1), registered INTEGER NOT NULL, n INTEGER NOT NULL, mark INTEGER NOT NULL);
    CREATE TABLE job(
        id INTEGER PRIMARY KEY AUTOINCREMENT, whole INTEGER NOT NULL, from_us INTEGER NOT NULL, to_us INTEGER NOT NULL, at TEXT NOT NULL);
    CREATE TABLE dead(
        key TEXT PRIMARY KEY, database TEXT NOT NULL, line BLOB NOT NULL, status INTEGER NOT NULL, why TEXT NOT NULL,
        time_us INTEGER NOT NULL, again INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE known(tags TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
    """
    CREATE TABLE store(one INTEGER PRIMARY KEY CHECK(one = 1), place TEXT NOT NULL);
    CREATE TABLE wrote(database TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
)
"""`cursor`: the registration in the cloud's file, and number and mark of the last row of `change` that the store has.
`job`: what is written beside changes, from and to which time, and how far that is; `whole`: all that was there before the cursor.
`dead`: what the store refused for ever, or could not be made, by the key of its row in the cloud's file; `again`: it is to be tried again.
`known`: sets of tags that the store has points of. `store`: which one all of this is of. `wrote`: databases, or buckets, that have
points of ours."""
VERSION = len(SCHEMA)

START = "[]"
"""Where a job begins."""

_MOST_DEAD = 100_000


class Job(NamedTuple):
    """What is written beside changes: `at` says how far it is."""

    id: int
    whole: bool
    from_us: int
    to_us: int
    at: str


class Dead(NamedTuple):
    """A point that the store refused for ever, or that could not be made."""

    key: str
    """JSON: see `follow`."""
    database: str
    line: bytes
    """Empty: no point could be made of its row."""
    status: int
    why: str
    time_us: int
    again: bool = False


class Unmade(NamedTuple):
    """A row of the cloud's file of which no point could be made, and why."""

    key: str
    database: str
    why: str


class InfluxFile:
    """The file, open for writing. For several threads."""

    def __init__(self, path: Path) -> None:
        """Take the lock and open.

        Raises:
            StateInUse: another process has it. StateNewer, StateError: it is not for this version, or damaged.
        """
        self.path = path
        self._mutex = threading.Lock()
        self._lock = WriterLock(path)
        try:
            self._connection = open_writer(path, application=APPLICATION, schema=SCHEMA, page_size=4096)
        except sqlite3.DatabaseError as error:
            self._lock.release()
            if says_damaged(error):
                hint = "move it and its -wal away, and keep them: a new one is made, and everything is written again"
                raise StateError(f"{path} is damaged: {error}", hint=hint) from None
            raise
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        with self._mutex:
            self._connection.close()
        self._lock.release()

    def of_store(self, place: str) -> str:
        """Note which store is written into: of another one than before nothing is known, and all is written anew.

        Dead letters are kept, and tried again there. A file that names no store, of a version before, is of this one.

        Returns:
            The one of before, if it was another; else nothing.
        """
        with self._mutex, one_commit(self._connection, self.path) as connection:
            row = connection.execute("SELECT place FROM store").fetchone()
            if row == (place,):
                return ""
            connection.execute("INSERT OR REPLACE INTO store VALUES (1, ?)", (place,))
            if row is None:
                return ""
            for table in ("cursor", "job", "known", "wrote"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE dead SET again = 1")
            return str(row[0])

    def cursor(self) -> Cursor | None:
        """Return how far the file is followed; None: nothing of any is."""
        with self._mutex:
            return _cursor(self._connection)

    def begin(self, cursor: Cursor) -> None:
        """Follow a file from a place on, and have all that is in it by then written beside."""
        with self._mutex, one_commit(self._connection, self.path) as connection:
            _set(connection, cursor)
            _all_again(connection)

    def lost(self, database: str) -> bool:
        """The store says that a database is not there. Where it had points of ours, have all that the file has written beside.

        It is noted before the database is made: whatever ends the process then, the next one knows.
        """
        with self._mutex, one_commit(self._connection, self.path) as connection:
            had = connection.execute("DELETE FROM wrote WHERE database = ?", (database,)).rowcount > 0
            if had:
                _all_again(connection)
            return had

    def wrote(self) -> set[str]:
        """Return the databases that have points of ours."""
        with self._mutex:
            return {name for (name,) in self._connection.execute("SELECT database FROM wrote")}

    def job(self) -> Job | None:
        """Return what is to be done beside changes next."""
        with self._mutex:
            row = self._connection.execute(
                "SELECT id, whole, from_us, to_us, at FROM job ORDER BY id LIMIT 1"
            ).fetchone()
        return None if row is None else Job(row[0], bool(row[1]), *row[2:])

    def add_job(self, from_us: int, to_us: int) -> None:
        """Have all that is of a time written again."""
        with self._mutex, one_commit(self._connection, self.path) as connection:
            connection.execute(
                "INSERT INTO job(whole, from_us, to_us, at) VALUES (0, ?, ?, ?)", (from_us, to_us, START)
            )

    def move(
        self, cursor: Cursor | None, job: Job | None, tags: Iterable[str] = (), alive: Iterable[str] = (),
        wrote: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """The store has it: move on, in one commit.

        Args:
            cursor: the last row of changes that it has all of; None: as it was.
            job: how far that is now; `at` is empty at its end. None: as it was.
            tags: sets of tags that are new.
            alive: keys of what was a dead letter and was taken now.
            wrote: databases that have points of ours now.
        """
        reached("sink.move.before")
        with self._mutex, one_commit(self._connection, self.path) as connection:
            if cursor is not None:
                _set(connection, cursor)
            if job is not None and job.at:
                connection.execute("UPDATE job SET at = ? WHERE id = ?", (job.at, job.id))
            elif job is not None:
                connection.execute("DELETE FROM job WHERE id = ?", (job.id,))
            connection.executemany("INSERT OR IGNORE INTO known VALUES (?)", ((one,) for one in tags))
            connection.executemany("DELETE FROM dead WHERE key = ?", ((one,) for one in alive))
            connection.executemany("INSERT OR IGNORE INTO wrote VALUES (?)", ((one,) for one in wrote))
            reached("sink.move.during")
        reached("sink.move.after")

    def known(self) -> set[str]:
        """Return the sets of tags that were ever written."""
        with self._mutex:
            return {tags for (tags,) in self._connection.execute("SELECT tags FROM known")}

    def bury(self, some: Sequence[Dead]) -> None:
        """Keep what the store refused for ever; of more than can be kept the oldest go: their rows are in the cloud's file."""
        with self._mutex, one_commit(self._connection, self.path) as connection:
            connection.executemany("INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?)", some)
            (count,) = connection.execute("SELECT count(*) FROM dead").fetchone()
            if count > _MOST_DEAD:
                oldest = "SELECT key FROM dead ORDER BY time_us, key LIMIT ?"
                connection.execute(f"DELETE FROM dead WHERE key IN ({oldest})", (count - _MOST_DEAD,))

    def dead(self, *, again: bool = False) -> list[Dead]:
        """Return dead letters, or those only that are to be tried again."""
        with self._mutex:
            return _dead(self._connection, "WHERE again" if again else "")

    def retry(self) -> int:
        """Have all dead letters tried again. Returns how many."""
        with self._mutex, one_commit(self._connection, self.path) as connection:
            return connection.execute("UPDATE dead SET again = 1").rowcount


def followed(path: Path) -> Cursor | None:
    """Return how far the sink has followed, by a connection that only reads; None if there is no file that says so."""
    try:
        with closing(open_reader(path, application=APPLICATION, version=VERSION)) as reader:
            return _cursor(reader)
    except (HeadwaterError, sqlite3.Error):
        return None


def dead_letters(path: Path) -> list[Dead]:
    """Return the dead letters of a file that another process may have; none if there is no file.

    Raises:
        StateNewer, StateError: it is not for this version.
    """
    if not path.exists():
        return []
    with closing(open_reader(path, application=APPLICATION, version=VERSION)) as reader:
        return _dead(reader, "")


def key_text(*words: Any) -> str:
    """Write the key of a row of the cloud's file, as dead letters bear it."""
    return msgspec.json.encode(words).decode()


def _cursor(connection: sqlite3.Connection) -> Cursor | None:
    row = connection.execute(
        "SELECT registered, n, mark, NOT EXISTS(SELECT 1 FROM job WHERE whole) FROM cursor"
    ).fetchone()
    return None if row is None else Cursor(row[0], row[1], row[2], bool(row[3]))


def _set(connection: sqlite3.Connection, cursor: Cursor) -> None:
    connection.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?, ?)", cursor[:3])


def _all_again(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM job")
    connection.execute(
        "INSERT INTO job(whole, from_us, to_us, at) VALUES (1, ?, ?, ?)", (-(2**63), 2**63 - 1, START)
    )


def _dead(connection: sqlite3.Connection, which: str) -> list[Dead]:
    query = f"SELECT key, database, line, status, why, time_us, again FROM dead {which} ORDER BY time_us, key"
    return [
        Dead(key, name, line, status, why, time_us, bool(again))
        for key, name, line, status, why, time_us, again in connection.execute(query)
    ]
