"""What people ask of the history: windows of some series, and alerts; as tables, CSV or JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from headwater_cloud.history import EARLIEST, LATEST, History
from headwater_cloud.views import AlertView, IncidentView
from headwater_shared.errors import Refused
from headwater_shared.records import Order

Format = Literal["table", "csv", "json"]

WINDOW = ("series", "start", "count", "mean", "min", "max", "first", "last", "p50", "p95", "p99")
COMMAND = ("status", "command", "device", "act", "who", "series", "since", "changed", "reason", "id")
ALERT = ("state", "severity", "subject", "rule", "since", "changed", "value", "text", "muted", "id")
INCIDENT = ("state", "severity", "site", "since", "last", "alerts", "open", "devices", "id")

_NOTHING = (
    "start Headwater with 'headwater up' and let a window close, or look which series there are with '*'"
)


def windows(
    history: History,
    pattern: str,
    level: str,
    from_us: int = EARLIEST,
    to_us: int = LATEST,
    last: int | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Yield the windows of the series that match, series by series, oldest first; columns as in `WINDOW`.

    Raises:
        Refused: there is no such level, or no series matches.
    """
    for name in check(history, pattern, level):
        found = history.windows(name, level, from_us, to_us, last)
        of = found.aggregates
        columns = (of.count, of.mean, of.min, of.max, of.first, of.last, found.p50, found.p95, found.p99)
        for start, *values in zip(
            found.start.tolist(), *(column.tolist() for column in columns), strict=True
        ):
            yield (name, iso(start), *values)


def check(history: History, pattern: str, level: str) -> list[str]:
    """Return the series that match.

    Raises:
        Refused: there is no such level, or no series matches.
    """
    levels = history.levels()
    if level not in levels:
        raise Refused(
            f"there are no {level} windows", hint=f"levels: {', '.join(levels) or 'none yet; ' + _NOTHING}"
        )
    names = history.series(pattern)
    if not names:
        raise Refused(f"no series matches {pattern!r}", hint=_NOTHING)
    return names


def alerts(some: Iterable[AlertView]) -> Iterator[tuple[Any, ...]]:
    """Yield alerts; columns as in `ALERT`."""
    for alert in some:
        yield (
            alert.state, alert.severity, alert.subject, alert.rule, iso(alert.episode_us), iso(alert.time_us),
            alert.value, alert.text, alert.muted, alert.id,
        )  # fmt: skip


def incidents(some: Iterable[IncidentView]) -> Iterator[tuple[Any, ...]]:
    """Yield incidents; columns as in `INCIDENT`."""
    for one in some:
        state = "over" if not one.open else "acknowledged" if one.acknowledged == one.open else "open"
        yield (
            state, one.severity, one.site, iso(one.begin_us), iso(one.last_us), one.members, one.open, one.devices, one.id
        )  # fmt: skip


def commands(history: History, device: str = "*", last: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Yield commands to devices, the newest first; columns as in `COMMAND`."""
    for one in history.commands(device, last):
        yield (
            one.status, one.name, one.device, one.act, "" if one.act else one.rule, one.series,
            iso(one.let_out_us) if one.let_out_us else "-", iso(one.changed_us), one.reason, one.id,
        )  # fmt: skip


def sent(orders: Iterable[Order], device: str = "*") -> Iterator[tuple[Any, ...]]:
    """Yield orders of which no agent has said anything; columns as in `COMMAND`."""
    for one in orders:
        if fnmatchcase(one.device, device):
            why = f"agent {one.agent} has not read it; it is over at {iso(one.time_us + one.ttl_us)}"
            yield "sent", one.name, one.device, "", one.who, "", "-", iso(one.time_us), why, one.id


def shown(names: Sequence[str], rows: Iterator[tuple[Any, ...]], form: Format) -> Iterator[str]:
    """Write rows as lines: an aligned table, CSV with a header, or a JSON object a row."""
    if form == "json":
        yield from (msgspec.json.encode(dict(zip(names, row, strict=True))).decode() for row in rows)
    elif form == "csv":
        for row in (names, *rows):
            line = io.StringIO()
            csv.writer(line, lineterminator="").writerow(row)
            yield line.getvalue()
    else:
        yield from aligned([tuple(map(_cell, row)) for row in (names, *rows)])


def aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write rows of texts as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)


def iso(us: int) -> str:
    """Write a time as ISO 8601, UTC, as short as it is exact."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    except OverflowError:
        return f"{us} us"
    return moment.isoformat().replace("+00:00", "Z")


def time_us(text: str) -> int:
    """Read a time of a command line: ISO 8601, UTC if it names no zone.

    Raises:
        Refused: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"{text!r} is no time", hint="write it as 2026-11-24T08:00:00Z") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
