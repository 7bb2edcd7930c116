"""What is stored, as rows for other programs: windows, anomalies and alerts, a page at a time.

Between two pages nothing is held of the file: a reader that holds it for an hour would keep its log from being emptied.
Rows that are revised meanwhile come as they are when their page is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec
import numpy as np

from headwater_cloud import found
from headwater_cloud.columns import aggregates_of, unpack_sketches
from headwater_cloud.history import EARLIEST, LATEST, History, matches
from headwater_cloud.quantiles import quantiles
from headwater_shared.aggregates import COLUMNS
from headwater_shared.errors import Refused

PAGE = 5_000
"""Rows in memory at once."""

Rows = Sequence[tuple[Any, ...]]


class Column(NamedTuple):
    """A column of an export. Kinds: text, int, real, time (microseconds), digest (0 to 2^64 - 1), bytes."""

    name: str
    kind: str


WINDOWS = (
    Column("series", "text"), Column("level", "text"), Column("start", "time"), Column("count", "int"),
    Column("mean", "real"), Column("m2", "real"), Column("min", "real"), Column("max", "real"),
    Column("first", "real"), Column("first_time", "time"), Column("last", "real"), Column("last_time", "time"),
    Column("p50", "real"), Column("p95", "real"), Column("p99", "real"), Column("digest", "digest"),
    Column("parts", "int"), Column("revision", "int"), Column("flags", "int"),
)  # fmt: skip
ANOMALIES = (
    Column("id", "text"), Column("rule", "text"), Column("series", "text"), Column("severity", "text"),
    Column("begin", "time"), Column("end", "time"), Column("value", "real"), Column("limit", "real"), Column("text", "text"),
    Column("agent", "text"), Column("sample_times", "text"), Column("sample_values", "text"),
    Column("scores", "text"), Column("degree", "real"),
)  # fmt: skip
ALERTS = (
    Column("id", "text"), Column("rule", "text"), Column("subject", "text"), Column("state", "text"),
    Column("severity", "text"), Column("since", "time"), Column("changed", "time"), Column("value", "real"), Column("text", "text"),
)  # fmt: skip


def windows(
    history: History,
    level: str,
    pattern: str = "*",
    from_us: int = EARLIEST,
    to_us: int = LATEST,
    page: int = PAGE,
) -> Iterator[Rows]:
    """Yield pages of the windows of a level that start in [from_us, to_us), by start and then in no particular order.

    Left out are those of a time in which the level is not kept, as in `History.windows`.

    Raises:
        Refused: there is no such level, or no series matches.
    """
    if level not in history.levels():
        raise Refused(
            f"there are no {level} windows", hint=f"levels: {', '.join(history.levels()) or 'none yet'}"
        )
    read = history.connection.execute
    (number,) = read("SELECT id FROM level WHERE name = ?", (level,)).fetchone()
    start, series = from_us, -1
    names: dict[int, str] = {}
    chosen: set[int] = set()
    while True:
        # Series become more while pages are read.
        for id_, name in read(
            "SELECT id, name FROM series WHERE id > ?", (max(names, default=-1),)
        ).fetchall():
            names[id_] = name
            if matches(name, pattern):
                chosen.add(id_)
        if not chosen:
            raise Refused(f"no series matches {pattern!r}", hint="'headwater devices' lists what there is")
        of_some = (
            "" if len(chosen) == len(names) else "AND w.series IN (SELECT value FROM json_each(:chosen))"
        )
        rows = read(
            f"""
            SELECT w.start, w.series, parts, revision, flags, {", ".join(COLUMNS)}, sketch FROM window w
            WHERE w.level = :level AND (w.start, w.series) > (:start, :series) AND w.start >= :start AND w.start < :to
            {of_some} {history.kept_only(level)} ORDER BY w.start, w.series LIMIT :page
            """,
            {
                "level": number, "start": start, "series": series, "to": to_us, "page": page,
                "chosen": msgspec.json.encode(sorted(chosen)).decode(),
            },
        ).fetchall()  # fmt: skip
        if not rows:
            return
        yield _windows(rows, names, level)
        start, series = rows[-1][:2]


def anomalies(
    history: History, pattern: str = "*", from_us: int = EARLIEST, to_us: int = LATEST
) -> Iterator[Rows]:
    """Yield the anomalies of the series that match and begin in [from_us, to_us), the newest first."""
    for one in found.anomalies(history, pattern, from_us=from_us, to_us=to_us):
        yield [
            (
                one.id, one.rule, one.series, one.severity, one.begin_us, one.end_us, one.value, one.limit, one.text, one.agent,
                msgspec.json.encode(one.samples.times).decode(), msgspec.json.encode(one.samples.values).decode(),
                msgspec.json.encode(one.scores).decode(), one.degree,
            )
        ]  # fmt: skip


def alerts(
    history: History, pattern: str = "*", from_us: int = EARLIEST, to_us: int = LATEST
) -> Iterator[Rows]:
    """Yield the alerts whose subject matches and that began in [from_us, to_us), the newest first."""
    for alert in history.alerts():
        if from_us <= alert.episode_us < to_us and fnmatchcase(alert.subject, pattern):
            yield [
                (
                    alert.id, alert.rule, alert.subject, alert.state, alert.severity, alert.episode_us, alert.time_us, alert.value,
                    alert.text,
                )
            ]  # fmt: skip


def _windows(rows: Rows, names: dict[int, str], level: str) -> Rows:
    read = ("start", "series", "parts", "revision", "flags", *COLUMNS, "sketch")
    columns = dict(zip(read, zip(*rows, strict=True), strict=True))
    of = aggregates_of(columns)
    sketches = unpack_sketches(columns["sketch"])
    p50, p95, p99 = (np.clip(quantiles(sketches, q), of.min, of.max).tolist() for q in (0.5, 0.95, 0.99))
    written = {
        "series": [names[number] for number in columns["series"]],
        "level": [level] * len(rows),
        "p50": p50, "p95": p95, "p99": p99,
        **{name: columns[name] for name in ("start", "parts", "revision", "flags")},
        **{name: getattr(of, name).tolist() for name in COLUMNS},
    }  # fmt: skip
    return list(zip(*(written[column.name] for column in WINDOWS), strict=True))
