"""The reading side of the cloud's file, for other processes: windows as columns, series, alerts, anomalies, reports."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud import alert_history
from headwater_cloud.columns import REALS, aggregates_of, unpack_sketches
from headwater_cloud.merge import OF_ROLLUP
from headwater_cloud.quantiles import quantiles
from headwater_cloud.retention import length_us
from headwater_cloud.store import APPLICATION, VERSION
from headwater_cloud.views import (
    AlertView,
    AnomalyView,
    CommandView,
    DeviceChangeView,
    DeviceView,
    ProgressView,
    ReportView,
)
from headwater_shared.aggregates import COLUMNS, Aggregates
from headwater_shared.identity import ALL, is_rollup, shard_of
from headwater_shared.parts import COARSENED, is_within, level_of
from headwater_shared.records import RegistryChange
from headwater_shared.sqlite_file import open_reader

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EARLIEST, LATEST = -(2**63), 2**63 - 1
"""No bound, in microseconds."""

_CHUNK = 50_000


@dataclass(slots=True)
class SeriesWindows:
    """The windows of one series at one level, oldest first; shape (n,) each."""

    series: str
    level: str
    start: Ints
    """Microseconds."""
    aggregates: Aggregates
    p50: Floats
    p95: Floats
    p99: Floats
    parts: Ints
    revision: Ints
    """Of the newest part."""

    def __len__(self) -> int:
        return len(self.start)


@dataclass(slots=True)
class LevelWindows:
    """All windows of one level, by start and then in no particular order; shape (n,) each."""

    names: list[str]
    """Of all series of the file."""
    series: Ints
    """Index of `names`."""
    start: Ints
    """Microseconds."""
    aggregates: Aggregates
    flags: Ints

    def __len__(self) -> int:
        return len(self.start)


def matches(series: str, pattern: str) -> bool:
    """Tell whether a series matches; `*` and `?` stand for any text, `/` included. A rollup only matches a pattern with a `+`."""
    return fnmatchcase(series, pattern) and (ALL in pattern or not is_rollup(series))


class History:
    """A read-only connection. Each method sees one commit's state; not for several threads."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            StateError: it is not there or not the cloud side's; StateNewer: a newer version wrote it.
        """
        self._connection = open_reader(path, application=APPLICATION, version=VERSION)

    @property
    def connection(self) -> sqlite3.Connection:
        """For questions of other modules; it can only read."""
        return self._connection

    def close(self) -> None:
        self._connection.close()

    def levels(self) -> list[str]:
        """Return the levels that windows were ever written at, finest first, sessions last."""
        names = [name for (name,) in self._rows("SELECT name FROM level")]
        return sorted(names, key=lambda name: (length_us(name) or LATEST, name))

    def series(self, pattern: str = "*") -> list[str]:
        """Return the series that match, sorted (see `matches`)."""
        names = (name for (name,) in self._rows("SELECT name FROM series"))
        return sorted(name for name in names if matches(name, pattern))

    def windows(
        self, series: str, level: str, from_us: int = EARLIEST, to_us: int = LATEST, last: int | None = None
    ) -> SeriesWindows:
        """Return the windows of a series that start in [from_us, to_us), or the `last` of them.

        Those of a time in which the level is not kept, for the agent let its windows go, are left out: they hold late readings
        only, and a coarser window holds all (R22).
        """
        # Windows lie by start: the starts of the level are stepped over, newest first, with one look for each.
        rows = self._rows(
            f"""
            WITH RECURSIVE at(start) AS (
                SELECT max(start) FROM window WHERE level = :level AND start >= :from AND start < :to
                UNION ALL
                SELECT (SELECT max(start) FROM window WHERE level = :level AND start >= :from AND start < at.start)
                FROM at WHERE at.start IS NOT NULL)
            SELECT w.start, parts, revision, {", ".join(COLUMNS)}, sketch FROM at
            CROSS JOIN window w ON w.level = :level AND w.start = at.start AND w.series = :series
            {self.kept_only(level)} LIMIT :last
            """,
            {
                "level": self._number("level", level),
                "series": self._number("series", series),
                "from": from_us,
                "to": to_us,
                "last": -1 if last is None else last,
            },
        )
        rows.reverse()
        names = ("start", "parts", "revision", *COLUMNS, "sketch")
        columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
        aggregates = aggregates_of(columns)
        sketches = unpack_sketches(columns["sketch"])
        p50, p95, p99 = (
            # The middle of the outermost bucket may lie beyond what was seen.
            np.clip(quantiles(sketches, q), aggregates.min, aggregates.max)
            for q in (0.5, 0.95, 0.99)
        )
        start, parts, revision = (np.array(columns[name], np.int64) for name in names[:3])
        return SeriesWindows(series, level, start, aggregates, p50, p95, p99, parts, revision)

    def kept_only(self, level: str) -> str:
        """Return SQL that leaves out windows within coarser ones that are marked."""
        fine = level_of(level)
        coarser = [
            (number, length)
            for number, name in self._rows("SELECT id, name FROM level")
            if is_within(fine, level_of(name)) and (length := level_of(name).length_us)
        ]
        return " ".join(
            f"AND NOT EXISTS (SELECT 1 FROM window c WHERE c.level = {number} AND c.series = w.series AND c.flags & {COARSENED}"
            f" AND c.start = w.start - ((w.start % {length}) + {length}) % {length})"
            for number, length in coarser
        )

    def level(self, level: str, from_us: int = EARLIEST, to_us: int = LATEST) -> LevelWindows:
        """Return all windows of a level that start in [from_us, to_us), of all devices' series, without sketches."""
        return self._level(level, from_us, to_us, f"shard IS NOT {OF_ROLLUP}")

    def rollups(self, level: str, from_us: int = EARLIEST, to_us: int = LATEST) -> LevelWindows:
        """Return, likewise, all rollups of a level."""
        return self._level(level, from_us, to_us, f"shard = {OF_ROLLUP}")

    def _level(self, level: str, from_us: int, to_us: int, of: str) -> LevelWindows:
        names = ("series", "start", "flags", *COLUMNS)
        dtype = np.dtype([(name, np.float64 if name in REALS else np.int64) for name in names])
        pieces = [np.zeros(0, dtype)]
        with self._one_state():
            cursor = self._connection.execute(
                f"SELECT {', '.join(names)} FROM window WHERE level = ? AND start >= ? AND start < ? AND {of}",
                (self._number("level", level), from_us, to_us),
            )
            while rows := cursor.fetchmany(_CHUNK):
                pieces.append(_structured(rows, dtype))
            series = [name for (name,) in self._rows("SELECT name FROM series ORDER BY id")]
        whole = np.concatenate(pieces)
        columns: dict[str, Any] = {name: np.ascontiguousarray(whole[name]) for name in names}
        columns["digest"] = columns["digest"].view(np.uint64)
        aggregates = Aggregates(**{name: columns[name] for name in COLUMNS})
        return LevelWindows(series, columns["series"], columns["start"], aggregates, columns["flags"])

    def count_windows(self) -> int:
        """Return how many windows of devices' series there are, of all levels."""
        return int(self._rows(f"SELECT count(*) FROM window WHERE shard IS NOT {OF_ROLLUP}")[0][0])

    def alerts(self, *, firing_only: bool = False, last: int | None = None) -> list[AlertView]:
        """Return alerts that fired, the newest episode first; see `alert_history` for more of them."""
        states = ("firing", "acknowledged") if firing_only else ("firing", "acknowledged", "resolved")
        return alert_history.alerts(self._connection, states, last=last)

    def anomalies(self, series: str = "*", last: int | None = None) -> list[AnomalyView]:
        """Return anomalies of the series that match, the newest first."""
        rows = self._rows(
            'SELECT id, phase, agent, rule, series, begin_us, time_us, value, "limit", severity, text, samples, scores, degree'
            " FROM anomaly ORDER BY time_us DESC, id, phase",
        )
        found = [AnomalyView(*row) for row in rows if fnmatchcase(row[4], series)]
        return found[:last]

    def commands(self, device: str = "*", last: int | None = None) -> list[CommandView]:
        """Return the commands to the devices (site/device) that match, the newest first."""
        rows = self._rows(
            f"SELECT {_COMMAND} FROM command ORDER BY time_us DESC, id",
        )
        by_id: dict[str, list[tuple[Any, ...]]] = {}
        for row in rows:
            if fnmatchcase(row[3], device):
                by_id.setdefault(row[0], []).append(row)
        return [_command(found) for found in list(by_id.values())[:last]]

    def command(self, command_id: str) -> CommandView | None:
        """Return how one command stands; None: nothing was said of it."""
        rows = self._rows(f"SELECT {_COMMAND} FROM command WHERE id = ? ORDER BY time_us DESC", (command_id,))
        return _command(rows) if rows else None

    def agents_of(self, device: str) -> list[str]:
        """Return which agent serves a device (site/device); or which ones may, where it never said its status: those of its shard."""
        known = self._rows("SELECT agent FROM device WHERE device = ?", (device,))
        if not known:
            shard = shard_of(device.partition("/")[0])
            known = self._rows("SELECT agent FROM progress WHERE shard = ? ORDER BY agent", (shard,))
        return [agent for (agent,) in known]

    def devices(self, pattern: str = "*") -> list[DeviceView]:
        """Return the latest status of the devices that match, by name."""
        rows = self._rows(
            "SELECT device, status, reason, since_us, heard_us, agent FROM device ORDER BY device"
        )
        return [DeviceView(*row) for row in rows if fnmatchcase(row[0], pattern)]

    def device_changes(self, pattern: str = "*", last: int | None = None) -> list[DeviceChangeView]:
        """Return changes of status of the devices that match, the newest first."""
        rows = self._rows(
            'SELECT device, time_us, status, "before", reason, heard_us, agent FROM device_change'
            " ORDER BY time_us DESC, tick DESC, seq DESC"
        )
        return [DeviceChangeView(*row) for row in rows if fnmatchcase(row[0], pattern)][:last]

    def registry(self) -> dict[str, RegistryChange]:
        """Return what was said last of each device, also of those that are removed."""
        rows = self._rows("SELECT * FROM registry ORDER BY device")
        return {
            device: RegistryChange(
                device,
                time_us,
                bool(removed),
                model,
                place,
                owner,
                cohort,
                msgspec.json.decode(metrics),
                runbook,
            )
            for device, time_us, removed, model, place, owner, cohort, metrics, runbook in rows
        }

    def reports(self, last: int | None = None) -> list[ReportView]:
        """Return reports about agents' streams, the newest first."""
        rows = self._rows(
            "SELECT time_us, kind, shard, agent, epoch, text FROM report ORDER BY id DESC LIMIT ?",
            (-1 if last is None else last,),
        )
        return [ReportView(*row) for row in rows]

    def progress(self) -> list[ProgressView]:
        """Return how complete each agent's windows are in each shard."""
        rows = self._rows(
            "SELECT shard, agent, epoch, complete_us, heard_us, silent, waiting FROM progress ORDER BY shard, agent"
        )
        names = ProgressView.__struct_fields__
        return [
            msgspec.convert(dict(zip(names, row, strict=True)), ProgressView, strict=False) for row in rows
        ]

    def _number(self, table: str, name: str) -> int:
        row = self._connection.execute(f"SELECT id FROM {table} WHERE name = ?", (name,)).fetchone()
        return -1 if row is None else int(row[0])

    def _rows(self, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _one_state(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")


def _structured(rows: list[tuple[Any, ...]], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        return np.array(rows, dtype)
    except TypeError:  # SQLite keeps NaN, the mean of values beyond the range of floats, as NULL
        return np.array([tuple(np.nan if field is None else field for field in row) for row in rows], dtype)


_COMMAND = "id, status, name, device, act, rule, series, reason, undoes, agent, anomaly, arguments, time_us"
_ORDER = ("open", "expired", "refused", "done", "undone")
"""Of what is said of one command the last of these is how it stands."""


def _command(rows: list[tuple[Any, ...]]) -> CommandView:
    latest = max(rows, key=lambda row: _ORDER.index(row[1]))
    let_out = min((row[-1] for row in rows if row[1] == "open"), default=0)
    fields = zip(CommandView.__struct_fields__, (*latest[:-1], let_out, latest[-1]), strict=True)
    return msgspec.convert(dict(fields), CommandView)
