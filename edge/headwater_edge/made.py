"""When the last ticks were, for the header `made` of their rows: the cloud measures by it how long they took."""

from __future__ import annotations

from headwater_shared.records import MADE

_KEPT = 1_000


class Made:
    """The times of the last ticks: one thread notes them, another one asks."""

    def __init__(self) -> None:
        self._at: dict[int, int] = {}

    def note(self, tick: int, wall_us: int) -> None:
        """A tick is committed."""
        self._at[tick] = wall_us
        if len(self._at) > _KEPT:
            del self._at[next(iter(self._at))]

    def header(self, tick: int) -> dict[str, str]:
        """Return what a row of a tick has in its headers: nothing once that is long ago, or was in another process."""
        wall_us = self._at.get(tick)
        return {} if wall_us is None else {MADE: str(wall_us)}
