"""What people were told of a run: patterns that were recognised, and how many notifications came of how many alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from headwater_cloud.outputs import Notification
from headwater_cloud.views import AlertView

_ORDER = ("firing", "growing", "escalated", "resolved")


def patterns(alerts: Iterable[AlertView], names: Iterable[str], origin_us: int) -> list[str]:
    """Tell of each pattern where and when it was recognised; times in seconds, from an hour on in hours, after the origin of the run.

    Args:
        alerts: all of the run.
        names: of the patterns.
        origin_us: of the run.
    """
    wanted = set(names)
    some = sorted(
        (one for one in alerts if one.rule in wanted and one.state != "withdrawn"),
        key=lambda one: one.episode_us,
    )
    return [
        f"  PATTERN {one.rule:13}  {one.subject:32}  {_after(one.episode_us, origin_us):22}  {one.text}"
        + (f"; complete {_after(one.fired_us, one.episode_us)} after its begin" if one.fired_us else "")
        for one in some
    ]


def line(alerts: Sequence[AlertView], notifications: Sequence[Notification]) -> str:
    """Say how much people heard of how much there was."""
    states: Counter[str] = Counter(one.state for one in notifications)
    kinds = ", ".join(f"{states[name]} {name}" for name in _ORDER if states[name])
    there = [one for one in alerts if one.state != "withdrawn"]
    muted = sum(bool(one.muted) for one in there)
    incidents = len({one.incident for one in there if one.incident})
    return (
        f"told: {len(notifications)} notifications{f' ({kinds})' if kinds else ''} of {incidents} incidents with {len(there)} alerts,"
        f" {muted} of them muted"
    )


def _after(time_us: int, origin_us: int) -> str:
    seconds = (time_us - origin_us) / 1e6
    return f"{seconds / 3_600:.2f} h" if abs(seconds) >= 3_600 else f"{seconds:.1f} s"
