"""Anomalies as a person asks for them: by time, series, rule and severity, begin and end together, each with what it saw."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import msgspec

from headwater_cloud.history import EARLIEST, LATEST, History

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""The least first."""

_PAGE = 500


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
    limit: float | None
    """What that broke; None or 0 where there is none."""
    agent: str
    samples: Samples
    scores: list[tuple[str, float]]
    """Detectors, and -log10 of the tail probability that each gave; none for what a rule found."""
    degree: float
    """How anomalous it was when it began, 0 to 1, by detectors."""


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
    seen: set[str] = set()
    for (
        id_,
        of,
        name,
        severity,
        text,
        begin_us,
        value,
        limit,
        agent,
        samples,
        scores,
        degree,
        end_us,
    ) in _rows(history, from_us, to_us):
        if (
            id_ in seen
            or severity not in enough
            or not fnmatchcase(name, series)
            or not fnmatchcase(of, rule)
        ):
            continue
        seen.add(id_)  # one found again after a restart has another seq, and is the same
        times, values = msgspec.json.decode(samples or "[[], []]", type=tuple[list[int], list[float]])
        by = msgspec.json.decode(scores, type=list[tuple[str, float]])
        yield Found(
            id_,
            of,
            name,
            severity,
            text,
            begin_us,
            end_us,
            value,
            limit,
            agent,
            Samples(times, values),
            by,
            degree,
        )


def _rows(history: History, from_us: int, to_us: int) -> Iterator[tuple[Any, ...]]:
    """Yield begins, the newest first; between two pages nothing is held of the file, whose log could not be emptied else."""
    key: tuple[Any, ...] = (to_us, "", "", "", 0, 0)
    while True:
        page = history.connection.execute(
            """
            SELECT b.time_us, b.id, b.agent, b.epoch, b.shard, b.seq,
                   b.id, b.rule, b.series, b.severity, b.text, b.begin_us, b.value, b."limit", b.agent, b.samples, b.scores, b.degree,
                   (SELECT max(e.time_us) FROM anomaly e WHERE e.id = b.id AND e.phase = 'end')
            FROM anomaly b WHERE b.phase = 'begin' AND b.time_us >= ?
            AND (b.time_us, b.id, b.agent, b.epoch, b.shard, b.seq) < (?, ?, ?, ?, ?, ?)
            ORDER BY b.time_us DESC, b.id DESC, b.agent DESC, b.epoch DESC, b.shard DESC, b.seq DESC LIMIT ?
            """,
            (from_us, *key, _PAGE),
        ).fetchall()
        yield from (row[6:] for row in page)
        if len(page) < _PAGE:
            return
        key = page[-1][:6]
