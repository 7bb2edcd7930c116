"""Times as tables write them: ISO 8601, numbers since 1970, and the usual ways with day, month and year."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

ReadTime = Callable[[str], int]
"""From a cell to microseconds since 1970, UTC where it names no zone; ValueError: it is no time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMATS = (
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d.%m.%Y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%d-%m-%Y %H:%M:%S",
)
_SCALES = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
"""Below the first a number is seconds, below the next milliseconds, then microseconds, else nanoseconds."""


_ENOUGH = 0.7
"""Share of the cells that must be such times: a table may have bad rows."""


def reader_of(cells: Sequence[str]) -> tuple[str, ReadTime] | None:
    """Return what the way is called in which most of these cells are times, and how to read it; None if too few are."""
    formats = [
        *_FORMATS,
        *(form.removesuffix(":%S") for form in _FORMATS),
        *(form.split()[0] for form in _FORMATS),
    ]
    ways: list[tuple[str, ReadTime]] = [("since 1970", _number), ("ISO 8601", _iso)]
    ways += [(form, _by(form)) for form in formats]
    if not cells:
        return None
    shares = [sum(_fits(read, cell) for cell in cells) / len(cells) for _, read in ways]
    best = max(shares)
    return ways[shares.index(best)] if best >= _ENOUGH else None


def _fits(read: ReadTime, cell: str) -> bool:
    try:
        read(cell)
    except (ValueError, OverflowError):
        return False
    return True


def _number(cell: str) -> int:
    """Read a number of seconds or parts of them; one that would be a time before 2000 is rather something else."""
    found = float(cell)
    if not 9e8 <= abs(found) < 1e20:
        raise ValueError(cell)
    for below, scale in _SCALES:
        if abs(found) < below:
            return int(cell) * scale if cell.isdigit() else round(found * scale)
    return int(found) // 1000


def _iso(cell: str) -> int:
    return _us(datetime.fromisoformat(cell))


def _by(form: str) -> ReadTime:
    return lambda cell: _us(datetime.strptime(cell, form).replace(tzinfo=UTC))


def _us(moment: datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)
