"""Times of maintenance, in which nobody is told of a site's or device's alerts: what people write down, in one file of the data
folder, and the times that it comes to, which are part of the book.

A time is kept as the wall of a place shows it, with the place's zone: what comes every week at 22:00 does so in summer, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from headwater_cloud.book import Maintenance
from headwater_cloud.notify_hours import zone_of
from headwater_shared import kept_file, logs
from headwater_shared.clock import Clock
from headwater_shared.errors import SettingsError

log = logs.get_logger()

FILE = "maintenance.json"
_VERSION = 1
_DAY_US = 86_400_000_000
_BEFORE, _AHEAD = 14, 8
"""Days around the clock's that the book holds: what is found late is judged, too, and a cloud side that nobody restarts goes on."""
_MOST = 500
LONGEST_US = 90 * _DAY_US


class Planned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entry of the file."""

    subject: str
    """Glob of `site/device`; all of a site: `north/*`."""
    begin: str
    """Local time, `2026-11-29T22:00`."""
    zone: str
    """IANA name."""
    for_us: int
    repeat: Literal["", "daily", "weekly"] = ""
    last: str = ""
    """Of one that repeats: the local day of the last time, empty: there is none."""
    who: str = ""
    why: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    maintenance: dict[str, Planned]
    """By id."""


def read(path: Path) -> dict[str, Planned]:
    """Read the file, by id; none is no maintenance.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong.
    """
    found = kept_file.read(path, _File, _VERSION, writes="headwater maintenance")
    for at, one in (found.maintenance if found else {}).items():
        check(f"{path}: {at}", one)
    return found.maintenance if found else {}


@contextmanager
def changed(path: Path) -> Iterator[dict[str, Planned]]:
    """Give the entries to change; what they are at the end of the block is written. One at a time, others wait.

    Raises:
        SettingsError: as `read`; nothing is written then, nor if the block raises.
    """
    with kept_file.locked(path) as folder:
        known = dict(read(path))
        yield known
        if len(known) > _MOST:
            raise SettingsError(
                f"more than {_MOST} maintenances", hint="remove those that are over: nothing was changed"
            )
        for at, one in known.items():
            check(at, one)
        kept_file.write(path, folder, _File(_VERSION, dict(sorted(known.items()))), 0o644)


def check(where: str, one: Planned) -> None:
    """See that an entry can be one.

    Raises:
        SettingsError: it cannot.
    """
    zone_of(where, one.zone)
    for text in filter(None, (one.begin, one.last)):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise SettingsError(
                f"{where}: {text!r} is no time", hint="write it as 2026-11-29T22:00"
            ) from None
    if "/" not in one.subject:
        raise SettingsError(
            f"{where}: {one.subject!r} is no device",
            hint="write SITE/DEVICE; * and ? match any text: north/*",
        )
    if not 0 < one.for_us <= LONGEST_US:
        raise SettingsError(f"{where}: it lasts no time, or more than 90 days", hint="say how long: --for 4h")
    if one.repeat == "daily" and one.for_us > _DAY_US:
        raise SettingsError(
            f"{where}: it comes daily and lasts longer than a day", hint="one that lasts: --for 5d"
        )


def times(planned: Mapping[str, Planned], now_us: int) -> tuple[Maintenance, ...]:
    """Return the times around a moment that entries come to, as the book holds them: the same all through a day of UTC.

    Args:
        planned: entries by id.
        now_us: the moment, by Headwater's clock.
    """
    today_us = now_us // _DAY_US * _DAY_US
    first_us, end_us = today_us - _BEFORE * _DAY_US, today_us + _AHEAD * _DAY_US
    return tuple(
        sorted(
            (time for at, one in planned.items() for time in _times(at, one, first_us, end_us)),
            key=lambda one: (one.begin_us, one.id),
        )
    )


def of_file(path: Path, now_us: int) -> tuple[Maintenance, ...]:
    """Return the times around a moment of what the file holds: for the book.

    Raises:
        SettingsError: as `read`.
    """
    return times(read(path), now_us)


def looking(path: Path, clock: Clock) -> Callable[[], tuple[Maintenance, ...]]:
    """Return what gives the times of a file, looked at again when it changed, and each day; what cannot be read stays as it was."""
    last: tuple[object, tuple[Maintenance, ...]] = (None, ())

    def look() -> tuple[Maintenance, ...]:
        nonlocal last
        now_us = clock.now().wall_us
        try:
            stat = path.stat()
            seen: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino, now_us // _DAY_US)
        except OSError:
            seen = now_us // _DAY_US
        if seen != last[0]:
            try:
                last = seen, of_file(path, now_us)
            except SettingsError as error:
                log.error("the maintenance cannot be read; what was known stays", error=error)
                last = seen, last[1]
        return last[1]

    return look


def _times(at: str, one: Planned, first_us: int, end_us: int) -> Iterator[Maintenance]:
    zone = zone_of(at, one.zone)
    begin = datetime.fromisoformat(one.begin).replace(tzinfo=zone)
    last = datetime.fromisoformat(one.last).date() if one.last else None
    step = {"": 0, "daily": 1, "weekly": 7}[one.repeat]
    number = 0
    if step:  # not through all the years since it was written down
        number = max(0, (first_us - one.for_us - _us(begin)) // (step * _DAY_US) - 1)
    while True:
        moment = begin + timedelta(days=step * number)  # of the wall: the clock of the zone shows the same
        begin_us = _us(moment)
        if begin_us >= end_us or (last is not None and moment.date() > last):
            return
        if begin_us + one.for_us > first_us:
            name = f"{at}@{moment.date()}" if step else at
            yield Maintenance(name, one.subject, begin_us, begin_us + one.for_us, one.who, one.why)
        if not step:
            return
        number += 1


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
