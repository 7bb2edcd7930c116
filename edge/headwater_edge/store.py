"""The agent's file: its tables, and the statements that run in a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_shared.crash import reached
from headwater_shared.sqlite_file import WriterLock, open_reader, open_writer

APPLICATION = "headwater-edge"

ANOMALIES, WINDOWS = 0, 1
"""Lanes of the outbox; the smaller goes first."""

SCHEMA = (
    """
    CREATE TABLE epoch(tick INTEGER PRIMARY KEY, epoch BLOB, started_us INTEGER, version TEXT);
    CREATE TABLE journal(tick INTEGER PRIMARY KEY, body BLOB);
    CREATE TABLE snapshot(tick INTEGER, section INTEGER, body BLOB, PRIMARY KEY (tick, section)) WITHOUT ROWID;
    CREATE TABLE outbox(n INTEGER PRIMARY KEY AUTOINCREMENT, tick INTEGER, lane INTEGER, epoch BLOB, shard INTEGER,
                        seq INTEGER, kind TEXT, hash BLOB, body BLOB);
    CREATE TABLE sent(lane INTEGER PRIMARY KEY, n INTEGER);
    CREATE TABLE dead_letter(tick INTEGER, n INTEGER, time_us INTEGER, reason TEXT, detail TEXT, topic BLOB, bytes BLOB,
                             PRIMARY KEY (tick, n));
    """,
    """
    CREATE TABLE arrival(tick INTEGER PRIMARY KEY, body BLOB);
    CREATE TABLE coverage(tick INTEGER PRIMARY KEY, age_us INTEGER, body BLOB);
    ALTER TABLE dead_letter ADD COLUMN readings BLOB;
    CREATE TABLE birth(topic BLOB PRIMARY KEY, payload BLOB) WITHOUT ROWID;
    """,
    """
    CREATE TABLE alert(n INTEGER PRIMARY KEY, route TEXT, key TEXT, topic TEXT, body BLOB, UNIQUE(route, key));
    """,
    """
    CREATE TABLE evicted(n INTEGER PRIMARY KEY, name TEXT UNIQUE, serial INTEGER, body BLOB);
    """,
)
"""`outbox.n` is never used again: `sent` counts by it, and a row that took a deleted one's would never be sent."""
VERSION = len(SCHEMA)
EVICTED_KEPT = 100_000
"""Series that were let go of which it is known when they were heard (R4): the latest so many."""
PAGE_SIZE = 1024

_LOG_PAGES = 4000
WAL_BYTES = _LOG_PAGES * (PAGE_SIZE + 24)
"""How large the write-ahead log grows before it is written back."""


@dataclass(slots=True, frozen=True)
class OutboxRow:
    """A row on its way to the bus: `body` is compressed, `hash` is of what was not."""

    lane: int
    epoch: int
    shard: int
    seq: int
    kind: str
    hash: bytes
    body: bytes


class AlertRow(NamedTuple):
    """A local alert that is to go one way; it stays until it was delivered."""

    route: str
    key: str
    topic: str
    body: bytes


class Rewrite(NamedTuple):
    """A row of the outbox that was coalesced; `hash`: that of what the step put out, then that of the body of now."""

    n: int
    hash: bytes
    body: bytes


@dataclass(slots=True, frozen=True)
class DeadRow:
    """A dead letter: the nth of its tick."""

    time_us: int
    reason: str
    detail: str
    topic: bytes
    body: bytes
    readings: bytes | None = None
    """Which readings of the message were not taken, as msgpack: (series, time as sent, value); None: the whole message."""


@dataclass(slots=True)
class Commit:
    """What one transaction writes. It aliases no state, and is tried again unchanged until it succeeded (R11)."""

    tick: int
    journal: bytes
    outbox: list[OutboxRow] = field(default_factory=list)
    dead: list[DeadRow] = field(default_factory=list)
    births: dict[bytes, bytes | None] = field(default_factory=dict)
    """The latest birth by its topic; None: it holds no longer."""
    epoch: tuple[int, int, str] | None = None
    """(epoch, started, version) at a start."""
    arrival: bytes = b""
    """Where the row's readings may be looked up (see `arrivals`)."""
    coverage: tuple[int, bytes] | None = None
    """(age, body): what stands for the journal's rows up to this one once they go (R4)."""
    letters_gone: list[tuple[int, int]] = field(default_factory=list)
    """Dead letters that this tick took in again, or that a person gave up."""
    rewrites: list[Rewrite] = field(default_factory=list)
    """Outbox rows that this tick's event coalesced."""
    alerts: list[AlertRow] = field(default_factory=list)
    evicted: list[tuple[str, int, bytes]] = field(default_factory=list)
    """(name, serial, coverage as msgpack) of series that were let go; they stay when the series comes back."""


