"""Rows of the cloud's file by the keys that changed: windows as columns, with those that are none any more, and what was found."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud import alert_history, changes
from headwater_cloud.changes import Keys
from headwater_cloud.columns import WINDOW_COLUMNS, window_rows
from headwater_cloud.halves import made_of
from headwater_cloud.influx_found import alert_line, anomaly_line, command_line, device_line, event_line
from headwater_cloud.merge import Windows
from headwater_cloud.views import AlertEventView, AnomalyView, CommandView, DeviceChangeView
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import Sketches
from headwater_shared.records import RegistryChange

_NEVER = -(2**63)
_FOUND = 10
"""As many windows a thing that was found takes as long as."""


Broken = Callable[[tuple[Any, ...], Exception], None]
"""Is told the key of a row of which nothing can be made, and why."""


class Wanted(NamedTuple):
    """Keys: of windows, in any number of pieces, and of what was found, by kind."""

    windows: list[Keys]
    found: dict[str, dict[Any, None]]

    @property
    def size(self) -> int:
        """How many keys of windows it is as much work as."""
        return sum(len(keys.level) for keys in self.windows) + _FOUND * sum(map(len, self.found.values()))

    def join(self, other: Wanted) -> None:
        """Want what another one wants, too."""
        self.windows.extend(other.windows)
        for kind, keys in other.found.items():
            self.found.setdefault(kind, {}).update(keys)


def noted(kind: str, body: bytes) -> Wanted:
    """Return what a row of changes names."""
    if kind == "window":
        return Wanted([changes.unpack(body)], {})
    return Wanted([], {kind: dict.fromkeys(map(frozen, changes.keys_of(body)))})


def frozen(key: Any) -> tuple[Any, ...]:
    """Make a key of what was noted: a word, or several."""
    return tuple(key) if isinstance(key, list) else (key,)


def add(db: sqlite3.Connection, wanted: Wanted, key: Sequence[Any]) -> None:
    """Want the row of a dead letter's key, too: kind and key, of a window with its names."""
    kind, *words = key
    if kind != "window":
        wanted.found.setdefault(kind, {})[tuple(words)] = None
        return
    level, series, start = words
    query = "SELECT l.id, s.id FROM level l, series s WHERE l.name = ? AND s.name = ?"
    for numbers in db.execute(query, (level, series)):
        wanted.windows.append(Keys(*np.array([[numbers[0]], [start], [numbers[1]]], np.int64)))


def add_events(db: sqlite3.Connection, wanted: Wanted) -> None:
    """Want the events of alerts that changed, too: they bear an alert's tags, so that one noted before its alert was there has no point yet."""
    events = wanted.found.setdefault("alert_event", {})
    for alert, *_ in wanted.found.get("alert", {}):
        events.update(dict.fromkeys(db.execute("SELECT alert, n FROM alert_event WHERE alert = ?", (alert,))))


def prepare(reader: sqlite3.Connection) -> None:
    """Give a connection that only reads a table of its own for keys."""
    reader.execute("PRAGMA temp_store=MEMORY")
    reader.execute(
        "CREATE TEMP TABLE wanted(level INTEGER, start INTEGER, series INTEGER, PRIMARY KEY(level, start, series)) WITHOUT ROWID"
    )


_COLUMNS = ", ".join("ifnull(w.shard, -1)" if name == "shard" else f"w.{name}" for name in WINDOW_COLUMNS[3:])
_WANTED = (
    f"SELECT k.level, k.start, k.series, {_COLUMNS} FROM wanted k LEFT JOIN window w"
    " ON w.level = k.level AND w.start = k.start AND w.series = k.series ORDER BY k.level, k.start, k.series"
)


def windows_of(db: sqlite3.Connection, pieces: list[Keys], broken: Broken) -> Windows:
    """Read windows, each once, by level; one that is none any more has count 0, unless retention took it.

    Args:
        broken: is told level, start and series of one that cannot be read, which is left out.
    """
    if not pieces:
        return Windows.empty()
    db.execute("DELETE FROM wanted")
    for keys in pieces:
        rows = zip(keys.level.tolist(), keys.start.tolist(), keys.series.tolist(), strict=True)
        db.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", rows)
    found, gone = [], []
    kept_from = dict(db.execute("SELECT id, kept_from FROM level WHERE kept_from IS NOT NULL"))
    for row in db.execute(_WANTED):
        if row[3] is not None:
            found.append(row)
        elif row[1] >= kept_from.get(row[0], _NEVER):
            gone.append(row[:3])
    windows = made_of(found, window_rows, lambda row, error: broken(row[:3], error))
    if gone:
        windows.append(_none(np.array(gone, np.int64)))
    if not windows:
        return Windows.empty()
    both = Windows.concatenate(windows)
    return both if not gone else both.take(np.argsort(both.level, kind="stable"))


