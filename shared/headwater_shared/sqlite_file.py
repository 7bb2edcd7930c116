"""Opening SQLite files: our pragmas, the version check before anything is touched, and the lock of the one writer.

Every file of ours has a table `meta(name, value)` with the rows `application` and `version`. A file is brought up from
an older version in the transaction that opens it; one of a newer version, or of another application, is left as it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from headwater_shared.errors import StateError, StateInUse, StateNewer

BUSY_MS = 5_000
"""How long a connection waits for another's lock before it gives up."""

_NOT_OURS = "check the data folder and its owner"
_UNWRITABLE = {
    errno.EROFS: "the disk is read-only: mounted so, or made so by the system after an error (dmesg says); mend it, then start again"
}

_NO_TEXT = "Could not decode to UTF-8"
_META = "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID"


def open_writer(
    path: Path, *, application: str, schema: Sequence[str], page_size: int = 1024, wal: bool = True
) -> sqlite3.Connection:
    """Open a file for writing; make it if it is not there, bring it up if it is older.

    The connection is in autocommit mode (`BEGIN IMMEDIATE` ... `COMMIT` are the caller's), may be handed from thread to
    thread, and syncs fully. With `wal` the caller holds the file's `WriterLock`; without, several processes may write.

    Args:
        path: where; its folder must be there.
        application: whose file it is, such as `headwater-edge`.
        schema: `schema[i]` is the SQL script that brings version i to i + 1; its length is the version written here.
        page_size: bytes, fixed when the file is made.
        wal: a write-ahead log (one writer, R32), or else a rollback journal (several writers, R27).

    Raises:
        StateNewer: a newer version wrote it; nothing was changed.
        StateError: it belongs to another application, or cannot be opened; nothing was changed.
        sqlite3.DatabaseError: it is damaged.
    """
    if path.exists() and path.stat().st_size:
        _check_unopened(path, application, len(schema))
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
    except sqlite3.OperationalError as error:
        raise _unopenable(path, error) from None
    try:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'TRUNCATE'}").fetchall()
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=OFF").fetchall()  # Debian compiles it on: bytes for nothing
        _bring_up(connection, path, application, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, *, application: str, version: int) -> sqlite3.Connection:
    """Open a file that another process may be writing, for reading only (R32).

    Raises:
        StateNewer: a newer version wrote it.
        StateError: it is not there, or belongs to another application.
        sqlite3.DatabaseError: it is damaged.
    """
    if not path.exists():
        raise StateError(
            f"there is no file {path}", hint="start Headwater first ('headwater up'), or name its data folder"
        )
    connection = read_only(path)
    try:
        check(connection, path, application, version)
    except BaseException:
        connection.close()
        raise
    return connection


def says_damaged(error: BaseException) -> bool:
    """Tell whether SQLite says that a file is damaged, or no database at all; or finds text in it that is none: we write none such."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # Python's own error about text has none
    damaged = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or str(error).startswith(_NO_TEXT)
    return isinstance(error, sqlite3.DatabaseError) and damaged


def give_back(connection: sqlite3.Connection, pages: int) -> None:
    """Return up to `pages` free pages to the file system. Outside a transaction: an open one would be committed."""
    # Each step of this pragma moves one page, and `execute` takes one step of what has no columns: it would move one.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")


class WriterLock:
    """The right to write a file, held by one process: a lock on `<file>.lock` that ends with the process, even by kill -9."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StateInUse: another process has it; the message says which.
            StateError: the lock's file cannot be made.
        """
        name = path.with_name(path.name + ".lock")
        try:
            self._fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StateError(
                f"{name} cannot be opened: {error.strerror}",
                hint=_UNWRITABLE.get(error.errno or 0, _NOT_OURS),
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise StateInUse(
                f"{path} is in use by process {holder or 'unknown'}",
                hint="stop that process, or choose another data folder for this one",
            ) from None
        with suppress(OSError):  # who has it is said for people; a full disk is no reason not to start
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The lock's file stays: to remove it would let two processes lock two files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _bring_up(connection: sqlite3.Connection, path: Path, application: str, schema: Sequence[str]) -> None:
    """Run what the file lacks of the schema, in one transaction; two processes may make a new file at once."""
    if check(connection, path, application, len(schema)) == len(schema):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = check(connection, path, application, len(schema))
        connection.execute(_META)
        for script in schema[found:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES ('application', ?), ('version', ?)",
            (application, len(schema)),
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """Cut a script into statements: `executescript` would commit what is open."""
    out: list[str] = []
    pending = ""
    for piece in script.split(";")[:-1]:
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            out.append(pending)
            pending = ""
    return out


def check(connection: sqlite3.Connection, path: Path, application: str, version: int) -> int:
    """Return the version of a file that is open, 0 if it is new.

    Raises:
        StateNewer, StateError: it is not for us.
    """
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    if "meta" not in tables:
        if tables:
            raise StateError(f"{path} is no file of {application}", hint="name another file in the settings")
        return 0
    found = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('application', 'version')"))
    if found.get("application") != application:
        raise StateError(
            f"{path} is a file of {found.get('application')}, not of {application}",
            hint="name another file in the settings",
        )
    if int(found["version"]) > version:
        raise StateNewer(
            f"{path} was written by a newer version (format {found['version']}, known here: {version})",
            hint="install that version again, or move the file away and start with a new one",
        )
    return int(found["version"])


def _check_unopened(path: Path, application: str, version: int) -> None:
    """Check without writing a byte; a file that needs recovery first is checked by the writer after it."""
    connection = read_only(path)
    try:
        check(connection, path, application, version)
    except sqlite3.OperationalError:
        return  # a hot journal, or the directory is not ours to make -shm in: the writer will say
    finally:
        connection.close()


def read_only(path: Path) -> sqlite3.Connection:
    """Open any SQLite file for reading, unchecked: neither it nor its log is written to; a `-shm` is made beside a log.

    Raises:
        StateError: it cannot be opened.
    """
    return _connect(path, "mode=ro")


def read_without_log(path: Path) -> sqlite3.Connection:
    """Open any SQLite file as if nobody could write it, unchecked, without the write-ahead log that may lie beside it.

    Raises:
        StateError: it cannot be opened.
    """
    return _connect(path, "mode=ro&immutable=1")


def _connect(path: Path, how: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?{how}",
            uri=True,
            timeout=BUSY_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.OperationalError as error:
        raise _unopenable(path, error) from None


def _unopenable(path: Path, error: sqlite3.Error) -> StateError:
    return StateError(
        f"{path} cannot be opened: {error}",
        hint="check that the folder is there, its owner, and the free space",
    )