class Gap(NamedTuple):
    """Rows of the outbox that wait behind what is newer: of a lane, those with after < n <= to."""

    lane: int
    after: int
    to: int
    again: bool = False
    """They were given to the bus before: not a byte of them may change (R22)."""


@dataclass(slots=True)
class Chores:
    """What the next transaction may take along; all of it can be done again."""

    sent: dict[int, int] = field(default_factory=dict)
    """By lane, the last n that the bus has taken, but for what the gaps hold."""
    gaps: list[Gap] | None = None
    """The backlog; None: as it was."""
    covered: list[int] = field(default_factory=list)
    """Outbox rows that the cloud has (R22)."""
    journal_to: int = 0
    """Journal rows up to this tick that no kept snapshot needs."""
    journal_from: int = 0
    bus: str = ""
    """Which bus the marks of what is sent are about."""
    ungiven: list[tuple[int, int]] | None = None
    """Outbox rows that the bus was never given, see `Ungiven`; None: as it was."""
    alerts_gone: list[tuple[str, str]] = field(default_factory=list)
    """(route, key) of local alerts that were delivered, or dropped."""

    def __bool__(self) -> bool:
        some = self.sent or self.covered or self.bus or self.gaps is not None or self.ungiven is not None
        return bool(some or self.alerts_gone or self.journal_to >= self.journal_from > 0)


def epoch_bytes(epoch: int) -> bytes:
    return epoch.to_bytes(8, "little")


def open_store(path: Path) -> tuple[sqlite3.Connection, WriterLock]:
    """Open the agent's file for its one writer; make it if it is not there.

    Raises:
        StateInUse, StateNewer, StateError: see `sqlite_file`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(path)
    try:
        return write_store(path), lock
    except BaseException:
        lock.release()
        raise


def write_store(path: Path) -> sqlite3.Connection:
    """Open the agent's file for writing; the caller holds its lock.

    Raises:
        StateNewer, StateError, sqlite3.DatabaseError: see `sqlite_file`.
    """
    connection = open_writer(path, application=APPLICATION, schema=SCHEMA, page_size=PAGE_SIZE)
    connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}").fetchall()
    connection.execute("PRAGMA cache_size=-1024")
    return connection


def misnamed(connection: sqlite3.Connection) -> list[str]:
    """Return the tables whose columns are not those that they were made with: SQLite reads damaged names as it reads others."""
    with closing(sqlite3.connect(":memory:")) as made:
        for script in SCHEMA:
            made.executescript(script)
        wanted = columns_of(made)
    found = columns_of(connection)
    return [table for table, columns in wanted.items() if found.get(table) != columns]


def columns_of(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the names of the columns of each table of a file."""
    out: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c "
        "WHERE m.type = 'table' ORDER BY m.name, c.cid"
    ):
        out.setdefault(table, []).append(column)
    return out


def read_store(path: Path) -> sqlite3.Connection:
    """Open the agent's file beside its writer, for reading."""
    reader = open_reader(path, application=APPLICATION, version=VERSION)
    reader.execute("PRAGMA cache_size=-256")  # bodies are read once
    return reader


def births(connection: sqlite3.Connection) -> list[tuple[bytes, bytes]]:
    """Return the births that are kept, (topic, payload) each."""
    return connection.execute("SELECT topic, payload FROM birth").fetchall()


