"""What of the map of shards may still be changed: all but what rules windows that may have begun (R25)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from headwater_shared.errors import SettingsError
from headwater_shared.spread import Spread

_SOON_US = 60_000_000
"""Settings are checked before they are taken up, and a window may begin meanwhile."""


def check_unchanged(before: Sequence[Spread], after: Sequence[Spread], begun_us: int) -> None:
    """Refuse another map for windows that may have begun: their parts would be in two shards, and never meet.

    Args:
        begun_us: no window begins later than this, so far.

    Raises:
        SettingsError: naming the entry, and from when on the map can be another.
    """
    until_us = begun_us + _SOON_US
    changed = sorted({entry for entry in {*before} ^ {*after} if entry.from_us <= until_us})
    if changed:
        entry = changed[0]
        what = "is new" if entry in after else "is gone, or another"
        raise SettingsError(
            f"[[edge.spread]]: the entry of site {entry.site!r} from {_text(entry.from_us)} on {what}, "
            "and windows of that time have been sent",
            hint=f"leave what rules the past as it is, and add an entry from a time after {_text(until_us)}",
        )


def _text(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
