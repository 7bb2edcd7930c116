"""Times as devices write them, to microseconds: s, ms, us or ns by their size, or ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable

FARTHEST_US = 2**61
"""Event times lie nearer to 1970 than this (73,000 years), so that sums with lengths and marks stay in 64 bits."""

_SECONDS, _MILLISECONDS, _MICROSECONDS = 10**11, 10**14, 10**17
"""Below the first a number is seconds (to the year 5138), below the next milliseconds, then microseconds, else ns."""


def column_us(times: list[int]) -> NDArray[np.int64] | None:
    """Turn whole numbers of one burst to microseconds; None if one is out of range, and each must be looked at."""
    try:
        t = np.fromiter(times, np.int64, len(times))
    except OverflowError:
        return None
    if len(t) and int(t.min()) >= _MILLISECONDS and int(t.max()) < _MICROSECONDS:  # mostly
        return t
    size = np.abs(t)
    if bool((size < 0).any()):
        return None  # -2**63 is its own absolute value
    out: NDArray[np.int64] = np.where(
        size < _SECONDS,
        t * 1_000_000,
        np.where(size < _MILLISECONDS, t * 1_000, np.where(size < _MICROSECONDS, t, t // 1_000)),
    )
    return None if bool((np.abs(out) >= FARTHEST_US).any()) else out


def stamp_us(time: object) -> int:
    """Turn one time, as JSON brought it, to microseconds.

    Raises:
        Unreadable: it is no time, or farther off than `FARTHEST_US`.
    """
    match time:
        case bool():
            pass
        case int():
            return _in_range(_scaled(time), time)
        case float() if time == time and abs(time) < 1e300:  # noqa: PLR0124 - not NaN
            return _in_range(_scaled(time), time)
        case str():
            return _in_range(_iso_us(time), time)
        case _:
            pass
    said = (
        repr(time) if isinstance(time, bool | float) else f"a {type(time).__name__}"
    )  # which may be of any size
    raise Unreadable(f"{said} is no time", reason="bad-time")


def _scaled(t: float) -> int:
    size = abs(t)
    if size < _SECONDS:
        return round(t * 1_000_000)
    if size < _MILLISECONDS:
        return round(t * 1_000)
    return round(t) if size < _MICROSECONDS else int(t // 1_000)


def _iso_us(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable(f"{text[:80]!r} is no time", reason="bad-time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _in_range(us: int, time: object) -> int:
    if abs(us) >= FARTHEST_US:
        raise Unreadable(f"{str(time)[:80]} is out of range", reason="bad-time")
    return us


STAMPED = NO_TIME + 2**50
"""Times below this are no times of the device's: the reading is stamped when its message arrives."""


def from_arrival(offset_us: int) -> int:
    """Write down a time that a device gave as so long after (below 0: before) "now", within 15 years.

    It takes a value that is no time, so that nothing but the arrival, which the journal holds, decides when that was:
    were it added up here, the same message sent again would say another time and count twice (R3).
    """
    return NO_TIME + (2 * offset_us if offset_us >= 0 else -2 * offset_us - 1)


def split(sent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Take "so long before now" out of a column of times as sent.

    Returns:
        The times with `NO_TIME` for all that are stamped on arrival, and how long after the arrival each of those was
        (0 for all others); None if none is stamped.
    """
    stamped = sent < STAMPED
    if not stamped.any():
        return sent, None
    code = np.where(stamped, sent - NO_TIME, 0)
    return np.where(stamped, NO_TIME, sent), np.where(code & 1, -(code >> 1) - 1, code >> 1)