def _none(keys: NDArray[np.int64]) -> Windows:
    """Windows of count 0 by their keys; shape (n, 3)."""
    zero = np.zeros(len(keys), np.int64)
    level, start, series = keys.T
    return Windows(
        level,
        start,
        series,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        Aggregates.empty(len(keys)),
        Sketches.empty(len(keys)),
    )


class FoundLine(NamedTuple):
    """A line of what was found, and its key."""

    kind: str
    key: tuple[Any, ...]
    line: bytes


def found_of(
    db: sqlite3.Connection, found: Mapping[str, Mapping[Any, None]], broken: Broken
) -> Iterator[FoundLine]:
    """Read what was found, and devices' changes, as lines; what is not there any more is none.

    What the registry says of a device comes with the latest change of that one's status. `broken` is told kind and key of what cannot be
    read.
    """
    since = "SELECT device, since_us FROM device WHERE device = ?"
    of_registry = [row for (device,) in found.get("registry", {}) for row in db.execute(since, (device,))]
    for kind in _LINES:
        keys = dict(found.get(kind, {}))
        if kind == "device":
            keys |= dict.fromkeys(of_registry)
        for key in keys:
            if line := _line(db, kind, key, broken):
                yield FoundLine(kind, key, line)


def _line(db: sqlite3.Connection, kind: str, key: tuple[Any, ...], broken: Broken) -> bytes:
    made = made_of(
        [key], lambda keys: _LINES[kind](db, *keys[0]), lambda _, error: broken((kind, *key), error)
    )
    return made[0] if made else b""


_ANOMALY = ", ".join(f'"{name}"' for name in AnomalyView.__struct_fields__)
_OTHERWISE = {"let_out_us": "0", "changed_us": "time_us"}
_COMMAND = ", ".join(_OTHERWISE.get(name, name) for name in CommandView.__struct_fields__)
_EVENT = ", ".join(f'"{name}"' for name in AlertEventView.__struct_fields__)


def _anomaly(db: sqlite3.Connection, key: str) -> bytes:
    query = f"SELECT {_ANOMALY} FROM anomaly WHERE id = ? ORDER BY phase, time_us, agent, seq"
    some = [AnomalyView(*row) for row in db.execute(query, (key,))]
    if not some:
        return b""
    end = some[-1] if some[-1].phase == "end" else None
    return anomaly_line(some[0], end)


def _alert(db: sqlite3.Connection, key: str) -> bytes:
    alert = alert_history.by_id(db, key)
    return b"" if alert is None else alert_line(alert)


def _event(db: sqlite3.Connection, alert_id: str, n: int) -> bytes:
    alert = alert_history.by_id(db, alert_id)
    row = db.execute(
        f"SELECT {_EVENT}, value FROM alert_event WHERE alert = ? AND n = ?", (alert_id, n)
    ).fetchone()
    return b"" if alert is None or row is None else event_line(alert, AlertEventView(*row[:-1]), row[-1])


def _device(db: sqlite3.Connection, device: str, time_us: int) -> bytes:
    """Of several changes of one moment the last."""
    row = db.execute(
        'SELECT device, time_us, status, "before", reason, heard_us, agent FROM device_change WHERE device = ? AND time_us = ?'
        " ORDER BY tick DESC, seq DESC, agent DESC LIMIT 1",
        (device, time_us),
    ).fetchone()
    return b"" if row is None else device_line(DeviceChangeView(*row), _entry(db, device))


def _entry(db: sqlite3.Connection, device: str) -> RegistryChange | None:
    row = db.execute(
        "SELECT device, time_us, removed, model, place, owner, cohort, metrics, runbook FROM registry WHERE device = ?",
        (device,),
    ).fetchone()
    if row is None:
        return None
    _, time_us, removed, model, place, owner, cohort, metrics, runbook = row
    known = msgspec.json.decode(metrics, type=dict[str, str])
    return RegistryChange(device, time_us, bool(removed), model, place, owner, cohort, known, runbook)


def _command(db: sqlite3.Connection, command_id: str, status: str) -> bytes:
    """Of a word that came several times the first."""
    row = db.execute(
        f"SELECT {_COMMAND} FROM command WHERE id = ? AND status = ? ORDER BY time_us, agent, seq LIMIT 1",
        (command_id, status),
    ).fetchone()
    return b"" if row is None else command_line(CommandView(*row))


_LINES: dict[str, Callable[..., bytes]] = {
    "anomaly": _anomaly,
    "alert": _alert,
    "alert_event": _event,
    "device": _device,
    "command": _command,
}
