"""SQLite files: pragmas, versions and the writer's lock."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from headwater_shared.errors import StateError, StateInUse, StateNewer
from headwater_shared.sqlite_file import WriterLock, give_back, open_reader, open_writer
from tests.support import until

FIRST = "CREATE TABLE thing(n INTEGER PRIMARY KEY, text TEXT DEFAULT 'a;b');"
SECOND = "ALTER TABLE thing ADD COLUMN more INTEGER; CREATE INDEX thing_more ON thing(more);"


def test_a_new_file_has_our_pragmas(tmp_path: Path) -> None:
    """A new file gets its page size, incremental vacuum, WAL or TRUNCATE, and full synchronous."""
    for wal, mode in ((True, "wal"), (False, "truncate")):
        connection = open_writer(
            tmp_path / f"{mode}.db", application="test", schema=[FIRST], page_size=2048, wal=wal
        )
        pragma = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "auto_vacuum", "journal_mode", "synchronous", "secure_delete")
        }
        connection.close()
        assert pragma == {
            "page_size": 2048, "auto_vacuum": 2, "journal_mode": mode, "synchronous": 2, "secure_delete": 0
        }  # fmt: skip


def test_an_older_file_is_brought_up_and_keeps_its_rows(tmp_path: Path) -> None:
    """A file of version 1 opened with a schema of two gets only the second script, and its rows stay."""
    path = tmp_path / "a.db"
    old = open_writer(path, application="test", schema=[FIRST])
    old.execute("INSERT INTO thing(n) VALUES (7)")
    old.close()
    new = open_writer(path, application="test", schema=[FIRST, SECOND])
    assert new.execute("SELECT n, text, more FROM thing").fetchall() == [(7, "a;b", None)]
    assert new.execute("SELECT value FROM meta WHERE name = 'version'").fetchone() == (2,)
    new.close()


def test_a_script_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A schema step is one transaction: when its second statement fails, the first is undone too."""
    path = tmp_path / "a.db"
    open_writer(path, application="test", schema=[FIRST]).close()
    with pytest.raises(sqlite3.OperationalError):
        open_writer(path, application="test", schema=[FIRST, "CREATE TABLE other(n); CREATE TABLE thing(n);"])
    connection = open_reader(path, application="test", version=1)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'other'").fetchall() == []
    connection.close()


@pytest.mark.parametrize("wal", [True, False])
def test_a_newer_file_is_refused_and_untouched(tmp_path: Path, wal: bool) -> None:
    """StateNewer, with a hint, from writer and reader; not a byte of the file changes."""
    path = tmp_path / "a.db"
    open_writer(path, application="test", schema=[FIRST, SECOND], wal=wal).close()
    before = hashlib.sha256(path.read_bytes()).digest()
    with pytest.raises(StateNewer) as refused:
        open_writer(path, application="test", schema=[FIRST], wal=wal)
    assert refused.value.hint
    with pytest.raises(StateNewer):
        open_reader(path, application="test", version=1)
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """Another application's file, one that is no SQLite file, and one that is not there: each is refused."""
    path = tmp_path / "a.db"
    open_writer(path, application="edge", schema=[FIRST]).close()
    with pytest.raises(StateError, match="a file of edge"):
        open_writer(path, application="cloud", schema=[FIRST])
    foreign = sqlite3.connect(tmp_path / "b.db")
    foreign.execute("CREATE TABLE x(y)")
    foreign.close()
    with pytest.raises(StateError, match="no file of cloud"):
        open_writer(tmp_path / "b.db", application="cloud", schema=[FIRST])
    (tmp_path / "c.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        open_writer(tmp_path / "c.db", application="cloud", schema=[FIRST])
    with pytest.raises(StateError, match="there is no file"):
        open_reader(tmp_path / "d.db", application="cloud", version=1)
    with pytest.raises(StateError, match="cannot be opened"):
        open_writer(tmp_path / "no" / "folder.db", application="cloud", schema=[FIRST])


def test_a_reader_cannot_write_and_sees_commits(tmp_path: Path) -> None:
    """A read-only connection sees what the writer committed, and may not change it."""
    path = tmp_path / "a.db"
    writer = open_writer(path, application="test", schema=[FIRST])
    reader = open_reader(path, application="test", version=1)
    writer.execute("INSERT INTO thing(n) VALUES (1)")
    assert reader.execute("SELECT count(*) FROM thing").fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM thing")
    reader.close()
    writer.close()


def test_space_is_given_back(tmp_path: Path) -> None:
    """After deleting, `give_back` makes the file smaller."""
    path = tmp_path / "a.db"
    writer = open_writer(path, application="test", schema=[FIRST], wal=False)
    writer.execute("BEGIN")
    writer.executemany("INSERT INTO thing(text) VALUES (?)", (("x" * 500,) for _ in range(2000)))
    writer.execute("COMMIT")
    full = path.stat().st_size
    writer.execute("DELETE FROM thing")
    give_back(writer, 100_000)
    assert path.stat().st_size < full / 10
    writer.close()


_HOLDER = """
import sys, time
from pathlib import Path
from headwater_shared.sqlite_file import WriterLock
lock = WriterLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_writer_a_file(tmp_path: Path) -> None:
    """A second process gets StateInUse, naming the first and saying what to do; kill -9 of the first frees the file."""
    path = tmp_path / "a.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateInUse, match=f"process {holder.pid}") as refused:
            WriterLock(path)
        assert refused.value.hint
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with WriterLock(path), pytest.raises(StateInUse):
        WriterLock(path)

    def free() -> bool:
        WriterLock(path).release()
        return True

    assert until(free, 5)
