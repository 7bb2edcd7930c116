"""Hours of the week as people write them ("22:00-06:00", "mon-fri 08:00-18:00"), in the time of a place.

Whether a moment is inside is asked of its local wall clock, so a change to or from summer time needs no rule of its own: an hour that
comes twice is inside twice, one that does not come is never.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from headwater_shared.errors import SettingsError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(r"(?:([a-z,-]+) +)?(\d\d):(\d\d)-(\d\d):(\d\d)")
_HINT = 'write "22:00-06:00", "mon-fri 08:00-18:00" or "sat,sun 00:00-24:00"'
_MINUTE_US = 60_000_000
_WEEK_MINUTES = 8 * 24 * 60


class Span(NamedTuple):
    """One span: the days on which it begins (0 is Monday), and minutes of the day; one that ends before it begins ends on the next day."""

    days: frozenset[int]
    begin: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        """Tell whether a minute of a day of the week is inside."""
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or (
            (day - 1) % 7 in self.days and minute < self.end
        )


Hours = tuple[Span, ...]
"""None of them: never."""


def parse(where: str, texts: Sequence[str]) -> Hours:
    """Read hours.

    Raises:
        SettingsError: naming `where` they stand.
    """
    return tuple(_span(where, text) for text in texts)


def zone_of(where: str, name: str) -> tzinfo:
    """Return a zone by its IANA name.

    Raises:
        SettingsError: this machine knows none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise SettingsError(
            f"{where}: {name!r} is no time zone",
            hint='write an IANA name such as "Europe/Berlin" or "UTC"; a machine without zones needs `apt install tzdata`',
        ) from None


class Zones:
    """The zone of each site: the first glob that matches, else UTC."""

    def __init__(self, zones: Mapping[str, str]) -> None:
        self._zones = [(glob, zone_of(f"cloud.zones of {glob!r}", name)) for glob, name in zones.items()]

    def of(self, site: str) -> tzinfo:
        return next((zone for glob, zone in self._zones if fnmatchcase(site, glob)), UTC)


def inside(hours: Hours, at_us: int, zone: tzinfo) -> bool:
    """Tell whether a moment, in microseconds, is inside the hours of a zone."""
    return bool(hours) and _inside(hours, at_us // _MINUTE_US, zone)


def until(hours: Hours, at_us: int, zone: tzinfo) -> int | None:
    """Return the first full minute, in microseconds, from a moment on that is not inside; None: there is none within a week."""
    minute = -(-at_us // _MINUTE_US)
    for later in range(minute, minute + _WEEK_MINUTES):
        if not _inside(hours, later, zone):
            return later * _MINUTE_US
    return None


def since(hours: Hours, at_us: int, zone: tzinfo) -> int:
    """Return when the hours that a moment is inside began, in microseconds; a week before, if they never end."""
    minute = at_us // _MINUTE_US
    for before in range(minute, minute - _WEEK_MINUTES, -1):
        if not _inside(hours, before, zone):
            return (before + 1) * _MINUTE_US
    return (minute - _WEEK_MINUTES) * _MINUTE_US


def local(at_us: int, zone: tzinfo) -> datetime:
    """Return a moment on the wall clock of a zone."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).astimezone(zone)


@lru_cache(maxsize=65_536)
def _inside(hours: Hours, minute: int, zone: tzinfo) -> bool:
    at = local(minute * _MINUTE_US, zone)
    return any(span.holds(at.weekday(), 60 * at.hour + at.minute) for span in hours)


def _span(where: str, text: str) -> Span:
    found = _FORM.fullmatch(text.strip().lower())
    if found is None:
        raise SettingsError(f"{where}: {text!r} is no span of hours", hint=_HINT)
    days, *numbers = found.groups()
    begin_h, begin_m, end_h, end_m = map(int, numbers)
    begin, end = 60 * begin_h + begin_m, 60 * end_h + end_m
    if begin_m > 59 or end_m > 59 or begin >= 1440 or end > 1440 or begin == end:
        raise SettingsError(f"{where}: {text!r} is no span of hours", hint=_HINT)
    return Span(_days(where, text, days or "mon-sun"), begin, end)


def _days(where: str, text: str, days: str) -> frozenset[int]:
    found: set[int] = set()
    for part in days.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise SettingsError(f"{where}: {text!r} names a day that is none", hint=_HINT)
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)
