"""The file of windows and alerts that the workers of one machine share: each writes the rows of the shards that it holds.

State and offsets of record are Kafka's; here a row may be written again after a crash, and is the same or newer then: each
transaction compares how far the shard was written with what it brings, and who is behind, by a crash or because it was away
and another has the shard, writes no row. What depends on how records were cut is written after Kafka's commit (`effects`).
Several processes write, so it is a file with a rollback journal (R27), and the numbers of series, levels and openers are
the file's, not a process's.
"""

from __future__ import annotations

import dataclasses
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud import bulk, changes, claim, effects, notify
from headwater_cloud.effects import Effects
from headwater_cloud.merge import Windows
from headwater_cloud.names import Names, Opener
from headwater_cloud.outputs import Why, decided
from headwater_cloud.retention import Keep, prune_levels, shrink
from headwater_cloud.sink import At, Batch
from headwater_cloud.store import APPLICATION, SCHEMA, one_commit, trouble
from headwater_cloud.write import write_found, write_offsets, write_second, write_windows
from headwater_shared.crash import reached
from headwater_shared.errors import StateError
from headwater_shared.sqlite_file import open_writer
from headwater_shared.topics import IN

Ints = NDArray[np.int64]

_PRUNE_S = 30.0


class SharedStore:
    """The sink of one worker. Calls do not overlap."""

    def __init__(self, path: Path, keep: Keep) -> None:
        """Open or make the file.

        Raises:
            StateNewer, StateError: it is not for this version, or damaged; nothing was changed.
            TryAgain: another process holds it for long.
        """
        self._path, self._keep = path, keep
        self._prune_at = time.monotonic()
        with self._mapped():
            self._connection = open_writer(
                path, application=APPLICATION, schema=SCHEMA, page_size=8192, wal=False
            )
            bulk.attach(self._connection)
            self.identity = _noted(self._connection, "file", secrets.token_hex(8))
        self._numbers = _numbers()
        self._taken_up: dict[At, dict[int, Why]] = {}
        """What `decided` returned, and no row of ours came after."""

    def take_up(self, identity: str, group: str, *, followed: bool = False) -> None:
        """Note of which bus and which group the offsets are, and whether a sink follows the file.

        Raises:
            StateError: they are of another one: rows of this one would be held for old, and windows be written over by less, alerts by what they
                once were. Or one process made the file.
        """
        with one_commit(self._connection, self._path) as connection:
            claim.for_workers(connection, self._path)
            changes.register(connection, wanted=followed)
            if _noted(connection, "log", identity) != identity:
                raise StateError(
                    f"{self._path} was made from another Kafka, or its topic hw-in was made anew since",
                    hint="point [cloud] bus at that cluster again; or move the file and the folders worker-*.state away, and keep them: a new "
                    "file begins with what comes from now on, and agents send again what the cloud side did not have",
                )
            if (known := _noted(connection, "group", group)) != group:
                raise StateError(
                    f"{self._path} is of the group {known!r}: {group!r} begins with the oldest record, and the file knows more",
                    hint="name another file in [cloud] file: it is made from all that hw-in holds; or give the group its name back",
                )

    def decided(self, at: At) -> dict[int, Why]:
        with self._mapped():
            row = self._connection.execute(
                "SELECT value FROM meta WHERE name = ?", (_letters(at),)
            ).fetchone()
        self._taken_up[at] = {} if row is None else msgspec.json.decode(row[0], type=dict[int, Why])
        return self._taken_up[at]

    def write(self, batches: Sequence[Batch], names: Names) -> None:
        if batches:
            try:
                with one_commit(self._connection, self._path) as connection:
                    ahead = [batch for batch in batches if self.written(batch.at) <= batch.offset]
                    windows = [some for batch in ahead for some in self._batch(connection, batch, names)]
                    if windows:
                        write_windows(connection, _latest(Windows.concatenate(windows)))
                    self._note_letters(connection, ahead)
                    reached("quix.sink.before")
            except BaseException:
                self._numbers = _numbers()  # some are of rows that were taken back
                raise
            for batch in ahead:
                self._taken_up.pop(batch.at, None)
            reached("quix.sink.after")
        with self._mapped():
            self._prune(max((batch.clock_us for batch in batches), default=0))

    def settle(self, found: Sequence[Effects], *, again: bool = False) -> None:
        if not found:
            return
        with one_commit(self._connection, self._path) as connection:
            fresh = [
                one for some in found for one in effects.write(connection, some, self.identity, again=again)
            ]
            reached("quix.settled.before")
        reached("quix.settled.after")
        notify.say(fresh)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Errors outside a commit are as those inside: who holds the file for long may let it go."""
        try:
            yield
        except sqlite3.Error as error:
            raise trouble(self._path, error) from error

    def written(self, at: At) -> int:
        """Return the offset of a partition that its rows are made up to."""
        where = ('"offset" WHERE partition = ?2', "second WHERE topic = ?1 AND partition = ?2")[
            at[0] != IN.name
        ]
        row = self._connection.execute(f"SELECT next FROM {where}", at).fetchone()
        return 0 if row is None else int(row[0])

    def _prune(self, now_us: int) -> None:
        """Delete a chunk of what is no longer kept, now and then; more of them while there is more."""
        if not now_us or time.monotonic() < self._prune_at:
            return
        levels = self._connection.execute("SELECT id, name FROM level").fetchall()
        if prune_levels(lambda: one_commit(self._connection, self._path), levels, now_us, self._keep):
            shrink(self._connection)
        else:
            self._prune_at = time.monotonic() + _PRUNE_S

    def _batch(self, connection: sqlite3.Connection, batch: Batch, names: Names) -> list[Windows]:
        """Write a batch but for its windows and effects; return the windows."""
        topic, number = batch.at
        merged = batch.out.merged
        windows = [] if merged is None else [self._numbered(connection, merged.windows, names)]
        write_found(connection, batch.out)
        if topic == IN.name:
            write_offsets(connection, {number: batch.offset})
        else:
            write_second(connection, {topic: {number: batch.offset}})
        return windows

    def _numbered(self, connection: sqlite3.Connection, windows: Windows, names: Names) -> Windows:
        """Return windows with the file's numbers in place of the process's."""
        return dataclasses.replace(
            windows,
            level=self._numbers["level"].of(connection, windows.level, names.levels),
            series=self._numbers["series"].of(connection, windows.series, names.series),
            opener=self._numbers["opener"].of(connection, windows.opener, names.openers),
        )

    def _note_letters(self, connection: sqlite3.Connection, batches: Sequence[Batch]) -> None:
        """Note what `decided` returns: of each partition the dead letters since Kafka's last commit, of which is all that is older."""
        found: dict[At, dict[int, Why]] = {}
        for batch in batches:
            some = found.setdefault(batch.at, dict(self._taken_up.get(batch.at, {})))
            some |= decided(batch.out.records, batch.at)
        connection.executemany("DELETE FROM meta WHERE name = ?", [(_letters(at),) for at in found])
        rows = [(_letters(at), msgspec.json.encode(some).decode()) for at, some in found.items() if some]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)


