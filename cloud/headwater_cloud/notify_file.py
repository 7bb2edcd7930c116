"""The courier's own file, `notify.db`: its tables, what a row is, and reading it. `notify_store` writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_cloud.outputs import Notification
from headwater_shared.errors import HeadwaterError, StateError
from headwater_shared.sqlite_file import open_reader

APPLICATION = "headwater-notify"
FILE = "notify.db"
"""In the data folder."""
SCHEMA = (
    """
    CREATE TABLE cursor(one INTEGER PRIMARY KEY CHECK(one = 1), n INTEGER NOT NULL, id TEXT NOT NULL, unknown INTEGER NOT NULL);
    CREATE TABLE notification(
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, about TEXT NOT NULL, state TEXT NOT NULL,
        taken_us INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE INDEX notification_about ON notification(about);
    CREATE TABLE delivery(
        route TEXT NOT NULL, n INTEGER NOT NULL, state TEXT NOT NULL, letter INTEGER, repeat INTEGER NOT NULL, tries INTEGER NOT NULL,
        due_us INTEGER NOT NULL, changed_us INTEGER NOT NULL, why TEXT NOT NULL, PRIMARY KEY(route, n)) WITHOUT ROWID;
    CREATE INDEX delivery_open ON delivery(route, n) WHERE state != 'sent';
    CREATE INDEX delivery_n ON delivery(n);
    CREATE TABLE letter(id INTEGER PRIMARY KEY AUTOINCREMENT, route TEXT NOT NULL, formed_us INTEGER NOT NULL);
    CREATE INDEX letter_route ON letter(route, formed_us);
    CREATE TABLE used(id TEXT PRIMARY KEY, who TEXT NOT NULL, time_us INTEGER NOT NULL, until_us INTEGER NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE posted(
        route TEXT, labels TEXT, alert TEXT NOT NULL, begin_us INTEGER NOT NULL, over_us INTEGER, taken_us INTEGER,
        PRIMARY KEY(route, labels)) WITHOUT ROWID;
    """,
)
"""`cursor`: the last row of the cloud's table that was taken up; of those up to `unknown` it is not known whether they went out: the
table was there before this file. `notification.about`: the incident, or else the alert.
`notification.taken_us`: as the courier's clock showed. `delivery.state`: waiting, sending, sent or refused; `letter`: in which
message it goes, or went; `repeat`: perhaps it went before; `due_us`, `changed_us`, `formed_us`: real time.
`used`: notifications whose link to acknowledge was used, and until when it would be good. `posted`: see `posted`."""

VERSION = len(SCHEMA)

MANY = 2_000
"""Deliveries of one look: what waits beyond them comes after them."""


class Waiting(NamedTuple):
    """A delivery that is still to be made."""

    n: int
    notification: Notification
    taken_us: int
    letter: int | None
    """The message that it went, or may have gone, out in: it goes again as it was."""
    repeat: bool
    tries: int
    due_us: int
    why: str
    over: bool
    """Whether what it tells of is over by what is known now."""
    told_us: int | None
    """When that which this route told last of the same was taken up; None: it told of nothing."""


class Cursor(NamedTuple):
    """The last row of the cloud's table that was taken up, and up to which it is not known whether they went out."""

    n: int
    id: str
    unknown: int


class Used(NamedTuple):
    """Who used a link, and when."""

    who: str
    time_us: int


class Wanted(NamedTuple):
    """A delivery to make: by which route, and not before when (real time)."""

    route: str
    due_us: int


class Taken(NamedTuple):
    """A row of the cloud's table, and by which routes it goes."""

    n: int
    notification: Notification
    wanted: Sequence[Wanted]


_WAITING = """
SELECT d.n, t.body, t.taken_us, d.letter, d.repeat, d.tries, d.due_us, d.why,
    EXISTS(SELECT 1 FROM notification o WHERE o.about = t.about AND o.state = 'resolved' AND o.n >= t.n),
    (SELECT max(o.taken_us) FROM notification o JOIN delivery e ON e.n = o.n AND e.route = d.route
        WHERE o.about = t.about AND o.state != 'resolved' AND o.n < t.n AND e.state = 'sent')
FROM delivery d JOIN notification t ON t.n = d.n
WHERE d.route = $route AND d.state != 'sent' AND d.state = 'waiting' AND d.n > $after AND ($letter IS NULL OR d.letter = $letter)
ORDER BY d.n LIMIT $most
"""


OPEN = """
SELECT d.route, d.n, d.state, d.tries, d.due_us, d.why, t.taken_us, t.body FROM delivery d JOIN notification t ON t.n = d.n
WHERE d.state != 'sent' ORDER BY d.route, d.n
"""
"""All that is not delivered, by route and oldest first."""


def waiting_of(
    connection: sqlite3.Connection, route: str, after: int = -1, letter: int | None = None
) -> list[Waiting]:
    """Read what a route still has to deliver, oldest first; the first of many after a number. Of a `letter`: all that went out in it."""
    most = MANY if letter is None else -1
    rows = connection.execute(
        _WAITING, {"route": route, "after": after, "letter": letter, "most": most}
    ).fetchall()
    return [
        Waiting(
            n, msgspec.json.decode(body, type=Notification), taken_us, letter, bool(repeat), tries, due_us, why, bool(over), told_us,
        )
        for n, body, taken_us, letter, repeat, tries, due_us, why, over, told_us in rows
    ]  # fmt: skip


def taken_up_to(path: Path) -> int:
    """Return which row of the cloud's table was taken up last; 0 if there is no file that says so. By a connection that only reads."""
    try:
        with closing(open_reader(path, application=APPLICATION, version=VERSION)) as reader:
            found = reader.execute("SELECT n FROM cursor").fetchone()
    except (HeadwaterError, sqlite3.Error):
        return 0
    return 0 if found is None else int(found[0])


def about(one: Notification) -> str:
    """What a notification is of: the incident, or else the alert."""
    return one.incident or one.alert


def damaged(path: Path, error: BaseException) -> StateError:
    """What a person should do about a damaged file of the courier."""
    return StateError(
        f"{path} is damaged: {error}",
        hint="move it and its -wal away, and keep them: a new one is made, and what the cloud's file has told within a day goes out once "
        "more, marked as a possible repeat",
    )
