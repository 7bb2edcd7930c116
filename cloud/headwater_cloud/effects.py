"""What a checkpoint leads to that depends on how its records were cut: alerts, messages and reports, in the workers' file.

A worker may end between the file's commit and Kafka's, and the next one works on the same records in other cuts. Windows come to
the same whatever the cuts are. An alert need not: of half a cohort a device is far off, of the whole it never was, and an alert that
nobody made again would stay for ever. So effects wait in the file, under a mark that the same checkpoint puts into the shard's state in
Kafka. Once that is committed they take effect; whoever reads the state with the mark lets them, if the one before it could not. What
waits under another mark is of a checkpoint that was never committed: its records are worked on again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from headwater_cloud.alert_changes import Change
from headwater_cloud.outputs import Notification, Report
from headwater_cloud.pipeline import Output
from headwater_cloud.write import write_effects


class Effects(NamedTuple):
    """Of one shard, in their order."""

    alerts: list[Change]
    reports: list[Report]
    notifications: list[Notification]


def any_of(out: Output) -> bool:
    """Tell whether an output has effects."""
    return bool(out.alerts or out.reports or out.notifications)


def wait(connection: sqlite3.Connection, shard: int, mark: str, outs: Iterable[Output]) -> None:
    """Write the effects of some outputs of a shard under a mark, in an open transaction."""
    found = Effects([], [], [])
    for out in outs:
        found.alerts.extend(out.alerts)
        found.reports.extend(out.reports)
        found.notifications.extend(out.notifications)
    body = msgspec.msgpack.encode(found)
    connection.execute("INSERT INTO effect(shard, mark, body) VALUES (?, ?, ?)", (shard, mark, body))


def waits(connection: sqlite3.Connection, shard: int, mark: str) -> bool:
    """Tell whether anything waits under a mark."""
    query = "SELECT 1 FROM effect WHERE shard = ? AND mark = ?"
    return connection.execute(query, (shard, mark)).fetchone() is not None


def take(connection: sqlite3.Connection, shard: int, mark: str) -> list[Notification]:
    """Let what waits under a mark take effect, in an open transaction; return the messages that are new.

    What waits longer goes: it is of checkpoints that were not committed.
    """
    query = "SELECT n, body FROM effect WHERE shard = ? AND mark = ?"
    row = connection.execute(query, (shard, mark)).fetchone()
    if row is None:
        return []  # whoever had the shard before did it
    connection.execute("DELETE FROM effect WHERE shard = ? AND n <= ?", (shard, row[0]))
    return write_effects(connection, *msgspec.msgpack.decode(row[1], type=Effects))
