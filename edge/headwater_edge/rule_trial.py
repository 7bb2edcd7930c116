"""What rules would have found in what is stored: the detectors of the step, over an agent's journal or over windows.

The journal holds every reading as it came, so there the rules see what they would have seen live. Of a window only its first,
least, largest, last and mean value are known, and what is found in them is near to that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge import journal, stamps
from headwater_edge.accept import arrived_at
from headwater_edge.detectors import Detectors
from headwater_edge.duplicates import by_meaning
from headwater_edge.event_time import Stamped, joined, stamped
from headwater_edge.events import Start
from headwater_edge.meaning import Meaning
from headwater_edge.recent import NEVER, Recent
from headwater_edge.rules import Change, Rule
from headwater_edge.settings import StepSettings
from headwater_edge.tick import Tick
from headwater_shared.aggregates import Aggregates
from headwater_shared.clock import Now
from headwater_shared.parts import level_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_WARM_US = 60_000_000
_NOBODY = np.zeros(0, np.int32)


class Episode(NamedTuple):
    """One anomaly that would have been: from where its rule began to be broken to where it was over, if it was."""

    rule: Rule
    series: str
    begin_us: int
    found_us: int
    end_us: int | None
    value: float
    limit: float


@dataclass(slots=True)
class Looked:
    """What was looked at; times are those of arrival."""

    ticks: int = 0
    readings: int = 0
    first_us: int = 0
    last_us: int = 0


class Episodes:
    """Begins and ends become episodes."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._open: dict[tuple[str, int], int] = {}
        self.all: list[Episode] = []

    def take(self, changes: Sequence[Change]) -> None:
        for change in changes:
            key = change.rule.name, change.series
            if change.begins:
                self._open[key] = len(self.all)
                name = self._names[change.series]
                self.all.append(
                    Episode(
                        change.rule, name, change.begin_us, change.time_us, None, change.value, change.limit
                    )
                )
            elif key in self._open:
                at = self._open.pop(key)
                self.all[at] = self.all[at]._replace(end_us=change.time_us)


def over_journal(
    connection: sqlite3.Connection, settings: StepSettings, names: Sequence[str], from_us: int
) -> tuple[list[Episode], Looked]:
    """Run rules over what a journal holds since a time, and a little before it, for what lasts or compares.

    Raises:
        journal.Damaged: a row cannot be read.
    """
    past = _Past(settings, names)
    longest = max(
        (getattr(rule, "for_us", 0) for one in past.detectors.by_kind.values() for rule in one.rules),
        default=0,
    )
    first = _first_tick(connection, from_us - longest - _WARM_US)
    for _, body in connection.execute(
        "SELECT tick, body FROM journal WHERE tick >= ? ORDER BY tick", (first,)
    ):
        past.take(journal.decode(body))
    return past.episodes.all, past.looked


def _first_tick(connection: sqlite3.Connection, wall_us: int) -> int:
    """Return the first tick of the journal that came at a time or later, found by halving."""
    low, high = connection.execute(
        "SELECT coalesce(min(tick), 0), coalesce(max(tick), 0) + 1 FROM journal"
    ).fetchone()
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(
            "SELECT body FROM journal WHERE tick >= ? ORDER BY tick LIMIT 1", (middle,)
        ).fetchone()
        if found is not None and journal.decode(found[0]).now.wall_us < wall_us:
            low = middle + 1
        else:
            high = middle
    return int(low)