def write(connection: sqlite3.Connection, commit: Commit | None, chores: Chores) -> None:
    """Write a commit and what it takes along, in one transaction.

    Raises:
        sqlite3.Error: nothing is known of the transaction, unless it is a full disk (R11).
    """
    run = connection.execute
    run("BEGIN IMMEDIATE")
    reached("commit.begun")
    if commit is not None:
        _write_commit(connection, commit)
        reached("commit.rows")
    for lane, n in chores.sent.items():
        run("INSERT INTO sent VALUES (?, ?) ON CONFLICT (lane) DO UPDATE SET n = excluded.n", (lane, n))
    if chores.gaps is not None:
        run("INSERT OR REPLACE INTO meta VALUES ('gaps', ?)", (msgspec.json.encode(chores.gaps).decode(),))
    if chores.ungiven is not None:
        text = msgspec.json.encode(chores.ungiven).decode()
        run("INSERT OR REPLACE INTO meta VALUES ('ungiven', ?)", (text,))
    if chores.bus:
        run("INSERT OR REPLACE INTO meta VALUES ('bus', ?)", (chores.bus,))
    if chores.alerts_gone:
        connection.executemany("DELETE FROM alert WHERE route = ? AND key = ?", chores.alerts_gone)
    if chores.covered:
        connection.executemany("DELETE FROM outbox WHERE n = ?", [(n,) for n in chores.covered])
        reached("outbox.gone")
    if chores.journal_to:
        reached("compact.before")
        run("DELETE FROM journal WHERE tick >= ? AND tick <= ?", (chores.journal_from, chores.journal_to))
        reached("compact.between")
        run("DELETE FROM arrival WHERE tick <= ?", (chores.journal_to,))
        run("DELETE FROM coverage WHERE tick < ?", (chores.journal_to,))
        reached("compact.rows")
    reached("commit.before")
    reached("commit.during")
    run("COMMIT")
    reached("commit.after")
    if chores.journal_to:
        reached("compact.after")


def _write_commit(connection: sqlite3.Connection, commit: Commit) -> None:
    run = connection.execute
    run("INSERT INTO journal VALUES (?, ?)", (commit.tick, commit.journal))
    if commit.epoch is not None:
        epoch, started_us, version = commit.epoch
        run("INSERT INTO epoch VALUES (?, ?, ?, ?)", (commit.tick, epoch_bytes(epoch), started_us, version))
        run("DELETE FROM meta WHERE name = 'attempts'")  # it has started (R15)
        run("UPDATE OR REPLACE meta SET name = 'was_set_aside' WHERE name = 'set_aside'")
    if commit.outbox:
        connection.executemany(
            "INSERT INTO outbox(tick, lane, epoch, shard, seq, kind, hash, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    commit.tick,
                    row.lane,
                    epoch_bytes(row.epoch),
                    row.shard,
                    row.seq,
                    row.kind,
                    row.hash,
                    row.body,
                )
                for row in commit.outbox
            ],
        )
    if commit.rewrites:
        changes = [(row.hash, row.body, row.n) for row in commit.rewrites]
        connection.executemany("UPDATE outbox SET hash = ?, body = ? WHERE n = ?", changes)
    if commit.alerts:
        insert = "INSERT OR REPLACE INTO alert(route, key, topic, body) VALUES (?, ?, ?, ?)"
        connection.executemany(insert, commit.alerts)
    if commit.evicted:
        insert = "INSERT OR REPLACE INTO evicted(name, serial, body) VALUES (?, ?, ?)"
        connection.executemany(insert, commit.evicted)
        run("DELETE FROM evicted WHERE n <= (SELECT max(n) FROM evicted) - ?", (EVICTED_KEPT,))
    if commit.arrival:
        run("INSERT INTO arrival VALUES (?, ?)", (commit.tick, commit.arrival))
    if commit.coverage is not None:
        run("INSERT INTO coverage VALUES (?, ?, ?)", (commit.tick, *commit.coverage))
    if commit.letters_gone:
        connection.executemany("DELETE FROM dead_letter WHERE tick = ? AND n = ?", commit.letters_gone)
    if commit.births:
        connection.executemany("DELETE FROM birth WHERE topic = ?", [(topic,) for topic in commit.births])
        born = [(topic, payload) for topic, payload in commit.births.items() if payload is not None]
        connection.executemany("INSERT INTO birth VALUES (?, ?)", born)
    if commit.dead:
        write_letters(connection, commit.tick, commit.dead, first=0)


def write_letters(
    connection: sqlite3.Connection, tick: int, letters: Sequence[DeadRow], *, first: int | None = None
) -> None:
    """Write dead letters of a tick, in an open transaction; behind those that it has already, if `first` is not said."""
    if first is None:
        query = "SELECT coalesce(max(n), -1) + 1 FROM dead_letter WHERE tick = ?"
        (first,) = connection.execute(query, (tick,)).fetchone()
    connection.executemany(
        "INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (tick, n, row.time_us, row.reason, row.detail, row.topic, row.body, row.readings)
            for n, row in enumerate(letters, first)
        ],
    )


def write_snapshot(connection: sqlite3.Connection, tick: int, rows: Sequence[bytes]) -> None:
    """Write a snapshot at once, in an open transaction: the head first, then the pieces."""
    connection.executemany(
        "INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", [(tick, n, row) for n, row in enumerate(rows)]
    )
