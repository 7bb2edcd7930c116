"""The courier's own file, `notify.db`: how far the cloud's table of notifications is taken up, and what became of each by each route.

One process has it, by the lock beside it (R32). A delivery is `sending` on the disk before it is tried, and `sent` after (R29):
what is `sending` when the file is opened was on its way when a process ended, and goes once more, marked.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headwater_cloud.notify_file import (
    APPLICATION,
    SCHEMA,
    Cursor,
    Taken,
    Used,
    Waiting,
    about,
    damaged,
    waiting_of,
)
from headwater_cloud.outputs import Notification
from headwater_cloud.store import one_commit
from headwater_shared.crash import reached
from headwater_shared.errors import StartAgain, StateError, TryAgain
from headwater_shared.sqlite_file import WriterLock, open_writer, says_damaged


class NotifyStore:
    """The file, open for writing. For several threads."""

    def __init__(self, path: Path, now_us: int) -> None:
        """Take the lock and open; what was on its way is marked, and what failed or was refused is due at once.

        Raises:
            StateInUse: another process has it. StateNewer, StateError: it is not for this version, or damaged.
        """
        self.path = path
        self._mutex = threading.RLock()
        self._closed = False
        self._lock = WriterLock(path)
        try:
            self._connection = open_writer(path, application=APPLICATION, schema=SCHEMA, page_size=4096)
            with self.transaction() as connection:
                connection.execute(
                    "UPDATE delivery SET state = 'waiting', repeat = 1, due_us = ?1, changed_us = ?1,"
                    " why = 'the process ended while it was sent' WHERE state = 'sending'",
                    (now_us,),
                )
                connection.execute(
                    "UPDATE delivery SET due_us = ?, state = 'waiting' WHERE state IN ('waiting', 'refused') AND tries > 0",
                    (now_us,),
                )
        except BaseException as error:
            self._lock.release()
            if says_damaged(error):
                raise damaged(path, error) from None
            if isinstance(error, sqlite3.Error):
                raise TryAgain(
                    f"{path} cannot be opened: {error}", hint="check its disk and its owner"
                ) from None
            raise

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            self._connection.close()
        self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One commit: see `store.one_commit`."""
        try:
            with self._mutex:
                if self._closed:  # by the time that a route's last try ended
                    raise StartAgain(f"{self.path} is closed", hint="it is told by the next process")
                with one_commit(self._connection, self.path) as connection:
                    yield connection
        except StateError as error:
            raise damaged(self.path, error.__cause__ or error) from error

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Ask the file."""
        with self._mutex:
            return self._connection.execute(query, values).fetchall()

    def cursor(self) -> Cursor | None:
        """Return how far the cloud's table is taken up; None: it was never looked at."""
        with self._mutex:
            found = self._connection.execute("SELECT n, id, unknown FROM cursor").fetchone()
        return None if found is None else Cursor(*found)

    def set_cursor(self, cursor: Cursor) -> None:
        """Begin to read the cloud's table after a row. What is known by its id is not taken up again."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?, ?)", cursor)

    def take(self, rows: Sequence[Taken], taken_us: int, now_us: int) -> int:
        """Take up rows of the cloud's table, in one commit with the cursor; those that are known by their id are let go.

        Args:
            rows: in the order of the table; at least one.
            taken_us: what the clock shows.
            now_us: real time.

        Returns:
            How many were new.
        """
        new = 0
        with self.transaction() as connection:
            for _, one, wanted in rows:
                cursor = connection.execute(
                    "INSERT INTO notification(id, about, state, taken_us, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING",
                    (one.id, about(one), one.state, taken_us, msgspec.json.encode(one).decode()),
                )
                if cursor.rowcount:
                    new += 1
                    connection.executemany(
                        "INSERT INTO delivery VALUES (?, ?, 'waiting', NULL, ?, 0, ?, ?, '')",
                        [
                            (route, cursor.lastrowid, one.possible_repeat, due_us, now_us)
                            for route, due_us in wanted
                        ],
                    )
            connection.execute("UPDATE cursor SET n = ?, id = ?", (rows[-1].n, rows[-1].notification.id))
            reached("cloud.notify.read")
        reached("cloud.notify.taken")
        return new

    def waiting(self, route: str, after: int = -1, letter: int | None = None) -> list[Waiting]:
        """Return what a route still has to deliver: see `waiting_of`."""
        with self._mutex:
            return waiting_of(self._connection, route, after, letter)

    def formed(self, route: str, since_us: int) -> list[int]:
        """Return when messages of a route were formed, from a time on, oldest first: those that went out, or may have."""
        query = "SELECT formed_us FROM letter WHERE route = ? AND formed_us > ? ORDER BY formed_us"
        return [at for (at,) in self.rows(query, route, since_us)]  # type: ignore[misc]

    def sending(self, route: str, some: Sequence[Waiting], now_us: int) -> int:
        """Note, before it is tried, that a message goes out with some deliveries; return its number."""
        with self.transaction() as connection:
            letter = some[0].letter
            if letter is None:
                letter = connection.execute(
                    "INSERT INTO letter(route, formed_us) VALUES (?, ?)", (route, now_us)
                ).lastrowid
            connection.executemany(
                "UPDATE delivery SET state = 'sending', letter = ?, tries = tries + 1, changed_us = ? WHERE route = ? AND n = ?",
                [(letter, now_us, route, one.n) for one in some],
            )
        reached("cloud.notify.sending")
        assert letter is not None
        return letter

    def sent(self, route: str, letter: int, now_us: int) -> None:
        """Note that a message is delivered."""
        reached("cloud.notify.sent")
        with self.transaction() as connection:
            connection.execute(
                "UPDATE delivery SET state = 'sent', changed_us = ?, why = '' WHERE route = ? AND letter = ? AND state = 'sending'",
                (now_us, route, letter),
            )
        reached("cloud.notify.recorded")

    def failed(self, route: str, letter: int, why: str, now_us: int, due_us: int, *, certain: bool) -> None:
        """Note that a message was not delivered, or perhaps was (not `certain`): then it goes again as it is, marked."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE delivery SET state = 'waiting', repeat = max(repeat, ?1), letter = CASE WHEN ?1 THEN letter END, why = ?2,"
                " changed_us = ?3, due_us = ?4 WHERE route = ?5 AND letter = ?6 AND state = 'sending'",
                (not certain, why, now_us, due_us, route, letter),
            )
            if certain:
                connection.execute("DELETE FROM letter WHERE id = ?", (letter,))

    def refused(self, route: str, letter: int, why: str, now_us: int, *, by_some: bool = False) -> None:
        """Note that a message is not wanted, whenever it comes: a person may have it tried again, marked if only some address refused it."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE delivery SET state = 'refused', letter = NULL, repeat = max(repeat, ?), why = ?, changed_us = ?"
                " WHERE route = ? AND letter = ? AND state = 'sending'",
                (by_some, why, now_us, route, letter),
            )
            connection.execute("DELETE FROM letter WHERE id = ?", (letter,))

    def retry(self, route: str, now_us: int) -> int:
        """Have all that waits for its next try, or was refused, tried now; "" means every route. Returns how many."""
        with self.transaction() as connection:
            return connection.execute(
                "UPDATE delivery SET state = 'waiting', due_us = ?1, changed_us = ?1"
                " WHERE ?2 IN ('', route) AND (state = 'refused' OR state = 'waiting' AND tries > 0)",
                (now_us, route),
            ).rowcount

    def notification(self, id_: str) -> Notification | None:
        """Return a notification by its id; None if it is not known any more."""
        found = self.rows("SELECT body FROM notification WHERE id = ?", id_)
        return msgspec.json.decode(str(found[0][0]), type=Notification) if found else None

    def last_about(self, about: str) -> Notification | None:
        """Return what was taken up last of an incident, or alert, that is not over; None if nothing was, or it is."""
        found = self.rows(
            "SELECT state, body FROM notification WHERE about = ? ORDER BY n DESC LIMIT 1", about
        )
        if not found or found[0][0] == "resolved":
            return None
        return msgspec.json.decode(str(found[0][1]), type=Notification)

    def used(self, id_: str) -> Used | None:
        """Return who used the link of a notification; None: nobody."""
        found = self.rows("SELECT who, time_us FROM used WHERE id = ?", id_)
        return Used(*found[0]) if found else None  # type: ignore[arg-type]

    def use(self, id_: str, who: str, time_us: int, until_us: int) -> None:
        """Note that the link of a notification is used; what is past its time needs no note."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM used WHERE until_us < ?", (time_us,))
            connection.execute(
                "INSERT OR IGNORE INTO used VALUES (?, ?, ?, ?)", (id_, who, time_us, until_us)
            )

    def done(self, before_us: int, count: int) -> list[tuple[int, str]]:
        """Return number and id of the oldest notifications that were taken up before a time, and wait for no route."""
        return self.rows(
            "SELECT n, id FROM notification t WHERE taken_us < ? AND NOT EXISTS"
            " (SELECT 1 FROM delivery d WHERE d.n = t.n AND d.state IN ('waiting', 'sending')) ORDER BY n LIMIT ?",
            before_us, count,
        )  # type: ignore[return-value]  # fmt: skip

    def drop(self, routes: Sequence[str], before_us: int) -> int:
        """Drop what waits for routes that there are no more, and was taken up before a time. Returns how many."""
        with self.transaction() as connection:
            return connection.execute(
                f"DELETE FROM delivery WHERE state != 'sent' AND route NOT IN ({', '.join('?' * len(routes))})"
                " AND n IN (SELECT n FROM notification WHERE taken_us < ?)",
                (*routes, before_us),
            ).rowcount

    def forget(self, numbers: Iterable[int], before_us: int) -> None:
        """Forget notifications that the cloud's table has no more, and of when messages went out before a time."""
        some = [(n,) for n in numbers]
        with self.transaction() as connection:
            connection.executemany("DELETE FROM delivery WHERE n = ?", some)
            connection.executemany("DELETE FROM notification WHERE n = ?", some)
            connection.execute("DELETE FROM letter WHERE formed_us < ? AND id NOT IN (SELECT letter FROM delivery WHERE letter IS NOT NULL)", (before_us,))  # fmt: skip
