"""Times as devices write them, to microseconds: s, ms, us or ns by their size, or ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from headwater_shared.errors import Unreadable

FARTHEST_US = 2**61
"""Event times lie nearer to 1970 than this (73,000 years), so that sums with lengths and marks stay in 64 bits."""

_SECONDS, _MILLISECONDS, _MICROSECONDS = 10**11, 10**14, 10**17
"""Below the first a number is seconds (to the year 5138), below the next milliseconds, then microseconds, else ns."""


def column_us(times: list[int]) -> NDArray[np.int64] | None:
    """Turn whole numbers of one burst to microseconds; None if one is out of range, and each must be looked at."""
    try:
        t = np.array(times, np.int64)
    except OverflowError:
        return None
    size = np.abs(t)
    if bool((size < 0).any()):
        return None  # -2**63 is its own absolute value
    if bool((size >= _MILLISECONDS).all()) and bool((size < _MICROSECONDS).all()):
        return t
    out: NDArray[np.int64] = np.where(
        size < _SECONDS,
        t * 1_000_000,
        np.where(size < _MILLISECONDS, t * 1_000, np.where(size < _MICROSECONDS, t, t // 1_000)),
    )
    return out


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
