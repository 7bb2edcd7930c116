"""A series that is not heard: no reading for longer than it may be.

Two things show it: the passing of time (monotonic, as ticks carry it, and only while the agent runs: what was down cannot
hear), and a gap in event time between two readings. Both are the same anomaly: it began at the last reading before.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detector import Detector, groups_of, newest_before
from headwater_edge.recent import NEVER
from headwater_edge.rules import Change, MissingRule

Ints = NDArray[np.int64]

_FAR = 2**62


class Missing(Detector[MissingRule]):
    """All rules over all series; columns by pair: newest event time, and monotonic time of the tick that heard last."""

    KEPT: ClassVar[dict[str, float]] = Detector.KEPT | {"last_event": NEVER, "heard": 0}
    last_event: Ints
    heard: Ints

    def _settle(self) -> None:
        self.for_us: Ints = np.array([rule.for_us for rule in self.rules])[self.rule]
        self._look_us = -_FAR
        """No pair is due before this (monotonic): found out anew when that has come, and part of no state."""

    def run(self, series: NDArray[np.int32], event: Ints, mono_us: int) -> list[Change]:
        """Take up a tick's accepted readings: each ends a silence, or shows one that nobody has noticed."""
        rows = self._look(series)
        if rows is None:
            return []
        rows = self._sorted(rows)
        pair, event, groups = rows.pair, event[rows.reading], groups_of(rows.pair)
        before = newest_before(groups, event, self.last_event[pair])
        gap = event - before
        new = (before > NEVER) & (gap > self.for_us[pair])
        active = self.active[pair] & groups.first
        changes = []
        for row in np.flatnonzero(new | active).tolist():
            at, began = int(pair[row]), int(before[row])
            rule, one, reading = self.rules[self.rule[at]], int(self.series[at]), int(rows.reading[row])
            longest = rule.for_us / 1e6
            if active[row]:
                began = int(self.begin[at])
            else:
                changes.append(Change(rule, one, reading, True, began, began + rule.for_us, longest, longest))
            silent = max(int(event[row]) - began, 0) / 1e6
            changes.append(Change(rule, one, reading, False, began, int(event[row]), silent, longest))
        last = groups.last
        keep = pair[last]
        self._look_us = min(self._look_us, mono_us + int(self.for_us[keep].min()))
        self.active[keep], self.heard[keep] = False, mono_us
        self.last_event[keep] = np.maximum(before[last], event[last])
        return changes

    def is_due(self, mono_us: int) -> bool:
        """Tell whether time alone shows a silence."""
        return len(self.rule) > 0 and mono_us > self._look_us and bool(self._due(mono_us).any())

    def passed(self, mono_us: int, waiting: NDArray[np.int32]) -> list[Change]:
        """Look at what has not been heard for too long, once a tick.

        Args:
            waiting: series of which readings wait for our clock to be set: they are heard, and not yet taken in.
        """
        if not len(self.rule) or mono_us <= self._look_us:
            return []
        silent = self._due(mono_us)
        if len(waiting):
            silent &= ~np.isin(self.series, waiting)
        due = np.flatnonzero(silent)
        self.active[due], self.begin[due] = True, self.last_event[due]
        soon = np.where(self.active | (self.last_event == NEVER), _FAR, self.heard + self.for_us)
        self._look_us = int(soon.min())
        changes = []
        for pair in due.tolist():
            rule, began = self.rules[self.rule[pair]], int(self.begin[pair])
            longest = rule.for_us / 1e6
            time_us = began + rule.for_us
            changes.append(Change(rule, int(self.series[pair]), -1, True, began, time_us, longest, longest))
        return changes

    def _due(self, mono_us: int) -> NDArray[np.bool_]:
        due: NDArray[np.bool_] = (
            ~self.active & (self.last_event > NEVER) & (mono_us - self.heard > self.for_us)
        )
        return due

    def busy(self) -> Ints:
        """Return the series whose silence was not told yet: one that was does not keep its series."""
        return self.series[~self.active & (self.last_event > NEVER)]

    def start(self, away_us: int) -> None:
        """The agent was away: that is no silence of its devices (across a boot monotonic time began anew, R8)."""
        self.heard += away_us
        self._look_us = -_FAR

    def watch(self, newest: Ints, mono_us: int) -> None:
        """Count silence from now on where a rule is new to a series that is known.

        Args:
            newest: event time that its device has reached, by series; `NEVER` if none.
        """
        new = (self.last_event == NEVER) & (self.heard == 0)
        self.last_event[new], self.heard[new] = newest[self.series[new]], mono_us
        self._look_us = -_FAR

    def set_back(self, newest: Ints) -> None:
        """Our clock was corrected backwards: no reading is newer than these times, by series (R8)."""
        self.last_event = np.minimum(self.last_event, newest[self.series])
