"""Numbers, lengths of time and names as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

STYLES = {"wrong": "bold red", "warning": "yellow", "critical": "bold red", "info": "cyan"}
"""Of severities, as rich draws them."""

_SPARKS = "▁▂▃▄▅▆▇█"
_MANY = 6.0
"""-log10 of a probability from which on the power of ten is told."""
_NAMED = 3


def size_of(size: float) -> str:
    """Write a number of bytes, in units of 1,000 as in the settings."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def ago(seconds: float) -> str:
    """Write a length of time with its largest unit, and the next one where it says something."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.0f} h"
    if seconds < 86_400 * 1000:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds / 86_400 / 365:.0f} years"


def rate_of(per_s: float) -> str:
    """Write how often a second; what is rarer than one a minute, how often an hour."""
    if per_s == 0:
        return "0/s"
    if per_s < 1 / 60:
        return f"{per_s * 3600:.1f}/h"
    if per_s < 0.095:
        return f"{per_s * 60:.1f}/min"
    return f"{per_s:.1f}/s" if per_s < 100 else f"{per_s:,.0f}/s"


def amount(number: int, what: str) -> str:
    """Write how many of a thing there are."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def named(names: Sequence[str]) -> str:
    """Name the first few, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def shortened(text: str, width: int) -> str:
    """Cut a name in its middle: both its ends tell most."""
    if len(text) <= width:
        return text
    left = (width - 1) // 3
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


def at_time(us: int, now_us: int) -> str:
    """Write a time, UTC; its date only where it is another day than now."""
    try:
        moment, now = datetime.fromtimestamp(us / 1e6, UTC), datetime.fromtimestamp(now_us / 1e6, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{us} us"
    return moment.strftime("%H:%M:%S" if moment.date() == now.date() else "%Y-%m-%d %H:%M:%S")


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Draw values as a line of blocks, the least and the largest at its ends; of more than fit, the latest."""
    some = [value for value in values[-width:] if value == value]  # noqa: PLR0124 - no NaN
    if not some:
        return ""
    least, most = min(some), max(some)
    if most == least:
        return _SPARKS[3] * len(some)
    return "".join(_SPARKS[min(int((value - least) / (most - least) * 8), 7)] for value in some)


def odds(rarity: float) -> str:
    """Write -log10 of a probability as what a person pictures."""
    return f"1 in {10**rarity:,.0f}" if rarity < _MANY else f"1 in 10^{rarity:.0f}"
