"""The consumer's own file: state, offsets, outputs, windows and alerts, and the one commit that they share (R27).

One process has it open for writing, by the lock beside it (R32); others read it through `history`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec

from headwater_cloud import bulk, claim, shard
from headwater_cloud.columns import PART_COLUMNS, REALS, WINDOW_COLUMNS
from headwater_cloud.names import Names, Opener
from headwater_cloud.outputs import Waiting
from headwater_cloud.shard import Shard
from headwater_shared.bus import Record
from headwater_shared.errors import HeadwaterError, StartAgain, StateError, TryAgain
from headwater_shared.sqlite_file import WriterLock, open_writer, says_damaged

APPLICATION = "headwater-cloud"


def _columns(names: tuple[str, ...]) -> str:
    kinds = {"sketch": "BLOB", **dict.fromkeys(REALS, "REAL")}
    return ", ".join(f"{name} {kinds.get(name, 'INTEGER')}" for name in names)


SCHEMA = (
    f"""
    CREATE TABLE series(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE level(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kept_from INTEGER);
    CREATE TABLE opener(id INTEGER PRIMARY KEY, agent TEXT NOT NULL, epoch TEXT NOT NULL);
    CREATE TABLE window({_columns(WINDOW_COLUMNS[:-1])}, PRIMARY KEY(level, start, series)) WITHOUT ROWID;
    CREATE TABLE part({_columns(PART_COLUMNS)}, PRIMARY KEY(level, start, series, opener, tick)) WITHOUT ROWID;
    CREATE TABLE anomaly(
        id TEXT, phase TEXT, agent TEXT, epoch TEXT, shard INTEGER, seq INTEGER, tick INTEGER, rule TEXT, series TEXT,
        begin_us INTEGER, time_us INTEGER, value REAL, "limit" REAL, severity TEXT, text TEXT, samples TEXT,
        PRIMARY KEY(id, phase, agent, epoch, shard, seq)) WITHOUT ROWID;
    CREATE INDEX anomaly_time ON anomaly(time_us);
    CREATE TABLE alert(
        id TEXT PRIMARY KEY, rule TEXT, subject TEXT, state TEXT, severity TEXT, text TEXT, episode_us INTEGER,
        time_us INTEGER, value REAL, "begin" TEXT, "end" TEXT) WITHOUT ROWID;
    CREATE INDEX alert_episode ON alert(episode_us);
    CREATE TABLE progress(
        shard INTEGER, agent TEXT, epoch TEXT, complete_us INTEGER, heard_us INTEGER, silent INTEGER, waiting INTEGER,
        PRIMARY KEY(shard, agent)) WITHOUT ROWID;
    CREATE TABLE report(
        id INTEGER PRIMARY KEY, time_us INTEGER, kind TEXT, shard INTEGER, agent TEXT, epoch TEXT, text TEXT);
    CREATE TABLE state(shard INTEGER, name TEXT, body BLOB, PRIMARY KEY(shard, name)) WITHOUT ROWID;
    CREATE TABLE "offset"(partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
    CREATE TABLE output(
        id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, partition INTEGER, key TEXT, headers BLOB, body BLOB);
    CREATE TABLE notification(id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE output ADD COLUMN producer TEXT NOT NULL DEFAULT '';
    UPDATE output SET producer = 'cloud/' || (SELECT value FROM meta WHERE name = 'producer');
    """,
    """
    CREATE TABLE command(
        id TEXT, status TEXT, agent TEXT, epoch TEXT, shard INTEGER, seq INTEGER, tick INTEGER, reason TEXT, act TEXT,
        rule TEXT, anomaly TEXT, series TEXT, device TEXT, topic TEXT, name TEXT, arguments TEXT, undoes TEXT,
        begin_us INTEGER, time_us INTEGER, ttl_us INTEGER,
        PRIMARY KEY(id, status, agent, epoch, shard, seq)) WITHOUT ROWID;
    CREATE INDEX command_time ON command(time_us);
    """,
    """
    CREATE TABLE device(
        device TEXT PRIMARY KEY, status TEXT, reason TEXT, since_us INTEGER, heard_us INTEGER, agent TEXT, tick INTEGER,
        seq INTEGER) WITHOUT ROWID;
    CREATE TABLE device_change(
        device TEXT, time_us INTEGER, agent TEXT, epoch TEXT, shard INTEGER, seq INTEGER, tick INTEGER, id TEXT, status TEXT,
        "before" TEXT, reason TEXT, heard_us INTEGER, PRIMARY KEY(device, time_us, agent, epoch, shard, seq)) WITHOUT ROWID;
    """,
    """
    ALTER TABLE anomaly ADD COLUMN scores TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE anomaly ADD COLUMN degree REAL NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE registry(
        device TEXT PRIMARY KEY, time_us INTEGER, removed INTEGER, model TEXT, place TEXT, owner TEXT, cohort TEXT,
        metrics TEXT) WITHOUT ROWID;
    """,
    """
    ALTER TABLE window ADD COLUMN shard INTEGER;
    CREATE TABLE second(topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY(topic, partition)) WITHOUT ROWID;
    """,
    """
    ALTER TABLE registry ADD COLUMN runbook TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert DROP COLUMN "begin";
    ALTER TABLE alert DROP COLUMN "end";
    ALTER TABLE alert ADD COLUMN anomaly TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN key TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN shard INTEGER NOT NULL DEFAULT -1;
    ALTER TABLE alert ADD COLUMN site TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN device TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN incident TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN fired_us INTEGER;
    ALTER TABLE alert ADD COLUMN end_us INTEGER;
    ALTER TABLE alert ADD COLUMN evidence TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE alert ADD COLUMN agents TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE alert ADD COLUMN acked TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN muted TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN "do" TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN link TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN sure TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN model TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN place TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN runbook TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN known_us INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE alert ADD COLUMN what TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN who TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN why TEXT NOT NULL DEFAULT '';
    ALTER TABLE alert ADD COLUMN n INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE alert ADD COLUMN changed_us INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX alert_incident ON alert(incident);
    CREATE TABLE alert_event(
        alert TEXT, n INTEGER, what TEXT, state TEXT, severity TEXT, text TEXT, value REAL, time_us INTEGER, muted TEXT, who TEXT,
        why TEXT, changed_us INTEGER, PRIMARY KEY(alert, n)) WITHOUT ROWID;
    CREATE INDEX alert_event_time ON alert_event(changed_us);
    CREATE VIEW incident AS SELECT incident AS id, max(site) AS site, min(episode_us) AS begin_us, max(episode_us) AS last_us,
        CASE WHEN sum(state IN ('firing', 'acknowledged')) THEN NULL ELSE max(time_us) END AS end_us, count(*) AS members,
        sum(state IN ('firing', 'acknowledged')) AS open, sum(state = 'acknowledged') AS acknowledged,
        sum(muted <> '' AND state IN ('firing', 'acknowledged')) AS muted, count(DISTINCT key) AS devices,
        max(CASE severity WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END) AS rank
        FROM alert WHERE incident <> '' AND state <> 'withdrawn' GROUP BY incident;
    """,
    """
    CREATE TABLE told(n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, time_us INTEGER NOT NULL, body TEXT NOT NULL);
    INSERT INTO told(id, time_us, body)
        SELECT id, 0, '{"possible_repeat":true,' || substr(body, 2) FROM notification ORDER BY id;
    DROP TABLE notification;
    ALTER TABLE told RENAME TO notification;
    """,
    """
    CREATE TABLE finding(
        id TEXT PRIMARY KEY, rule TEXT, cohort TEXT, device TEXT, metric TEXT, level TEXT, start_us INTEGER, length_us INTEGER,
        shard INTEGER, agent TEXT, made_us INTEGER, outlier INTEGER, value REAL, median REAL, spread REAL, away REAL, peers INTEGER,
        severity TEXT, text TEXT) WITHOUT ROWID;
    CREATE INDEX finding_start ON finding(start_us);
    """,
    """
    CREATE TABLE sink(name TEXT PRIMARY KEY, mark INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE change(
        n INTEGER PRIMARY KEY AUTOINCREMENT, mark INTEGER NOT NULL, time_s INTEGER NOT NULL, kind TEXT NOT NULL, oldest TEXT NOT NULL,
        body BLOB NOT NULL);
    """,
    """
    CREATE TABLE agent_status(
        agent TEXT PRIMARY KEY, shard INTEGER, site TEXT, time_us INTEGER, heard_us INTEGER, offset_us INTEGER,
        shape BLOB, numbers BLOB);
    CREATE INDEX agent_status_heard ON agent_status(heard_us);
    """,
    """
    DROP VIEW incident;
    CREATE VIEW incident AS SELECT incident AS id, max(site) AS site, min(episode_us) AS begin_us, max(episode_us) AS last_us,
        CASE WHEN sum(state IN ('firing', 'acknowledged')) THEN NULL ELSE max(time_us) END AS end_us, count(*) AS members,
        sum(state IN ('firing', 'acknowledged')) AS open, sum(state = 'acknowledged') AS acknowledged,
        sum(muted <> '' AND state IN ('firing', 'acknowledged')) AS muted,
        count(DISTINCT CASE WHEN instr(key, '/') THEN key END) AS devices,
        max(CASE severity WHEN 'critical' THEN 2 WHEN 'warning' THEN 1 ELSE 0 END) AS rank
        FROM alert WHERE incident <> '' AND state <> 'withdrawn' GROUP BY incident;
    """,
)
"""A window of one part holds that part whole (opener, tick, revision, flags); the parts of others stand in `part`, as do
those of count 0, which have no window. Epochs are 16 hex digits; `kept_from`: windows that start before are deleted.
`window.shard`: NULL of windows that were written before version 7, -1 of rollups. `second`: offsets of the second stages' topics.
`output.producer`: under which name it is appended, with its id (version 1 had one name a file, in `meta`).
`incident.devices`: keys of devices; a site's own, or an agent's, is none.
`finding`: of each device and window of a comparison the latest word; not `outlier`: it was taken back.
`agent_status`: of each agent its latest status frame, by the bus's time (`heard_us`), for a week.
`notification`: what people are told, by `n` in the order in which it was decided, each id once ever; the courier reads it.
`time_us`: when it was decided, by the operators' clock; 0 of what version 7 had not, or perhaps not, sent.
`sink`: who follows the file; `change`: what commits wrote since, see `changes`. `mark`: random bits, by which a file that went back, or a
sink that was registered anew, is known. `time_s`: the machine's clock. `oldest`: the earliest start by level, or `found`, as JSON."""

VERSION = len(SCHEMA)


def damaged(path: Path, error: BaseException) -> StateError:
    """What a person should do about a damaged file: it can be made anew from the log, so nobody mends it."""
    return StateError(
        f"{path} is damaged: {error}",
        hint="move it and its -wal away, and keep them: a new one is made from the log, which goes back for days; older windows stay "
        "in the one that you keep",
    )


class Store:
    """The file, open for writing."""

    def __init__(self, path: Path) -> None:
        """Take the lock and open.

        Raises:
            StateInUse, StateNewer, StateError: the file is not for this process, or damaged; nothing was changed.
        """
        self._path = path
        self._lock = WriterLock(path)
        try:
            self.connection = open_writer(path, application=APPLICATION, schema=SCHEMA, page_size=8192)
            bulk.attach(self.connection)
        except sqlite3.DatabaseError as error:
            self._lock.release()
            raise (damaged(path, error) if says_damaged(error) else error) from None
        except BaseException:
            self._lock.release()
            raise
        try:
            claim.for_one(self.connection, path)
        except BaseException:
            self.close()
            raise
        self.producer = f"cloud/{secrets.token_hex(8)}"
        """Under which this process's outputs are appended: a file that is new, or restored, gives ids that were given before."""

    def close(self) -> None:
        self.connection.close()
        self._lock.release()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """One commit: see `one_commit`."""
        return one_commit(self.connection, self._path)

    def load_names(self) -> Names:
        """Read the dictionaries, each in the order of its numbers."""
        names = Names()
        query = self.connection.execute
        names.series_numbers([name for (name,) in query("SELECT name FROM series ORDER BY id")])
        names.level_numbers([name for (name,) in query("SELECT name FROM level ORDER BY id")])
        for opener in query("SELECT agent, epoch FROM opener ORDER BY id"):
            names.opener_numbers(opener[0], [int(opener[1], 16)])
        names.written()
        return names

    def load_shards(self) -> dict[int, Shard]:
        """Read the operators' state."""
        pieces: dict[int, list[tuple[str, bytes]]] = {}
        for number, name, body in self.connection.execute(
            "SELECT shard, name, body FROM state WHERE shard >= 0"
        ):  # see `second_state`
            pieces.setdefault(number, []).append((name, body))
        return {number: shard.load(number, of_shard) for number, of_shard in pieces.items()}

    def load_offsets(self) -> dict[int, int]:
        """Read how far each partition has been read."""
        return dict(self.connection.execute('SELECT partition, next FROM "offset"').fetchall())

    def load_second(self, topic: str) -> dict[int, int]:
        """Read how far each partition of a second stage's topic has been read."""
        query = "SELECT partition, next FROM second WHERE topic = ?"
        return dict(self.connection.execute(query, (topic,)).fetchall())

    def log_identity(self) -> str | None:
        """Read of which log the offsets are; None while no log was noted."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = 'log'").fetchone()
        return None if row is None else str(row[0])

    def note_log(self, identity: str, *, anew: bool) -> None:
        """Note, in an open transaction, which log is read; `anew`: from its beginning."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES ('log', ?)", (identity,))
        if anew:
            self.connection.execute('DELETE FROM "offset"')
            self.connection.execute("DELETE FROM second")

    def load_outputs(self) -> list[Waiting]:
        """Read the outputs that may not be on the bus yet."""
        return [
            Waiting(producer, number, Record(topic, partition, key, msgspec.msgpack.decode(headers), body))
            for producer, number, topic, partition, key, headers, body in self.connection.execute(
                "SELECT producer, id, topic, partition, key, headers, body FROM output ORDER BY id"
            )
        ]


@contextmanager
def one_commit(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """One commit of a file.

    Raises:
        TryAgain: the disk is full, or another process holds the file for long; it is as before, and the same commit may follow later.
        StartAgain: it failed otherwise, and what is in memory may differ from the file.
        StateError: the file is damaged.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(connection)
        raise trouble(path, error) from error
    except BaseException:
        _roll_back(connection)
        raise


def trouble(path: Path, error: sqlite3.Error) -> HeadwaterError:
    """Say what an error of SQLite means for who uses the file: see `one_commit`."""
    if says_damaged(error):
        return damaged(path, error)
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return TryAgain(f"the commit did not fit: {error}", hint="make space on the disk of the data folder")
    if code == sqlite3.SQLITE_BUSY:
        return TryAgain(f"{path} is held by another process: {error}", hint="see who has it open")
    return StartAgain(f"the commit failed: {error}", hint="check the disk of the data folder")


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def opener_row(number: int, opener: Opener) -> tuple[int, str, str]:
    """An opener as its table holds it."""
    return number, opener.agent, f"{opener.epoch:016x}"