def _latest(windows: Windows) -> Windows:
    """Of each window the last row: where several batches of a partition are written at once, a later one knows it better, and may have
    taken it back.
    """
    order = np.lexsort(
        (windows.series, windows.start, windows.level)
    )  # stable: of one window in the order of batches
    same = np.ones(len(order), np.bool_)
    for column in (windows.level, windows.start, windows.series):
        same[:-1] &= column[order[1:]] == column[order[:-1]]
    same[-1:] = False
    return windows.take(np.sort(order[~same])) if same.any() else windows


def _numbers() -> dict[str, _Numbers]:
    return {table: _Numbers(table) for table in ("series", "level", "opener")}


class _Numbers:
    """The file's numbers for a process's: what others wrote is read, what is missing is added, inside the transaction."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._columns = "agent, epoch" if table == "opener" else "name"
        self._known: dict[tuple[str, ...], int] = {}
        self._newest = -1
        self._of = np.zeros(0, np.int64)

    def of(self, connection: sqlite3.Connection, numbers: Ints, words: Sequence[str | Opener]) -> Ints:
        """Translate a column of the process's numbers, which `words` are listed under."""
        if len(self._of) < len(words):
            self._of = np.concatenate([self._of, np.full(len(words) - len(self._of), -1, np.int64)])
        missing = np.unique(numbers[self._of[numbers] < 0]).tolist()
        if missing:
            self._read(connection)
            for number in missing:
                self._of[number] = self._known.get(_key(words[number]), -1)
        translated = self._of[numbers]
        new = [number for number in missing if self._of[number] < 0]
        if new:  # ours only once the commit is through: the next call reads them out of the file
            ids = {number: self._newest + 1 + n for n, number in enumerate(new)}
            keys = [(at, *_key(words[number])) for number, at in ids.items()]
            connection.executemany(
                f"INSERT INTO {self._table}(id, {self._columns}) VALUES ({', '.join('?' * len(keys[0]))})",
                keys,
            )
            given = self._of.copy()
            given[new] = list(ids.values())
            translated = given[numbers]
        return translated

    def _read(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(
            f"SELECT id, {self._columns} FROM {self._table} WHERE id > ? ORDER BY id", (self._newest,)
        ).fetchall()
        for number, *key in rows:
            self._known[tuple(key)] = number
            self._newest = number


def _letters(at: At) -> str:
    """The name in `meta` of a partition's latest dead letters."""
    return f"dead letters of {at[0]}/{at[1]}"


def _key(word: str | Opener) -> tuple[str, ...]:
    return (word,) if isinstance(word, str) else (word.agent, f"{word.epoch:016x}")


def _noted(connection: sqlite3.Connection, name: str, value: str) -> str:
    """Note something in `meta`, if nothing is noted there yet; return what is."""
    connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
    return str(connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])
