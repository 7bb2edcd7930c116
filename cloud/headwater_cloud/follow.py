"""The follower: keys of changes in the cloud's file, which it only reads, become points of the rows as they are now.

A step reads what is new, writes it, and moves the cursor: in this order. Whatever ends it in between, the next one begins with the same
keys, and builds them anew (R28). A write whose answer never came may still be under way, and arrive after the one that was built anew: what
was sent then is written once more, a while later, before the cursor moves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_cloud import changes, followed_rows, jobs
from headwater_cloud.changes import Cursor
from headwater_cloud.followed_rows import Wanted
from headwater_cloud.influx_file import InfluxFile, Unmade, key_text
from headwater_cloud.influx_write import Later, Points, Writer
from headwater_cloud.point_rows import PointRows
from headwater_cloud.poison import NOT_OF_A_RECORD, text_of
from headwater_cloud.retention import Keep
from headwater_cloud.store import APPLICATION, VERSION, damaged
from headwater_shared.crash import reached
from headwater_shared.errors import TryAgain
from headwater_shared.logs import get_logger
from headwater_shared.sqlite_file import check, open_reader, says_damaged

log = get_logger()

_ROWS, _KEYS = 500, 20_000
"""Of changes in one step at most; a row that has more keys is one step. All are read in one transaction, for which workers' commits wait."""
_AGAIN = 1_000
"""Dead letters that are written again in one step."""
_CHANGE = "change"
"""In the key of a dead letter: a row of changes that cannot be read. Nobody knows what it named: all is written again, by its retry."""


class Step(NamedTuple):
    """What a step did."""

    changes: int
    job: bool
    """Whether there was something to do beside changes."""
    points: int
    again_s: float = 0.0
    """The same is to be written once more after so many seconds, and not before: an older write may be under way. Nothing moved."""