class _Past:
    """The part of the step that rules need: which readings count, when they were, what they mean."""

    def __init__(self, settings: StepSettings, names: Sequence[str]) -> None:
        self._settings = settings
        self._meaning = Meaning(settings.metrics)
        self._meaning.grow(names)
        self.detectors = Detectors(settings.rules, settings.more_rules)
        self.detectors.grow(names)
        self.episodes = Episodes(names)
        self.looked = Looked()
        self._now: Now | None = None
        self._recent = Recent()
        self._last_sent: Ints = np.full(len(names), NEVER)
        self._base = level_of(settings.levels[0])

    def take(self, tick: Tick) -> None:
        """Take a tick in."""
        now, looked = tick.now, self.looked
        starts = any(isinstance(event, Start) for _, event in tick.events)
        if starts and self._now is not None:
            self.detectors.start(now.mono_us - self._now.mono_us)
        self._now = now
        looked.ticks += 1
        looked.first_us, looked.last_us = looked.first_us or now.wall_us, now.wall_us
        changes: list[Change] = []
        if len(tick.readings):
            rows = self._counted(tick)
            rows = joined(rows, self._meaning.rates(rows)) or rows
            looked.readings += len(rows.series)
            value = self._meaning.of(rows.series, rows.value)
            changes = self.detectors.run(rows.series, rows.event, value, now.mono_us)
        changes += self.detectors.passed(now.mono_us, _NOBODY)
        self.episodes.take(changes)

    def _counted(self, tick: Tick) -> Stamped:
        """Return a tick's readings once each, with their times."""
        readings = tick.readings
        sent, after = stamps.split(readings.sent)
        message = np.repeat(np.arange(len(tick.messages)), tick.messages.readings)

        def arrived() -> Ints:
            at = arrived_at(tick.messages)[message]
            return at if after is None or self._base.arrival else at + after

        rows = stamped(
            readings.series, sent, readings.value, arrived, tick.now, self._settings.future_us,
            by_arrival=self._base.arrival,
        )  # fmt: skip
        kept = np.ones(len(sent), np.bool_)
        kept[tick.known] = kept[tick.beyond] = False
        if self._settings.by_meaning:
            repeated, _ = by_meaning(
                self._recent, self._last_sent, readings.series, sent, readings.value, message
            )
            kept &= ~repeated
        rows = rows.take(kept)
        self._remember(rows)
        return rows

    def _remember(self, rows: Stamped) -> None:
        """Keep readings for a while: among them resends are looked for; the agent's look-ups farther back are in its journal."""
        recent = self._recent
        recent.append(rows.series, rows.sent, rows.event, rows.value, np.full(len(rows.series), -1, np.int32))
        if recent.is_full():
            keep_us = self._settings.held_us + self._settings.lateness_us + 2 * self._base.length_us
            recent.prune(self._last_sent - keep_us, np.zeros(0, np.int64), self._base.length_us)


def over_windows(settings: StepSettings, windows: Sequence[tuple[str, Aggregates]]) -> list[Episode]:
    """Run rules over the windows of series, each with its own, oldest first.

    Limits and ranges see first, least, largest and last value, rates and silences the first and the last, what is stuck all
    four, and jumps the mean.
    """
    names = [name for name, _ in windows]
    detectors = Detectors(settings.rules, settings.more_rules)
    detectors.grow(names)
    episodes = Episodes(names)
    for number, (_, of) in enumerate(windows):
        middle = (of.first_time + of.last_time) // 2
        four = _rows(
            number, (of.first_time, middle, middle + 1, of.last_time), (of.first, of.min, of.max, of.last)
        )
        two = _rows(number, (of.first_time, of.last_time), (of.first, of.last))
        episodes.take(detectors.limits.run(*four))
        episodes.take(detectors.stuck.run(*four))
        episodes.take(detectors.rates.run(*two))
        episodes.take(detectors.missing.run(*two[:2], 0))
        episodes.take(detectors.jumps.run(*_rows(number, (of.first_time,), (of.mean,))))
    return episodes.all


def _rows(
    series: int, times: Sequence[Ints], values: Sequence[Floats]
) -> tuple[NDArray[np.int32], Ints, Floats]:
    """Lay out columns by window as readings one after the other."""
    event, value = np.stack(times, axis=1).ravel(), np.stack(values, axis=1).ravel()
    return np.full(len(event), series, np.int32), event, value
