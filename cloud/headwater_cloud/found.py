"""Anomalies as a person asks for them: by time, series, rule and severity, begin and end together, each with what it saw."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

import msgspec

from headwater_cloud.history import EARLIEST, LATEST, History

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""The least first."""


class Samples(NamedTuple):
    """Readings around an anomaly; times in microseconds."""

    times: list[int]
    values: list[float]


class Found(msgspec.Struct, frozen=True):
    """An anomaly from its begin to its end."""

    id: str
    rule: str
    series: str
    severity: str
    text: str
    begin_us: int
    end_us: int | None
    """None: it is not over, or its end has not come."""
    value: float
    """Of the reading or the window that began it."""
    limit: float
    """What that broke; NaN or 0 where the rule has none."""
    agent: str
    samples: Samples


def anomalies(
    history: History,
    series: str = "*",
    rule: str = "*",
    least: Severity = "info",
    from_us: int = EARLIEST,
    to_us: int = LATEST,
) -> Iterator[Found]:
    """Yield the anomalies that match and begin in [from_us, to_us), the newest first, a few at a time from the file."""
    enough = SEVERITIES[SEVERITIES.index(least) :]
    rows = history.connection.execute(
        """
        SELECT b.id, b.rule, b.series, b.severity, b.text, b.begin_us, b.value, b."limit", b.agent, b.samples,
               (SELECT max(e.time_us) FROM anomaly e WHERE e.id = b.id AND e.phase = 'end')
        FROM anomaly b WHERE b.phase = 'begin' AND b.time_us >= ? AND b.time_us < ? ORDER BY b.time_us DESC, b.id
        """,
        (from_us, to_us),
    )
    seen: set[str] = set()
    for id_, of, name, severity, text, begin_us, value, limit, agent, samples, end_us in rows:
        if id_ in seen or severity not in enough or not fnmatchcase(name, series) or not fnmatchcase(of, rule):
            continue
        seen.add(id_)  # one found again after a restart has another seq, and is the same
        times, values = msgspec.json.decode(samples or "[[], []]", type=tuple[list[int], list[float]])
        yield Found(
            id_, of, name, severity, text, begin_us, end_us, value, limit, agent, Samples(times, values)
        )
