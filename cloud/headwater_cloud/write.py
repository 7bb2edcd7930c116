"""An output becomes rows of the consumer's file, inside its one commit (R27, R28)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from headwater_cloud import bulk, changes, second_state
from headwater_cloud.alert_changes import Change
from headwater_cloud.columns import (
    PART_COLUMNS,
    REALS,
    WINDOW_COLUMNS,
    packed_words,
    to_rows,
    words_of,
)
from headwater_cloud.completeness import Progress
from headwater_cloud.merge import Merged, Windows
from headwater_cloud.names import Names
from headwater_cloud.outputs import Notification, Report, Waiting
from headwater_cloud.pipeline import Output
from headwater_cloud.store import opener_row
from headwater_cloud.told import write_told
from headwater_shared.alert_records import Alert
from headwater_shared.bus import Record
from headwater_shared.parts import COARSENED
from headwater_shared.peers import Finding
from headwater_shared.records import Anomaly, Command, Device, RegistryChange
from headwater_shared.registry import rank

_FINDING = Finding.__struct_fields__
"""The columns of its table, too."""

_MANY = 200
"""Windows: of fewer, an image of them costs more than it saves."""


def write(
    connection: sqlite3.Connection, out: Output, names: Names, offsets: Mapping[int, int], producer: str
) -> list[Waiting]:
    """Write all that a batch changed; the caller commits. Returns the outputs for the bus, under the producer's name."""
    _names(connection, names)
    if out.merged is not None:
        _merged(connection, out.merged, *out.stored)
    write_found(connection, out)
    out.notifications = write_effects(connection, out.alerts, out.reports, out.notifications)
    _state(connection, out.pieces, offsets)
    _second_state(connection, out.second)
    return write_outputs(connection, out.records, producer)


def write_found(connection: sqlite3.Connection, out: Output) -> None:
    """Write what is beside windows, effects and state, and the same however records were cut; the same again changes nothing."""
    _anomalies(connection, out.anomalies)
    _findings(connection, out.findings)
    _commands(connection, out.commands)
    _devices(connection, out.devices)
    _registry(connection, out.registry)
    _progress(connection, out.progress)
    write_told(connection, out.statuses)


def write_effects(
    connection: sqlite3.Connection,
    alerts: Iterable[Change],
    reports: Iterable[Report],
    notifications: Iterable[Notification],
) -> list[Notification]:
    """Write what depends on how records were cut; return the messages that the table did not have."""
    write_alerts(connection, alerts)
    _reports(connection, reports)
    return write_notifications(connection, notifications)


def _names(connection: sqlite3.Connection, names: Names) -> None:
    series, levels, openers = names.unwritten()
    if series:
        connection.executemany("INSERT INTO series VALUES (?, ?)", series)
    if levels:
        connection.executemany("INSERT INTO level(id, name) VALUES (?, ?)", levels)
    if openers:
        connection.executemany("INSERT INTO opener VALUES (?, ?, ?)", [opener_row(*row) for row in openers])


def write_windows(connection: sqlite3.Connection, windows: Windows) -> None:
    """Write windows whole, and note which; one of count 0 is none (R7)."""
    changes.note_windows(connection, windows)
    empty = windows.aggregates.count == 0
    if empty.any():
        keys = [column[empty].tolist() for column in (windows.level, windows.start, windows.series)]
        connection.executemany(
            "DELETE FROM window WHERE level = ? AND start = ? AND series = ?", zip(*keys, strict=True)
        )
        windows = windows.take(~empty)
    if len(windows) >= _MANY and bulk.CAN:
        wide = np.diff(windows.sketches.end, prepend=0) > bulk.WIDEST
        some = windows.take(~wide) if wide.any() else windows
        sketches = packed_words(some.sketches)
        bulk.insert(connection, "window", WINDOW_COLUMNS, "sketch", REALS, words_of(some), *sketches)
        windows = windows.take(wide)
    connection.executemany(_insert("window", WINDOW_COLUMNS), to_rows(WINDOW_COLUMNS, windows))


def _merged(connection: sqlite3.Connection, merged: Merged, inside: int, stored: int) -> None:
    """Windows whole; parts beside them only where a window has several, or none that counts."""
    write_windows(connection, merged.windows)
    apart = (merged.windows.parts > 1) | (merged.windows.aggregates.count == 0)
    if apart.any():
        new = (merged.source < inside) | (merged.source >= stored)
        new |= merged.parts.flags & COARSENED > 0  # perhaps by a revision that is not the latest
        parts = merged.parts.take(np.flatnonzero(apart[merged.window] & new))
        connection.executemany(_insert("part", PART_COLUMNS), to_rows(PART_COLUMNS, parts))


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(columns))})"