class Follower:
    """One follower of one file. Not for several threads.

    Args:
        cloud: the cloud's file.
        file: the sink's own.
        writer: writes points.
        prefix, batch, max_series: see the settings.
        keep: how long levels, and what was found, are kept.
        settle_s: after which a write that nobody answered has arrived, or never will.
        unsure: the process before may have left one under way.
    """

    def __init__(
        self,
        cloud: Path,
        file: InfluxFile,
        writer: Writer,
        *,
        prefix: str,
        batch: int,
        max_series: int,
        keep: Keep,
        settle_s: float = 10.0,
        unsure: bool = False,
    ) -> None:
        self.rows = PointRows(file.known(), prefix, batch, max_series, keep)
        self.behind = 0
        """Rows of changes that are not written yet, as of the last step: what it read and the store did not take is among them."""
        self.oldest_s = 0
        """When the oldest of them was made (seconds); 0: there is none."""
        self._cloud, self._file, self._writer, self._batch = cloud, file, writer, batch
        self._reader: sqlite3.Connection | None = None
        self._inode = 0
        self._cursor: Cursor | None = None
        self._following = self._following_s = 0
        """What follows those that were read last: how many, and since when."""
        self._buried = {one.key for one in file.dead()}
        self._settle_s, self._unsure = settle_s, unsure and file.cursor() is not None

    def step(self) -> Step:
        """Write what is new, and a piece of what is written beside.

        Raises:
            Later: the store does not take it now. TryAgain: the cloud's file is not there, notes no changes, or cannot be read now.
            StateError: it is damaged, or a newer version's.
        """
        with self._one_state() as db:
            self._take_up(db)
            unmade: list[Unmade] = []
            cursor, wanted = self._changed(db, unmade)
            again = self._file.dead(again=True)[:_AGAIN]
            for one in again:
                followed_rows.add(db, wanted, msgspec.json.decode(one.key))
            job = self._file.job()
            moved = None
            if job is not None:
                moved, piece = jobs.piece(db, job, self._batch)
                wanted.join(piece)
            points_of = self.rows.of(db, wanted, unmade)
        found = list(points_of)  # workers wait for who reads their file: no longer than it must
        reached("sink.read")
        written = self._keys_of(found)
        found += [self.rows.again(one) for one in again if one.line and one.key not in written]
        dead: set[str] = set()
        try:
            for points in found:
                dead.update(self._writer.write(points))
                self._buried |= dead
                reached("sink.written")
        except Later as later:
            self._unsure |= later.unsure
            raise
        if self._unsure and found:
            self._unsure = False
            return Step(0, job is not None, sum(points.size for points in found), self._settle_s)
        dead.update(self._set_aside(unmade))
        anew = any(msgspec.json.decode(one.key)[0] == _CHANGE for one in again)
        if anew:
            self._file.add_job(-(2**63), 2**63 - 1)
        alive = self._buried & (written | {one.key for one in again}) - dead
        moved_on = cursor if cursor != self._cursor else None
        wrote = {points.database for points in found} - self._file.wrote()
        if moved_on is not None or moved is not None or alive or wrote or self.rows.fresh:
            self._file.move(moved_on, moved, self.rows.fresh, alive, wrote)
        count = cursor.n - (self._cursor.n if self._cursor else 0)
        self._cursor, self._buried = cursor, self._buried - alive
        self.behind, self.oldest_s = self._following, self._following_s
        self.rows.settled()
        return Step(count, anew or job is not None, sum(points.size for points in found))

    @property
    def dead_letters(self) -> int:
        """How many points the store refused for ever."""
        return len(self._buried)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _set_aside(self, unmade: Sequence[Unmade]) -> list[str]:
        """Keep what could not be made as dead letters: nothing that comes waits for it."""
        if unmade:
            log.error(
                "no point can be made of some rows: they are dead letters",
                rows=len(unmade), example=unmade[0].key, error=unmade[0].why,
            )  # fmt: skip
        keys = self._writer.set_aside(unmade)
        self._buried.update(keys)
        return keys

    def _keys_of(self, found: Sequence[Points]) -> set[str]:
        """Return all keys, if there are dead letters that may be among them."""
        return {points.key_of(n) for points in found for n in range(points.size)} if self._buried else set()

    def _changed(self, db: sqlite3.Connection, unmade: list[Unmade]) -> tuple[Cursor, Wanted]:
        """Read what changed since the cursor. Returns where it is to stand afterwards, and the keys."""
        assert self._cursor is not None
        cursor, wanted, keys, read = self._cursor, Wanted([], {}), 0, 0
        rows = changes.read(db, cursor.n, _ROWS)
        for n, mark, _, kind, body in rows:
            try:
                some = followed_rows.noted(kind, body)
            except NOT_OF_A_RECORD:
                raise
            except Exception as error:  # noqa: BLE001 - whatever is in it
                some = Wanted([], {})
                unmade.append(Unmade(key_text(_CHANGE, n), "", text_of(error)))
            if keys and keys + some.size > _KEYS:
                break
            keys += some.size
            wanted.join(some)
            cursor = cursor._replace(n=n, mark=mark)
            read += 1
        followed_rows.add_events(db, wanted)
        self._following, self._following_s = changes.unread(db, cursor.n)
        self.behind, self.oldest_s = read + self._following, rows[0][2] if rows else 0
        return cursor, wanted

    def _take_up(self, db: sqlite3.Connection) -> None:
        """See that the file is the one that is followed, and has not gone back; or begin with all that is in it."""
        registered = changes.registered(db)
        if registered is None:
            raise TryAgain(
                f"the cloud side notes no changes in {self._cloud}",
                hint="start it, with the same settings: it does where [cloud.influx] has a url",
            )
        cursor = self._file.cursor() if self._cursor is None else self._cursor
        if cursor is None or cursor.registered != registered or not changes.stands(db, cursor):
            if cursor is not None:
                log.warning("the cloud's file is another one, or went back: everything is written again")
            cursor = Cursor(registered, 0, 0, whole=False)  # what is noted says, too, what is none any more
            self._file.begin(cursor)
            self.rows.forget_names()
            reached("sink.begun")
        self._cursor = cursor

    @contextmanager
    def _one_state(self) -> Iterator[sqlite3.Connection]:
        """One commit's state of the cloud's file, opened anew where another one took its place."""
        try:
            db = self._opened()
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")
        except sqlite3.Error as error:
            self.close()
            if says_damaged(error):
                raise damaged(self._cloud, error) from error
            # It is held for long, say, or a worker that was killed left a journal, which only one that writes rolls back.
            raise TryAgain(
                f"{self._cloud} cannot be read now: {error}", hint="see that the cloud side runs"
            ) from error

    def _opened(self) -> sqlite3.Connection:
        try:
            inode = self._cloud.stat().st_ino
        except FileNotFoundError:
            self.close()
            raise TryAgain(f"there is no {self._cloud} yet", hint="start the cloud side") from None
        if self._reader is None or inode != self._inode:
            self.close()
            self._reader, self._inode = (
                open_reader(self._cloud, application=APPLICATION, version=VERSION),
                inode,
            )
            found = check(self._reader, self._cloud, APPLICATION, VERSION)
            if found < VERSION:
                self.close()
                raise TryAgain(
                    f"{self._cloud} is of an older version yet" if found else f"{self._cloud} is being made",
                    hint="start the cloud side: it brings it up"
                    if found
                    else "it goes on by itself; else start the cloud side",
                )
            followed_rows.prepare(self._reader)
            self._cursor = None
            self.rows.forget_names()
        return self._reader
