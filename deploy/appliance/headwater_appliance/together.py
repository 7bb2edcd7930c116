"""Several agents, or several workers, looked at as one: what is counted is added up, of what is felt the worst counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headwater_appliance.processes import Running

_WORST_IS_MOST = frozenset({"oldest_unsent_s", "last_turn_s"})
_WORST_IS_LEAST = frozenset({"disk_free", "horizon_s"})
_MODES = ("offline", "backlog", "live")
"""How an agent forwards, the worst first."""


def status_of(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put together what several agents say of themselves, or what several workers do; keys that only some have are theirs."""
    found: dict[str, Any] = {}
    for one in said:
        for key, value in one.items():
            found[key] = value if key not in found else _both(key, found[key], value)
    return found


def _both(key: str, one: Any, other: Any) -> Any:
    if key == "forward":
        return min(one, other, key=lambda mode: _MODES.index(mode) if mode in _MODES else 0)
    if one is None or other is None:
        return other if one is None else one
    if key in {"ready", "connected"}:
        return one and other
    if isinstance(one, bool):
        return one or other
    if key in _WORST_IS_MOST:
        return max(one, other)
    if key in _WORST_IS_LEAST:
        return min(one, other)
    if isinstance(one, dict):
        return status_of([one, other])
    if isinstance(one, str):
        return ", ".join(text for text in (one, other) if text)
    return one + other


def running_of(processes: Sequence[Running | None]) -> Running | None:
    """Put several processes together under the pid of the first; None: none of them runs."""
    there = [one for one in processes if one is not None]
    if not there:
        return None
    return Running(
        there[0].pid,
        min(one.uptime_s for one in there),
        sum(one.memory_bytes for one in there),
        sum(one.cpu_s for one in there),
        min(one.files_limit for one in there),
    )