def _anomalies(connection: sqlite3.Connection, anomalies: Sequence[Anomaly]) -> None:
    connection.executemany(
        f"INSERT OR REPLACE INTO anomaly VALUES ({', '.join('?' * 18)})",
        [
            (
                a.id, a.phase, a.agent, f"{a.epoch:016x}", a.shard, a.seq, a.tick, a.rule, a.series, a.begin_us,
                a.time_us, a.value, a.limit, a.severity, a.text,
                msgspec.json.encode([a.sample_times, a.sample_values]).decode(),
                msgspec.json.encode([(score.detector, score.rarity) for score in a.scores]).decode(), a.degree,
            )
            for a in anomalies
        ],
    )  # fmt: skip
    oldest_us = min((a.time_us for a in anomalies), default=None)
    changes.note(connection, "anomaly", {a.id for a in anomalies}, oldest_us)


def _findings(connection: sqlite3.Connection, findings: Iterable[Finding]) -> None:
    """Of each the latest word, whatever came first."""
    connection.executemany(
        f"""
        INSERT INTO finding VALUES ({", ".join("?" * len(_FINDING))})
        ON CONFLICT(id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _FINDING[1:])}
        WHERE excluded.made_us >= made_us
        """,
        map(msgspec.structs.astuple, findings),
    )


def _commands(connection: sqlite3.Connection, commands: Sequence[Command]) -> None:
    connection.executemany(
        f"INSERT OR REPLACE INTO command VALUES ({', '.join('?' * 20)})",
        [
            (
                c.id, c.status, c.agent, f"{c.epoch:016x}", c.shard, c.seq, c.tick, c.reason, c.act, c.rule, c.anomaly,
                c.series, c.device, c.topic, c.name, c.arguments, c.undoes, c.begin_us, c.time_us, c.ttl_us,
            )
            for c in commands
        ],
    )  # fmt: skip
    changes.note(connection, "command", {(c.id, c.status) for c in commands})


def _devices(connection: sqlite3.Connection, devices: Sequence[Device]) -> None:
    """Each change, and of each device the latest: by time, then as its agent numbered them, whatever came first."""
    rows = [
        (d.device, d.time_us, d.agent, f"{d.epoch:016x}", d.shard, d.seq, d.tick, d.id, d.status, d.before, d.reason, d.heard_us)
        for d in devices
    ]  # fmt: skip
    connection.executemany(_insert("device_change", [""] * 12), rows)
    connection.executemany(
        """
        INSERT INTO device VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT(device) DO UPDATE SET status = excluded.status, reason = excluded.reason, since_us = excluded.since_us,
            heard_us = excluded.heard_us, agent = excluded.agent, tick = excluded.tick, seq = excluded.seq
        WHERE (excluded.since_us, excluded.tick, excluded.seq, excluded.agent) >= (since_us, tick, seq, agent)
        """,
        [(d.device, d.status, d.reason, d.time_us, d.heard_us, d.agent, d.tick, d.seq) for d in devices],
    )
    changes.note(connection, "device", {(d.device, d.time_us) for d in devices})


def _registry(connection: sqlite3.Connection, known: Sequence[RegistryChange]) -> None:
    """Of each device the latest change by `registry.rank`, which is the order of the columns, whatever came first."""
    connection.executemany(
        """
        INSERT INTO registry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT(device) DO UPDATE SET time_us = excluded.time_us, removed = excluded.removed, model = excluded.model,
            place = excluded.place, owner = excluded.owner, cohort = excluded.cohort, metrics = excluded.metrics,
            runbook = excluded.runbook
        WHERE (excluded.time_us, excluded.removed, excluded.model, excluded.place, excluded.owner, excluded.cohort, excluded.metrics,
               excluded.runbook) > (time_us, removed, model, place, owner, cohort, metrics, runbook)
        """,
        [(change.device, *rank(change)) for change in known],
    )
    changes.note(connection, "registry", {change.device for change in known})


_ALERT = Alert.__struct_fields__
_EVENT = ("n", "what", "state", "severity", "text", "value", "time_us", "muted", "who", "why", "changed_us")


