"""The ticks behind the last that a start can reach: their readings as dead letters, and what the state must know of them."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_edge import journal
from headwater_edge.coverage import names_in, unpacked
from headwater_edge.salvaged import Salvaged, named_only, raw_letter, timed
from headwater_edge.state import State
from headwater_edge.store import DeadRow
from headwater_edge.tick import Readings, Tick, with_new
from headwater_shared.clock import Now


class Unreached:
    """Reads the rows of the journal that no good snapshot reaches; changes `state` so that no resend of them counts.

    Args:
        pictured: (tick, names of the series then), as heads of snapshots say, the oldest first.
    """

    def __init__(
        self, connection: sqlite3.Connection, state: State, pictured: list[tuple[int, list[str]]]
    ) -> None:
        self._connection = connection
        self._state = state
        self._names = list(state.names)
        self._named_to = state.tick
        """The names are those that there were at this tick."""
        for tick, names in pictured:
            if tick > self._named_to:
                self._names, self._named_to = self._not_others(list(names)), tick
        self.missing = 0
        """Ticks that cannot be read."""
        self.unnamed = 0
        """Rows whose series have no name any more: of each the row itself is a letter."""
        self.readings = 0

    def letters(self, last: int) -> list[DeadRow]:
        """Make the letters of all ticks up to `last`."""
        state, made = self._state, Salvaged(by_meaning=self._state.settings.by_meaning)
        out: list[DeadRow] = []
        heard: list[Readings] = []
        bad: list[tuple[int]] = []
        expected = reached = state.tick
        rows = self._connection.execute(
            "SELECT tick, body FROM journal WHERE tick > ? ORDER BY tick", (reached,)
        )
        for number, body in rows:
            self.missing += number - expected - 1
            expected = number
            try:
                tick = journal.decode(body)
            except journal.Damaged:
                self.missing += 1
                bad.append((number,))
                continue
            if self._named(number, tick):
                out += made.take(tick.readings, self._names, tick.now.wall_us)
                heard.append(timed(tick.readings))
            else:
                self.unnamed += 1
                self.readings += len(tick.readings)
                bad.append((number,))
                out.append(raw_letter(number, body, tick.now.wall_us))
        out += made.rest()
        self.readings += made.readings
        self.missing += last - expected
        for table in ("journal", "arrival"):
            self._connection.executemany(f"DELETE FROM {table} WHERE tick = ?", bad)
        known = [*state.names, *[""] * (len(self._names) - len(state.names))]
        fresh = [number for number, name in enumerate(self._names) if name and not known[number]]
        state.add_series([self._names[n] for n in fresh], state.now or Now(0, 0, "", 0), fresh)
        if not reached:
            self._cover_the_past()
        for readings in heard:
            hear(state, readings.series, readings.sent)
        return out

    def _named(self, number: int, tick: Tick) -> bool:
        """Take up the names that a row brings; tell whether all of its series have one."""
        if number == self._named_to + 1 or tick.numbers:  # which a row says where some were let go
            self._names = self._not_others(with_new(self._names, tick))
        if number == self._named_to + 1:
            self._named_to = number
        return named_only(tick.readings, self._names)

    def _not_others(self, names: list[str]) -> list[str]:
        """Take out names of series whose number is still another's in the state, or that have another number there.

        A series was let go behind the last tick that is whole, and its number given away: the state has it still.
        """
        known = self._state.names
        numbers = {name: number for number, name in enumerate(known) if name}
        for number, name in enumerate(names):
            own = known[number] if number < len(known) else ""
            if own and not name:
                names[number] = own  # rows before it was let go
            elif name and (numbers.get(name, number) != number or own not in {"", name}):
                names[number] = ""
        return names

    def _cover_the_past(self) -> None:
        """The state was reached from nothing: what was put down of the coverage stands for what it knew."""
        state = self._state
        for age_us, body in self._connection.execute("SELECT age_us, body FROM coverage ORDER BY tick DESC"):
            try:
                past = unpacked(body)
            except ValueError:
                continue
            before = {name: number for number, name in enumerate(names_in(body) or state.names) if name}
            for number, name in enumerate(state.names):
                if before.get(name, len(past.end)) < len(past.end):
                    state.coverage.put(number, past.of(before[name]))
            state.last_sent = np.maximum(state.last_sent, state.coverage.end)
            state.age_us = state.frozen_us = age_us
            return


def hear(state: State, series: NDArray[np.int32], sent: NDArray[np.int64]) -> None:
    """Note that series were heard at these times, n of them, so that the same is known when it comes again."""
    if len(series):
        state.coverage.hear(series, sent)
        last: NDArray[Any] = state.last_sent
        np.maximum.at(last, series, sent)
