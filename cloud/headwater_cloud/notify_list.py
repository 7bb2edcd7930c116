"""What has not reached people, read from the courier's file by another process: what waits, what failed, why, and when it is tried next."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from headwater_cloud import notify_hours
from headwater_cloud.notify_file import APPLICATION, OPEN, VERSION, Waiting, waiting_of
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_plan import held
from headwater_cloud.notify_route import Moment
from headwater_cloud.notify_settings import Rules
from headwater_cloud.outputs import Notification
from headwater_shared.sqlite_file import open_reader


class Undelivered(msgspec.Struct, frozen=True):
    """One notification that a route has not delivered."""

    route: str
    state: str
    """waiting, sending, refused, or gone: the settings have no such route, and no process that runs has it."""
    id: str
    severity: str
    subject: str
    text: str
    since_us: int
    """When it was taken up."""
    tries: int
    why: str
    """Of the last try; of what waits for the end of quiet hours, that."""
    next_us: int | None
    """When it is tried next; None: when a person says so, or after a start."""


def undelivered(
    path: Path, routes: Sequence[Rules], zones: Zones, now: Moment, running: Collection[str] = ()
) -> list[Undelivered]:
    """Read what is not delivered, by route and oldest first; nothing if there is no file yet.

    Args:
        path: the courier's file.
        routes: those of the settings.
        zones: of sites.
        now: by Headwater's clock.
        running: names of the routes that a process sends by; they are there whatever the settings say.

    Raises:
        StateError, StateNewer, sqlite3.DatabaseError: the file cannot be read.
    """
    if not path.exists():
        return []
    rules = {one.name: one for one in routes}
    with closing(open_reader(path, application=APPLICATION, version=VERSION)) as reader:
        waiting = {
            (name, one.n): one for name, of in rules.items() if of.quiet for one in waiting_of(reader, name)
        }
        return [
            _of(
                row,
                rules.get(row[0]),
                zones,
                now,
                waiting.get((row[0], row[1])),
                gone=row[0] not in {*rules, *running},
            )
            for row in reader.execute(OPEN).fetchall()
        ]


def counts(path: Path) -> dict[str, tuple[int, int]]:
    """Return, by route, how many wait and how many were refused; nothing if that cannot be read."""
    try:
        with closing(open_reader(path, application=APPLICATION, version=VERSION)) as reader:
            found = reader.execute(
                "SELECT route, sum(state != 'refused'), sum(state = 'refused') FROM delivery WHERE state != 'sent' GROUP BY route"
            ).fetchall()
    except (sqlite3.Error, OSError):
        return {}
    return {route: (waiting, refused) for route, waiting, refused in found}


def _of(
    row: Any, rules: Rules | None, zones: Zones, now: Moment, waiting: Waiting | None, *, gone: bool
) -> Undelivered:
    route, _, state, tries, due_us, why, taken_us, body = row
    one = msgspec.json.decode(body, type=Notification)
    next_us: int | None = due_us
    if gone:
        state, next_us = "gone", None
    elif state == "refused":
        next_us = None
    elif rules and state == "waiting" and waiting is not None and held(rules, waiting, now.shown_us, zones):
        next_us = notify_hours.until(rules.quiet, now.shown_us, rules.zone_of(one, zones))
        why = why or "quiet hours"
    return Undelivered(
        route, state, one.id, one.severity, one.subject, one.text, taken_us, tries, why, next_us
    )