def write_alerts(connection: sqlite3.Connection, found: Iterable[Change]) -> None:
    """Write how alerts stand, and each change; they are read models: the topics hold the same."""
    latest, events = {}, []
    for alert, is_event, is_latest in found:
        if is_latest:
            latest[alert.id] = alert
        if is_event:
            events.append((alert.id, *(getattr(alert, name) for name in _EVENT)))
    connection.executemany(_insert("alert", _ALERT), [_alert_row(alert) for alert in latest.values()])
    connection.executemany(
        f"INSERT OR IGNORE INTO alert_event VALUES ({', '.join('?' * (len(_EVENT) + 1))})", events
    )
    begun_us = min((alert.episode_us for alert in latest.values()), default=None)
    changes.note(connection, "alert", latest, begun_us)
    changed_us = min((event[-1] for event in events), default=None)
    changes.note(connection, "alert_event", [event[:2] for event in events], changed_us)


def _alert_row(alert: Alert) -> list[object]:
    values = (getattr(alert, name) for name in _ALERT)
    return [msgspec.json.encode(one).decode() if isinstance(one, list) else one for one in values]


def _progress(connection: sqlite3.Connection, progress: Mapping[tuple[int, str], Progress]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (shard, agent, f"{p.epoch:016x}", p.complete_us, p.heard_us, p.silent, len(p.waiting))
            for (shard, agent), p in progress.items()
        ],
    )


def _reports(connection: sqlite3.Connection, reports: Iterable[Report]) -> None:
    connection.executemany(
        "INSERT INTO report(time_us, kind, shard, agent, epoch, text) SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS"
        " (SELECT 1 FROM report WHERE (kind, shard, agent, epoch, text) = (?2, ?3, ?4, ?5, ?6))",
        [(r.time_us, r.kind, r.shard, r.agent, f"{r.epoch:016x}", r.text) for r in reports],
    )


def _state(
    connection: sqlite3.Connection, pieces: Mapping[int, Mapping[str, bytes]], offsets: Mapping[int, int]
) -> None:
    rows = [(shard, name, body) for shard, some in pieces.items() for name, body in some.items()]
    connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", rows)
    write_offsets(connection, offsets)


def _second_state(connection: sqlite3.Connection, second: Mapping[int, Mapping[str, bytes | None]]) -> None:
    rows = [
        (second_state.number_of(p), name, body) for p, some in second.items() for name, body in some.items()
    ]
    kept, gone = [row for row in rows if row[2] is not None], [row[:2] for row in rows if row[2] is None]
    connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", kept)
    connection.executemany("DELETE FROM state WHERE shard = ? AND name = ?", gone)


def write_offsets(connection: sqlite3.Connection, offsets: Mapping[int, int]) -> None:
    """Write how far partitions of the input are read."""
    connection.executemany('INSERT OR REPLACE INTO "offset" VALUES (?, ?)', offsets.items())


def write_second(connection: sqlite3.Connection, offsets: Mapping[str, Mapping[int, int]]) -> None:
    """Write how far partitions of second stages' topics are read, by topic."""
    rows = [(topic, partition, at) for topic, some in offsets.items() for partition, at in some.items()]
    connection.executemany("INSERT OR REPLACE INTO second VALUES (?, ?, ?)", rows)


def write_notifications(
    connection: sqlite3.Connection, notifications: Iterable[Notification]
) -> list[Notification]:
    """Write those that the table does not have: each id once ever, whatever is worked on again. Returns these."""
    return [
        n
        for n in notifications
        if connection.execute(
            "INSERT INTO notification(id, time_us, body) VALUES (?, ?, ?) ON CONFLICT(id) DO NOTHING",
            (n.id, n.known_us or n.time_us, msgspec.json.encode(n).decode()),
        ).rowcount
    ]


def write_outputs(connection: sqlite3.Connection, records: Sequence[Record], producer: str) -> list[Waiting]:
    """Write records for the bus; return them with their ids."""
    if not records:
        return []
    connection.executemany(
        "INSERT INTO output(producer, topic, partition, key, headers, body) VALUES (?, ?, ?, ?, ?, ?)",
        [(producer, r.topic, r.partition, r.key, msgspec.msgpack.encode(r.headers), r.body) for r in records],
    )
    (last,) = connection.execute("SELECT max(id) FROM output").fetchone()
    return [Waiting(producer, number, r) for number, r in enumerate(records, last - len(records) + 1)]
