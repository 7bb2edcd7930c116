"""The raw columns of open and held base panes: where resends are recognised, samples shown and sketches made."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_FIRST = 4096
NEVER = -(2**62)
"""Before every event time: see `stamps`."""


class Recent:
    """Accepted readings in the order of arrival, until their base pane is no longer held.

    Columns of `size` rows (the arrays have room for more): `series`, `sent` (`NO_TIME` if none), `event`, `value`,
    and `slot`: the flat index of the base pane that counts the reading, -1 if none that is still kept does.
    """

    def __init__(self) -> None:
        self.size = 0
        self.series = np.zeros(_FIRST, np.int32)
        self.sent = np.zeros(_FIRST, np.int64)
        self.event = np.zeros(_FIRST, np.int64)
        self.value = np.zeros(_FIRST, np.float64)
        self.slot = np.zeros(_FIRST, np.int32)
        self._prune_at = _FIRST

    COLUMNS = ("series", "sent", "event", "value", "slot")

    def append(
        self,
        series: NDArray[np.int32],
        sent: Ints,
        event: Ints,
        value: NDArray[np.float64],
        slot: NDArray[np.int32],
    ) -> None:
        end = self.size + len(series)
        if end > len(self.series):
            room = max(end, len(self.series) + len(self.series) // 4)
            for name in self.COLUMNS:
                old = getattr(self, name)
                new = np.zeros(room, old.dtype)
                new[: self.size] = old[: self.size]
                setattr(self, name, new)
        at = slice(self.size, end)
        self.series[at] = series
        self.sent[at] = sent
        self.event[at] = event
        self.value[at] = value
        self.slot[at] = slot
        self.size = end

    def is_full(self) -> bool:
        """Tell whether enough has gathered for a prune to be worth it."""
        return self.size >= self._prune_at

    def prune(self, keep_from: Ints, starts: Ints, length_us: int) -> None:
        """Let go of readings older than `keep_from` of their series that no pane counts.

        When it runs depends only on the rows, so a replay prunes at the same ticks.

        Args:
            keep_from: event time, by series.
            starts: window start of each base slot, below every event time where the slot is empty.
            length_us: the base window.
        """
        n = self.size
        event, slot = self.event[:n], self.slot[:n]
        start = np.append(starts, NEVER)[slot]  # slot -1 reads the last
        in_pane = (event >= start) & (event - length_us < start)
        slot[~in_pane] = -1  # or a pane that opens in an emptied slot would count them once more
        kept = in_pane | (event >= keep_from[self.series[:n]])
        (gone,) = np.nonzero(~kept)
        tail = (
            int(gone[-1]) + 1 if len(gone) else 0
        )  # mostly the oldest go, and what is behind them is copied as it is
        (some,) = np.nonzero(kept[:tail])
        self.size = len(some) + n - tail
        room = max(_FIRST, self.size + self.size // 4)  # little more: this is most of an agent's memory
        for name in self.COLUMNS:
            old = getattr(self, name)
            column = np.zeros(room, old.dtype)
            column[: len(some)] = old[some]
            column[len(some) : self.size] = old[tail:n]
            setattr(self, name, column)
        self._prune_at = room

    def forget_slots(self) -> None:
        """No pane counts these readings any more: the panes were sealed at a start (R1)."""
        self.slot[: self.size] = -1

    def let_go(self, series: Ints) -> None:
        """Drop the readings of series."""
        gone = np.isin(self.series[: self.size], series)
        if gone.any():
            (kept,) = np.nonzero(~gone)
            for name in self.COLUMNS:
                column = getattr(self, name)
                column[: len(kept)] = column[kept]
            self.size = len(kept)

    def rows_of(
        self, slots: NDArray[np.int64], starts: Ints, length_us: int, slot_count: int
    ) -> tuple[Ints, Ints]:
        """Find the readings of panes.

        Args:
            slots, starts: the panes' flat indices and window starts; shape (p,).
            length_us: the base window.
            slot_count: how many flat indices there are.

        Returns:
            (index of the pane in `slots`, row), both of shape (r,), in the order of arrival.
        """
        which = np.full(slot_count + 1, -1, np.int32)
        which[slots] = np.arange(len(slots), dtype=np.int32)
        pane = which[self.slot[: self.size]]  # slot -1 reads the last, which is never set
        rows: Ints = np.flatnonzero(pane >= 0).astype(np.int64)
        panes: Ints = pane[rows].astype(np.int64)
        event = self.event[rows]
        ours = (event >= starts[panes]) & (
            event < starts[panes] + length_us
        )  # the slot's former windows are not
        if not ours.all():
            rows, panes = rows[ours], panes[ours]
        return panes, rows

    def last_of(self, series: Collection[int], count: int) -> dict[int, Ints]:
        """Return the rows of the latest `count` readings of each series, in the order of arrival; one pass for all of them."""
        asked = np.array(sorted(set(series)), np.int64)
        if not len(asked):
            return {}
        which = np.full(max(int(asked[-1]), int(self.series[: self.size].max(initial=0))) + 1, False)
        which[asked] = True
        (rows,) = np.nonzero(which[self.series[: self.size]])
        rows = rows[np.argsort(self.series[rows], kind="stable")]
        ends = np.searchsorted(self.series[rows], asked, side="right")
        starts = np.searchsorted(self.series[rows], asked)
        return {
            one: rows[max(start, end - count) : end]
            for one, start, end in zip(asked.tolist(), starts.tolist(), ends.tolist(), strict=True)
        }

    def up_to(self, series: int, end_us: int, count: int) -> Ints:
        """Return the rows of a series' latest `count` readings of before an event time, in the order of arrival."""
        n = self.size
        (rows,) = np.nonzero((self.series[:n] == series) & (self.event[:n] < end_us))
        return rows[-count:]

    def dump(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """Yield the columns for a snapshot."""
        for name in self.COLUMNS:
            yield name, getattr(self, name)[: self.size].copy()

    def load(self, columns: dict[str, NDArray[np.generic]], prune_at: int) -> None:
        self.size = len(columns["series"])
        for name in self.COLUMNS:
            setattr(self, name, columns[name].copy())
        self._prune_at = prune_at

    @property
    def prune_at(self) -> int:
        """How many rows start the next prune; part of the state."""
        return self._prune_at
