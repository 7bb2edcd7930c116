"""The dedupe horizon: what a reading that is not newer than its series is, by what arrived in the last hours (R2, R4).

A look-up needs the disk, so it is no part of the step: its verdict is, and is journaled with the tick. In a gap of all that
its series was ever heard in, a reading is new without a look. Else it is looked up exactly among the journal's rows, which
stay for the horizon. If it is not there, and what left the journal covers its time, it cannot be told from a resend.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge import journal
from headwater_edge.arrivals import Arrivals, hashes, out_of_order, summary
from headwater_edge.coverage import Coverage, names_in, unpacked
from headwater_edge.evicted import Former
from headwater_edge.membership import is_in
from headwater_edge.recent import NEVER
from headwater_edge.source import REPLAY
from headwater_edge.state import State
from headwater_edge.store import read_store
from headwater_edge.tick import Readings, Tick
from headwater_shared.digest import value_bits

Ints = NDArray[np.int64]

_DECODED = 64
"""Rows that are kept decoded: resends of one moment need the same ones."""

Found = tuple[list[int], list[int]]
"""Indices of readings that had arrived, and of those that cannot be told from a resend."""


class Doubt(NamedTuple):
    """Readings that must be looked up: indices into the tick's readings, and those readings."""

    at: Ints
    readings: Readings


class Horizon:
    """Answers from the journal's rows and from the coverage of what left it. Used by one thread at a time."""

    def __init__(self, path: Path, names: Sequence[str] = ()) -> None:
        """`names`: those of the state, by number, as they change."""
        self._names = names
        self._reader: sqlite3.Connection = read_store(path)
        self._arrivals = Arrivals()
        self._decoded: OrderedDict[int, Readings] = OrderedDict()
        self.gone = Coverage()
        """Of all that left the journal, or a little more."""
        self.looked_up = 0
        """Readings that were looked up in the journal."""
        self._any_evicted = self._reader.execute("SELECT 1 FROM evicted LIMIT 1").fetchone() is not None
        first = self._reader.execute("SELECT coalesce(min(tick), 0) FROM journal").fetchone()[0]
        for tick, row in self._reader.execute("SELECT tick, body FROM arrival ORDER BY tick"):
            self._arrivals.add(tick, row)
        if first != 1:  # the next one up: rows may have gone one by one since the one before it
            self.gone_to(max(first - 1, 0))

    def close(self) -> None:
        self._reader.close()

    def doubtful(self, tick: Tick, state: State) -> Doubt | None:
        """Find the readings of a tick that only the journal can judge; it is not stepped yet. Sets `tick.arrival`."""
        readings = tick.readings
        if not len(readings):
            return None
        odd = out_of_order(readings, _last_sent(state, tick))
        tick.arrival = summary(readings, odd)
        if not state.settings.by_meaning or not odd.any():
            return None
        replayed = (tick.messages.flags & REPLAY) != 0
        if replayed.any():
            odd &= ~np.repeat(replayed, tick.messages.readings)
        (at,) = np.nonzero(odd)
        covered = state.coverage.covers(readings.series[at], readings.sent[at])
        if tick.returned:  # the state does not know them yet
            covered |= self.gone.covers(readings.series[at], readings.sent[at])
        at = at[covered]
        if len(at):
            recent, k = state.levels.fine.recent, state.levels.fine.recent.size
            low, high = readings.sent[at].min(), readings.sent[at].max()
            near = (recent.sent[:k] >= low) & (recent.sent[:k] <= high)
            here = hashes(recent.series[:k][near], recent.sent[:k][near], recent.value[:k][near])
            at = at[~is_in(_hashed(readings, at), here)]  # the step sees those by itself
        return Doubt(at, _taken(readings, at)) if len(at) else None

    def judge(self, doubt: Doubt) -> Found:
        """Look readings up.

        Returns:
            indices of those that had arrived within the horizon, and of those that cannot be told from a resend.
        """
        found = np.zeros(len(doubt.at), np.bool_)
        keys = _keys(doubt.readings)
        hashed = hashes(doubt.readings.series, doubt.readings.sent, doubt.readings.value)
        for tick in self._arrivals.ticks(doubt.readings.sent, hashed).tolist():
            there = self._row(tick)
            if there is not None:
                near = is_in(there.sent, doubt.readings.sent)
                arrived = set(_keys(_taken(there, np.flatnonzero(near))))
                found |= np.fromiter((key in arrived for key in keys), np.bool_, len(keys))
        beyond = ~found & self.gone.covers(doubt.readings.series, doubt.readings.sent)
        self.looked_up += len(keys)
        return doubt.at[found].tolist(), doubt.at[beyond].tolist()

    def committed(self, tick: int, arrival: bytes) -> None:
        """A row is in the journal."""
        self._arrivals.add(tick, arrival)

    def gone_to(self, tick: int) -> None:
        """Rows up to this one leave the journal: from now on coverage stands for them."""
        row = self._reader.execute(
            "SELECT body FROM coverage WHERE tick >= ? ORDER BY tick LIMIT 1", (tick,)
        ).fetchone()
        if row is not None:
            try:
                self.gone = self._by_number_now(unpacked(row[0]), names_in(row[0]))
            except ValueError as error:
                raise journal.Damaged(str(error)) from error
        self._arrivals.forget(tick)
        for old in [kept for kept in self._decoded if kept <= tick]:
            del self._decoded[old]

    def returned(self, names: Sequence[str], numbers: Sequence[int]) -> list[Former]:
        """Return what is known of new series that were let go once; `numbers` are as in a tick."""
        if not self._any_evicted:
            return []
        found = []
        for number, name in zip(
            numbers or range(len(self._names), len(self._names) + len(names)), names, strict=True
        ):
            former = self._former(name)
            if former is not None:
                found.append(former)
                self.gone.grow(number + 1)
                self.gone.put(number, former.heard)  # its rows are gone
        return found

    def let_go(self, numbers: Sequence[int]) -> None:
        """Series are let go: others may have their numbers."""
        self._any_evicted = True
        for number in numbers:
            if number < len(self.gone.end):
                self.gone.put(number, ())

    def _former(self, name: str) -> Former | None:
        row = self._reader.execute("SELECT serial, body FROM evicted WHERE name = ?", (name,)).fetchone()
        return Former(name, row[0], heard(row[1])) if row else None

    def _by_number_now(self, past: Coverage, names: Sequence[str]) -> Coverage:
        """Bring coverage to the numbers that series have now: it was put down when they had others, or were let go."""
        if not self._any_evicted or not names or not self._names:
            return past
        before = {name: number for number, name in enumerate(names) if name}
        out = Coverage()
        out.grow(len(self._names))
        for number, name in enumerate(self._names):
            if name in before:
                out.put(number, past.of(before[name]))
            elif name and (former := self._former(name)) is not None:
                out.put(number, former.heard)
        return out

    def _row(self, tick: int) -> Readings | None:
        readings = self._decoded.get(tick)
        if readings is None:
            found = self._reader.execute("SELECT body FROM journal WHERE tick = ?", (tick,)).fetchone()
            if found is None:
                return None
            readings = self._decoded[tick] = self._arrived(tick, journal.decode(found[0]))
            if len(self._decoded) > _DECODED:
                self._decoded.popitem(last=False)
        return readings

    def _arrived(self, tick: int, row: Tick) -> Readings:
        """Return the readings of a row but those of refused messages."""
        refused = self._arrivals.refused.get(tick)
        if not refused:
            return row.readings
        taken = np.ones(len(row.messages), np.bool_)
        taken[refused] = False
        return _taken(row.readings, np.flatnonzero(np.repeat(taken, row.messages.readings)))


