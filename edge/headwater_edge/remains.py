"""What can be read of an agent's file, whatever became of it, copied into a new one; the file itself is not written to.

SQLite reads each table as far as it gets. Where it stumbles, and where the write-ahead log is damaged, the pages are
read one by one besides (see `pages`), and rows are told by their shape.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

from headwater_edge import journal
from headwater_edge.store import PAGE_SIZE, VERSION
from headwater_shared import pages
from headwater_shared.errors import StateNewer
from headwater_shared.pages import Cell
from headwater_shared.sqlite_file import read_only, read_without_log

TABLES = (
    "epoch", "journal", "snapshot", "outbox", "sent", "dead_letter", "arrival", "coverage", "birth", "meta", "alert", "evicted",
)  # fmt: skip
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite says of a damaged file; its own words may be damaged, too."""
_SOME = 500


def gather(source: Path, into: sqlite3.Connection) -> str:
    """Copy every row of a file that can be read into a new one of today's schema; one of an older version too.

    Returns:
        What was found amiss of the file as a whole, in a person's words; empty if nothing was.

    Raises:
        StateNewer: a newer version wrote it.
    """
    amiss = pages.log_trouble(source, PAGE_SIZE)
    stumbled, foreign = bool(amiss), False
    if not source.exists() or not source.stat().st_size:
        amiss, stumbled = "the file is empty or gone", True
    else:
        try:
            foreign = has_foreign_log(source)
            with closing(read_without_log(source) if foreign else read_only(source)) as connection:
                _refuse_newer(connection, source)
                for table in TABLES:
                    stumbled |= not _copied(connection, table, into)
        except UNREADABLE as error:
            amiss, stumbled = amiss or f"SQLite cannot read it: {type(error).__name__}", True
        if foreign:
            amiss = "the write-ahead log beside it is that of another file"
    if stumbled:
        _take_pages(source, into, with_log=not foreign)
    return amiss


def has_foreign_log(path: Path) -> bool:
    """Tell whether the log beside a file is not its own: by what each calls the file, or because only without it the file is sound."""
    log = path.with_name(path.name + "-wal")
    if not log.exists() or not log.stat().st_size:
        return False
    return has_two_names(path) or (not _is_sound(path, log=True) and _is_sound(path, log=False))


def has_two_names(path: Path) -> bool:
    """Tell whether the log beside a file calls it otherwise than the file itself does.

    Names are 16 random digits: two that agree in most are one, of which some bytes are damaged.
    """
    names: list[str] = []
    for opened in (read_without_log, read_only):
        with suppress(*UNREADABLE), closing(opened(path)) as connection:
            found = connection.execute("SELECT value FROM meta WHERE name = 'file'").fetchone()
            names += [str(found[0])] if found else []
    if len(names) < 2:
        return False
    one, other = names
    different: int = sum(a != b for a, b in zip_longest(one, other))
    return different > len(other) // 4


def is_sound(path: Path) -> bool:
    """Have SQLite look through the whole file, its log included."""
    return _is_sound(path, log=True)


def _is_sound(path: Path, *, log: bool) -> bool:
    try:
        with closing(read_only(path) if log else read_without_log(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except UNREADABLE:
        return False


def _refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    with suppress(sqlite3.DatabaseError, ValueError, TypeError):  # UnicodeDecodeError is a ValueError
        found = connection.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
        if found and int(found[0]) > VERSION:
            raise StateNewer(
                f"{path} was written by a newer version (format {found[0]}, known here: {VERSION})",
                hint="use that version on it; nothing was changed",
            )


def _copied(connection: sqlite3.Connection, table: str, into: sqlite3.Connection) -> bool:
    """Copy a table as far as SQLite reads it; tell whether that was to its end."""
    try:
        rows = connection.execute(f"SELECT * FROM {table}")
        while some := rows.fetchmany(_SOME):
            for row in some:
                _put(into, table, row)
    except sqlite3.OperationalError as error:
        return "no such table" in str(error)  # of an older version
    except (*UNREADABLE, OverflowError):
        return False
    return True


def _take_pages(source: Path, into: sqlite3.Connection, *, with_log: bool) -> None:
    for cell in pages.cells_of(source, PAGE_SIZE, with_log=with_log):
        for table, row in _row_of(cell):
            _put(into, table, row)


def _put(into: sqlite3.Connection, table: str, row: tuple[Any, ...]) -> None:
    kinds = KINDS[table]
    row = (*row, *[None] * (len(kinds) - len(row)))[: len(kinds)]
    if not all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True)):
        return
    if table == "meta" and row[0] in {"application", "version"}:
        return
    marks = ", ".join("?" * len(row))
    with suppress(sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError, UnicodeEncodeError):
        into.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)


KINDS: dict[str, tuple[Any, ...]] = {
    "epoch": (int, bytes, int, str),
    "journal": (int, bytes),
    "snapshot": (int, int, bytes),
    "outbox": (int, int, int, bytes, int, int, str, bytes, bytes),
    "sent": (int, int),
    "dead_letter": (int, int, int, str, str, bytes, bytes, bytes | None),
    "arrival": (int, bytes),
    "coverage": (int, int, bytes),
    "birth": (bytes, bytes),
    "meta": (str, int | str),
    "alert": (int, str, str, str, bytes),
    "evicted": (int, str, int, bytes),
}
"""What the columns of each table hold: damaged pages give anything."""


def _row_of(cell: Cell) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Tell by its shape which table a row is of. `sent` is left out: what it marks is sent again, and told by its identity."""
    rowid, values = cell
    kinds = tuple(type(value) for value in values)
    none = type(None)
    if rowid is None:
        if kinds == (int, int, bytes):
            yield "snapshot", values
        elif kinds == (bytes, bytes):
            yield "birth", values
        elif kinds in {(str, str), (str, int)} and values[0] in {"bus", "hardware", "agent"}:
            yield "meta", values
    elif kinds == (none, bytes):
        is_journal = values[1][:1] and values[1][0] in journal.KNOWN and values[1][1:2] == b"\x78"
        yield ("journal" if is_journal else "arrival"), (rowid, values[1])
    elif kinds == (none, int, bytes):
        yield "coverage", (rowid, *values[1:])
    elif kinds == (none, str, str, str, bytes):
        yield "alert", (rowid, *values[1:])
    elif kinds == (none, str, int, bytes):
        yield "evicted", (rowid, *values[1:])
    elif kinds == (none, bytes, int, str) and len(values[1]) == 8:
        yield "epoch", (rowid, *values[1:])
    elif kinds == (none, int, int, bytes, int, int, str, bytes, bytes) and len(values[3]) == 8:
        yield "outbox", (rowid, *values[1:])
    elif kinds[:7] == (int, int, int, str, str, bytes, bytes) and kinds[7:] in {(), (none,), (bytes,)}:
        yield "dead_letter", values
