"""The bus of size S: one SQLite file, several writing processes, many readers, no server (R27).

Two processes write it, so it is not a write-ahead log but a rollback journal (`TRUNCATE`, `FULL`): a record is durable
when `append` returns, and a process that is killed inside an append leaves all of it or nothing. Writers take turns by
`BEGIN IMMEDIATE`, so the order of `record.id` is the order in which records became visible.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from headwater_shared import sqlite_file
from headwater_shared.bus import Record, Stored
from headwater_shared.crash import reached
from headwater_shared.errors import BusReplaced, BusUnavailable
from headwater_shared.sqlite_log_packing import packed, packed_headers, unpacked, unpacked_headers
from headwater_shared.topics import TOPICS

APPLICATION = "headwater-log"

SCHEMA = (
    """
    CREATE TABLE record(
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
        time INTEGER NOT NULL, key TEXT NOT NULL, headers BLOB NOT NULL, body BLOB NOT NULL);
    CREATE UNIQUE INDEX record_at ON record(topic, partition, offset);
    CREATE TABLE partition(
        topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
        PRIMARY KEY(topic, partition)) WITHOUT ROWID;
    CREATE TABLE producer(name TEXT PRIMARY KEY, last_id INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE consumer(
        "group" TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
        PRIMARY KEY("group", topic, partition)) WITHOUT ROWID;
    """,
)
"""`partition.next` outlives the records, so that offsets never start again after retention."""

_CHUNK = 1000
"""Records that retention deletes in one transaction: writers wait no longer than for that."""


def wall_us() -> int:
    """Microseconds since the epoch, by the machine's clock."""
    return time.time_ns() // 1000


class SqliteLog:
    """A `Bus` in one file. Calls on one object do not overlap; each thread has its own."""

    def __init__(self, path: Path, *, wall: Callable[[], int] = wall_us) -> None:
        """Open the file, or make it.

        Raises:
            StateNewer, StateError: the file is not for this version; nothing was changed.
            BusUnavailable: it is locked, damaged or the disk is full.

        Every call may raise `BusReplaced`: the object is of no more use then, a new one reads the file that is there.
        """
        self._path = path
        self._wall = wall
        self._open: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of the file that was opened first."""
        self._version = -1
        self._ends: dict[str, dict[int, int]] = {}
        with self._connection():
            pass

    @property
    def identity(self) -> str:
        """Which log this is: another one has other offsets, also under the same path."""
        with self._connection() as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
            if row is None:
                with self._transaction():
                    connection.execute(
                        "INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (secrets.token_hex(8),)
                    )
                return self.identity
            return str(row[0])

    def append(self, records: Sequence[Record]) -> None:
        if records:
            with self._transaction() as connection:
                self._insert(connection, records)

    def append_once(self, producer: str, first_id: int, records: Sequence[Record]) -> None:
        if not records:
            return
        with self._transaction() as connection:
            row = connection.execute("SELECT last_id FROM producer WHERE name = ?", (producer,)).fetchone()
            fresh = records[max(0, row[0] + 1 - first_id) :] if row else records
            if fresh:
                self._insert(connection, fresh)
                last_id = first_id + len(records) - 1
                connection.execute("INSERT OR REPLACE INTO producer VALUES (?, ?)", (producer, last_id))

    def read(self, topic: str, offsets: Mapping[int, int], limit: int) -> list[Stored]:
        """As `Bus.read`; records of several partitions come in the order in which they were appended."""
        with self._connection() as connection:
            ends = self._ends_now(connection, topic)
            behind = [(topic, p, offset, limit) for p, offset in offsets.items() if offset < ends.get(p, 0)]
            ids = [
                row[0]
                for at in behind
                for row in connection.execute(
                    "SELECT id FROM record WHERE topic = ? AND partition = ? AND offset >= ?"
                    " ORDER BY offset LIMIT ?",
                    at,
                )
            ]
            ids = sorted(ids)[:limit]
            query = "SELECT partition, offset, time, key, headers, body FROM record WHERE id = ?"
            rows = [connection.execute(query, (number,)).fetchone() for number in ids]
        return [
            Stored(topic, partition, offset, time_us, key, unpacked_headers(headers), unpacked(body))
            for partition, offset, time_us, key, headers, body in filter(None, rows)
        ]

    def ends(self, topic: str) -> dict[int, int]:
        with self._connection() as connection:
            return dict(self._ends_now(connection, topic))

    def read_up_to(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO consumer VALUES (?, ?, ?, ?)",
                [(group, topic, partition, offset) for partition, offset in offsets.items()],
            )

    def retain(self, now_us: int) -> int:
        """Delete what is older than its topic's days, or superseded in a compacted topic, and give its space back.

        What a registered group has not read stays, however old (R27).

        Returns:
            How many records were deleted.
        """
        with self._connection() as connection:
            partitions = connection.execute("SELECT topic, partition FROM partition").fetchall()
            readers: dict[str, dict[str, dict[int, int]]] = {}
            for group, topic, partition, offset in connection.execute("SELECT * FROM consumer"):
                readers.setdefault(topic, {}).setdefault(group, {})[partition] = offset
        deleted = 0
        for name, partition in partitions:
            groups = readers.get(name, {}).values()
            unread = min((group.get(partition, 0) for group in groups), default=None)
            known = TOPICS.get(name)
            if known is None:
                continue
            if known.compacted:
                deleted += self._compact(name, partition, unread)
            else:
                deleted += self._expire(name, partition, unread, now_us - round(known.days * 86_400_000_000))
        if deleted:
            reached("log.retained")
            self._give_back()
        return deleted

    def delete(self, topic: str, partition: int, offsets: Sequence[int]) -> int:
        """Delete records that a person wants gone, and give their space back; return how many there were."""
        with self._connection() as connection:
            query = "SELECT id FROM record WHERE topic = ? AND partition = ? AND offset = ?"
            asked = (connection.execute(query, (topic, partition, offset)).fetchone() for offset in offsets)
            ids = [row for row in asked if row is not None]
        for at in range(0, len(ids), _CHUNK):
            self._delete(ids[at : at + _CHUNK])
        self._give_back()
        return len(ids)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _insert(self, connection: sqlite3.Connection, records: Sequence[Record]) -> None:
        nexts: dict[tuple[str, int], int] = {}
        rows = []
        now = self._wall()
        for record in records:
            at = (record.topic, record.partition)
            offset = nexts.get(at)
            if offset is None:
                found = connection.execute(
                    "SELECT next FROM partition WHERE topic = ? AND partition = ?", at
                ).fetchone()
                offset = found[0] if found else 0
            nexts[at] = offset + 1
            rows.append((*at, offset, now, record.key, packed_headers(record.headers), packed(record.body)))
        connection.executemany(
            "INSERT INTO record(topic, partition, offset, time, key, headers, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.executemany(
            "INSERT OR REPLACE INTO partition VALUES (?, ?, ?)", [(*at, end) for at, end in nexts.items()]
        )

    def _ends_now(self, connection: sqlite3.Connection, topic: str) -> dict[int, int]:
        """The next offsets of a topic, read again only after someone has written."""
        (version,) = connection.execute(
            "PRAGMA data_version"
        ).fetchone()  # others' commits; ours empty the cache
        if version != self._version:
            self._version = version
            self._ends.clear()
        if topic not in self._ends:
            query = "SELECT partition, next FROM partition WHERE topic = ?"
            self._ends[topic] = dict(connection.execute(query, (topic,)).fetchall())
        return self._ends[topic]

    def _expire(self, topic: str, partition: int, unread: int | None, before_us: int) -> int:
        """Delete from the oldest on, up to the first record that is young or unread."""
        deleted = 0
        while True:
            with self._connection() as connection:
                rows = connection.execute(
                    "SELECT id, offset, time FROM record WHERE topic = ? AND partition = ?"
                    " ORDER BY offset LIMIT ?",
                    (topic, partition, _CHUNK),
                ).fetchall()
            keep = (
                n
                for n, (_, offset, at) in enumerate(rows)
                if at >= before_us or (unread is not None and offset >= unread)
            )
            old = [row[:1] for row in rows[: next(keep, len(rows))]]
            self._delete(old)
            deleted += len(old)
            if len(old) < _CHUNK:
                return deleted

    def _compact(self, topic: str, partition: int, unread: int | None) -> int:
        with self._connection() as connection:
            old = connection.execute(
                "SELECT id FROM record WHERE topic = ?1 AND partition = ?2 AND offset < ?3 AND id NOT IN"
                " (SELECT max(id) FROM record WHERE topic = ?1 AND partition = ?2 GROUP BY key)",
                (topic, partition, 2**62 if unread is None else unread),
            ).fetchall()
        for at in range(0, len(old), _CHUNK):
            self._delete(old[at : at + _CHUNK])
        return len(old)

    def _delete(self, ids: Sequence[tuple[int]]) -> None:
        if ids:
            with self._transaction() as connection:
                connection.executemany("DELETE FROM record WHERE id = ?", ids)

    def _give_back(self) -> None:
        """Shrink the file to a tenth of free pages, which the next appends use."""
        with self._connection() as connection:
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            for _ in range(0, free - pages // 10, _CHUNK):
                reached("log.shrink")
                sqlite_file.give_back(connection, _CHUNK)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            reached("log.begun")
            try:
                yield connection
                reached("log.before")
                reached("log.during")
                connection.execute("COMMIT")
                reached("log.after")
            finally:
                self._ends.clear()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The open connection. After an error it is closed, and opened anew by the next call.

        Raises:
            BusUnavailable: SQLite's error, with what a person can do.
            BusReplaced: the file was moved away or replaced: whoever goes on would write where nobody reads.
        """
        self._check_file()
        try:
            if self._open is None:
                self._ends.clear()
                if not self._path.parent.is_dir():  # not mounted yet, perhaps
                    raise BusUnavailable(
                        f"the folder of the log {self._path} is not there", hint="make or mount it"
                    )
                self._open = sqlite_file.open_writer(
                    self._path, application=APPLICATION, schema=SCHEMA, page_size=4096, wal=False
                )
                self._open.execute("PRAGMA cache_size=-512")  # records are appended and read once
                self._check_file()
            yield self._open
        except sqlite3.Error as error:
            self.close()
            raise BusUnavailable(f"the log {self._path}: {error}", hint=_hint(error)) from error

    def _check_file(self) -> None:
        """See that the path still leads to the file that was opened first."""
        try:
            found = self._path.stat()
            file = found.st_dev, found.st_ino
        except OSError:
            file = None
        if self._file is None:
            self._file = file
        elif file != self._file:
            self.close()
            raise BusReplaced(
                f"the log {self._path} was {'replaced' if file else 'moved away or deleted'}",
                hint="it is begun anew: agents send again what the cloud side does not have",
            )


def _hint(error: sqlite3.Error) -> str:
    text = str(error)
    if "locked" in text:
        return (
            "another process holds the log for too long: look for a stopped process or a backup of the file"
        )
    if "full" in text:
        return "make space on the disk of the data folder"
    if "malformed" in text or "not a database" in text:
        return "the file is damaged: move it away, and the agents send again what the cloud does not have"
    return "check the disk and the owner of the data folder"
