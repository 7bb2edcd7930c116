"""What a checkpoint leads to that depends on how its records were cut: alerts, messages and reports, of workers.

A worker may end between its file's commit and Kafka's, and the next one works on the same records in other cuts. Windows come to
the same whatever the cuts are. An alert need not: of half a cohort a device is far off, of the whole it never was, and an alert that
nobody makes again would stay for ever. So effects are part of the shard's state until they are in the file: the checkpoint that they
are of commits them, then they are written, and the shard's next checkpoint lets them go. Who takes a shard over writes those that it
finds: the one before may have ended in between. On the same machine the file knows what it had; another machine's may have been told
of, so its messages are marked as possible repeats (R29).
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import msgspec

from headwater_cloud.alert_changes import Change
from headwater_cloud.outputs import Notification, Report, as_repeat
from headwater_cloud.pieces import PIECE_BYTES, Pieces
from headwater_cloud.pipeline import Output
from headwater_cloud.write import write_effects
from headwater_shared.errors import StartAgain

_NAME = "effects"


class Mark(NamedTuple):
    """Which checkpoint, and the file of the worker that made it."""

    checkpoint: str
    file: str


class Effects(msgspec.Struct, frozen=True):
    """Of one shard and checkpoint, in their order."""

    mark: Mark
    alerts: list[Change] = []
    reports: list[Report] = []
    notifications: list[Notification] = []


def keep(pieces: Pieces, known: Effects | None, mark: Mark, out: Output) -> Effects | None:
    """Take an output's effects into the state. `known`: those that are in it; of another checkpoint they are written by now, and go."""
    now = known if known is not None and known.mark == mark else None
    if out.alerts or out.reports or out.notifications:
        before = now or Effects(mark)
        now = Effects(
            mark,
            [*before.alerts, *out.alerts],
            [*before.reports, *out.reports],
            [*before.notifications, *out.notifications],
        )
    if now is not known:
        _set(pieces, b"" if now is None else msgspec.msgpack.encode(now))
    return now


def load(pieces: Pieces) -> Effects | None:
    """Read those that the state has.

    Raises:
        StartAgain: a newer version wrote them.
    """
    body = b"".join(pieces.get(f"{_NAME}/{n}") or b"" for n in range(_count(pieces)))
    try:
        return msgspec.msgpack.decode(body, type=Effects) if body else None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StartAgain(
            f"what was found last cannot be read: {error}",
            hint="a newer version wrote it: upgrade this worker; others may take its shards",
        ) from error


def write(connection: sqlite3.Connection, some: Effects, file: str, *, again: bool) -> list[Notification]:
    """Write effects into a file, in an open transaction; return the messages that it did not have.

    Args:
        some: committed ones.
        file: the identity of this one.
        again: they may have been written before, here or into the file of another machine. Where this one knows a later change of an alert (by a
            worker of a version that wrote effects at once, and left these in the state) that stays.
    """
    if not again:
        return write_effects(connection, some.alerts, some.reports, some.notifications)
    later = {change.alert.id for change in some.alerts if _number(connection, change) > change.alert.n}
    told = [one for one in some.notifications if one.alert not in later]
    return write_effects(
        connection,
        [
            change._replace(is_latest=change.is_latest and change.alert.id not in later)
            for change in some.alerts
        ],
        some.reports,
        told if some.mark.file == file else map(as_repeat, told),
    )


def _number(connection: sqlite3.Connection, change: Change) -> int:
    row = connection.execute("SELECT n FROM alert WHERE id = ?", (change.alert.id,)).fetchone()
    return -1 if row is None else int(row[0])


def _set(pieces: Pieces, body: bytes) -> None:
    had = _count(pieces)
    parts = [body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
    for n, part in enumerate(parts):
        pieces.set(f"{_NAME}/{n}", part)
    for n in range(len(parts), had):
        pieces.delete(f"{_NAME}/{n}")
    if len(parts) != had:
        pieces.set(_NAME, msgspec.msgpack.encode(len(parts)))


def _count(pieces: Pieces) -> int:
    body = pieces.get(_NAME)
    return msgspec.msgpack.decode(body, type=int) if body else 0
