"""The windows of all levels: readings into the base, closed base panes and late readings into each other one (R7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_edge.coarse import CoarseLevel
from headwater_edge.fine import FineLevel, Gone, Rows
from headwater_edge.ring import Flags, roomy
from headwater_edge.session_level import SessionLevel
from headwater_edge.some import OfSome
from headwater_edge.window_settings import SomeLevel
from headwater_shared.parts import Level, level_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Piece:
    """Panes of one level on their way out: `level` indexes `Levels.names`."""

    level: int
    rows: Rows


class Levels:
    """The base level, and those that are made of its panes: every length is a multiple of the base's."""

    def __init__(
        self, names: Sequence[str], held_us: int, lateness_us: int, some: Sequence[SomeLevel] = ()
    ) -> None:
        """Make the levels.

        Args:
            names: of those that all series have, the base first.
            held_us: how long what is closed stays, for late readings and resends.
            lateness_us: how far watermarks are behind.
            some: those that only some series have.
        """
        self.names = [*names, *(level.name for level in some)]
        base, *coarser = map(level_of, names)
        self._held_us, around_us = held_us, held_us + lateness_us
        self.fine = FineLevel(base, _slots(base, around_us))
        of_all = [CoarseLevel(level, _slots(level, around_us)) for level in coarser]
        self.some = [OfSome(_made(level_of(one.name), base, around_us), one) for one in some]
        self.coarser = [*of_all, *(one.level for one in self.some if isinstance(one.level, CoarseLevel))]
        self.sessions = [one.level for one in self.some if isinstance(one.level, SessionLevel)]
        self._of_all = of_all
        self._above: list[CoarseLevel | OfSome] = [*of_all, *self.some]
        self._gone = Gone([], [])

    @property
    def room(self) -> int:
        """For how many series there is room."""
        return len(self.fine.ring) // self.fine.ring.slots

    def grow(self, names: Sequence[str]) -> None:
        """Make room for all series called so; those known before come first."""
        room = roomy(len(names))
        self.fine.ring.grow(room)
        for level in self._of_all:
            level.grow(room)
        for some in self.some:
            some.grow(names)

    def let_go(self, series: Ints) -> None:
        """Forget series, all windows of which are out."""
        self.fine.let_go(series)
        for level in self._above:
            level.let_go(series)

    def take_up(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Series have numbers of such as were let go."""
        for some in self.some:
            some.take_up(numbers, names)

    def unfinished(self) -> NDArray[np.bool_]:
        """Tell of each series whether a window of it is open, or changed since it was put out."""
        out = self.fine.ring.unfinished()
        for level in self._of_all:
            out |= level.ring.unfinished()
        for some in self.some:
            out[some.unfinished()] = True
        return out

    def add(
        self, series: NDArray[np.int32], sent: Ints, event: Ints, value: Floats, mark: Flags, tick: int
    ) -> None:
        """Count accepted readings, n of them in the order of arrival; `mark` tells what was done to their times."""
        self._gone = self.fine.add(series, sent, event, value, mark, tick)

    def close(self, watermark: Ints, tick: int) -> list[Piece]:
        """Close what the watermark of each series has passed, feed it upwards, put out revisions.

        Args:
            watermark: by series.

        Returns:
            all that goes out of this tick.
        """
        early, self._gone = self._gone, Gone([], [])
        gone = self.fine.close(watermark)
        out = [Piece(0, rows) for rows in early.out + gone.out]
        fed = early.fed + gone.fed
        for at, level in enumerate(self._above, 1):
            if fed:
                out += [Piece(at, rows) for rows in level.feed(fed, tick)]
            out += [Piece(at, rows) for rows in level.close(watermark)]
        return out

    def close_all(self, tick: int) -> list[Piece]:
        """Close every open pane of every level; they are held."""
        return self.close(np.full(self.room, np.iinfo(np.int64).max), tick)

    def seal(self, tick: int) -> list[Piece]:
        """At a start: put out every open pane under its old identity and empty the slots (R1)."""
        out = self.close_all(tick)
        self.fine.seal()
        for level in self.coarser:
            level.seal()
        for sessions in self.sessions:
            sessions.seal()
        return out

    def prune(self, watermark: Ints) -> None:
        """Let go of what is held no longer; once a tick, after all else."""
        self.fine.prune(watermark, self._held_us)
        for level in self._above:
            level.prune(watermark, self._held_us)

    def follow(self, before: Levels) -> None:
        """Take up what those before know beyond a seal: sessions of levels that stay go on under their starts (R12)."""
        former = {level.level.level.name: level for level in before.some}
        for level in self.some:
            if level.level.level.name in former:
                level.follow(former[level.level.level.name])

    def is_due(self, watermark: Ints) -> bool:
        """Tell whether `close` would close anything."""
        return len(self.fine.ring.due(watermark)) > 0 or any(level.is_due(watermark) for level in self._above)


def _slots(level: Level, around_us: int) -> int:
    """Return how many windows of a level a series needs at once: open ones, and those that end within the time given."""
    return -(-around_us // level.hop_us) + level.at_once + 1


def _made(level: Level, base: Level, around_us: int) -> CoarseLevel | SessionLevel:
    if level.gap_us:
        return SessionLevel(level, base.length_us)
    return CoarseLevel(level, _slots(level, around_us))