def _last_sent(state: State, tick: Tick) -> Ints:
    """Return the largest time as sent of each series, of those too that return with a tick."""
    if not tick.returned:
        return state.last_sent
    known = len(state.names)
    numbers = tick.numbers or list(range(known, known + len(tick.new_series)))
    more = max(0, max(numbers) + 1 - known)
    last = np.append(state.last_sent, np.full(more, NEVER))
    for former in tick.returned:
        if former.heard:
            last[numbers[tick.new_series.index(former.name)]] = former.heard[-1]
    return last


def heard(body: bytes) -> list[int]:
    """Read when a series was heard that was let go.

    Raises:
        Damaged: it cannot be read.
    """
    try:
        return msgspec.msgpack.decode(body, type=list[int])
    except msgspec.DecodeError as error:
        raise journal.Damaged(f"damaged coverage of a series that was let go: {error}") from error


def _taken(readings: Readings, at: Ints) -> Readings:
    return Readings(readings.series[at], readings.sent[at], readings.value[at])


def _hashed(readings: Readings, at: Ints) -> NDArray[np.uint64]:
    return hashes(readings.series[at], readings.sent[at], readings.value[at])


def _keys(readings: Readings) -> list[tuple[int, int, int]]:
    """What R2 compares: series, time as sent, value bits."""
    columns = readings.series.tolist(), readings.sent.tolist(), value_bits(readings.value).tolist()
    return list(zip(*columns, strict=True))
