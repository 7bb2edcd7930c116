"""What the windows must be: of each message that arrived in a committed tick its readings, as a set; and what must be dead."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from headwater_edge.settings import StepSettings
from headwater_shared.clock import SYNCHRONISED, Now
from headwater_shared.parts import level_of
from tests.edge.merged import assert_equal_windows, assert_sessions
from tests.edge.run import Account, Counted, fits, levels_of
from tests.fault.devices import Said
from tests.reference import Window, bits, digest

_APART_US = 60_000_000
"""What arrived so long before its tick was stamped by a clock that was set since; and the silence that splits coverage."""

Places = dict[tuple[str, str, int], Window]
Key = tuple[str, int, int]
"""Series, time as sent, value bits."""


@dataclass
class Taken:
    """One tick: the messages that it took in, each with the time at which it was read."""

    tick: int
    now: Now
    said: list[tuple[Said, int]]
    beyond: set[Key] = field(default_factory=set)
    """Readings that were said to be beyond the horizon (R4)."""
    again: set[Key] = field(default_factory=set)
    """Readings of dead letters that a person had taken again (R20)."""
    letters: set[tuple[int, int]] = field(default_factory=set)
    """Those dead letters, by tick and n."""


class Books:
    """Keeps what arrived, in the order of committed ticks."""

    def __init__(self, settings: StepSettings) -> None:
        self.settings = settings
        self.account = Account(settings.by_meaning)
        self.arrived: dict[Said, None] = {}
        self.dead: dict[Key, tuple[float, int]] = {}
        """Readings that are dead letters and counted nowhere: with their value, and their event time had they been counted."""
        self.unsure = False
        """The clock was not believed at times: what it stamped is compared by series, not by window."""
        self._seen: dict[Key, None] = {}
        self._times: dict[str, list[int]] = {}

    def take(self, tick: Taken) -> None:
        """Take in a tick that was committed."""
        self.unsure |= tick.now.quality != SYNCHRONISED
        for key in tick.again:
            value, event_us = self.dead.pop(key)
            self.account.counted.append((key[0], event_us, value, key[1]))
        for said, arrived_us in tick.said:
            if said not in self.arrived:
                self.arrived[said] = None
                self._count(said, arrived_us, tick)

    def _count(self, said: Said, arrived_us: int, tick: Taken) -> None:
        if abs(tick.now.wall_us - arrived_us) > _APART_US:
            arrived_us = tick.now.wall_us
        for name, time_us, value in said.readings:
            event_us = arrived_us
            if time_us is not None:
                key = (name, time_us, bits(value))
                new = key not in self._seen
                self._seen[key] = None
                if not new and self.settings.by_meaning:
                    continue
                clamped = time_us > tick.now.wall_us + self.settings.future_us
                event_us = arrived_us if clamped or self.by_arrival else time_us
                if key in tick.beyond:
                    self._must_be_covered(name, time_us)
                    self.dead[key] = (value, event_us)
                    continue
                times = self._times.setdefault(name, [])
                times.insert(bisect_left(times, time_us), time_us)
            self.account.counted.append((name, event_us, value, time_us))

    @property
    def by_arrival(self) -> bool:
        return self.settings.levels[0].endswith("@arrival")

    def _must_be_covered(self, name: str, time_us: int) -> None:
        """A reading in a gap of its series counts, however late it is (R4)."""
        times = self._times.get(name, [])
        before, after = bisect_right(times, time_us) - 1, bisect_left(times, time_us)
        assert before >= 0, f"{name} at {time_us}: dead, and older than all that it was heard at"
        assert after < len(times), f"{name} at {time_us}: dead, and newer than all that it was heard at"
        assert times[after] - times[before] <= _APART_US, f"{name} at {time_us}: dead in a gap"

    # The comparison.

    def check(self, found: Places) -> None:
        """Compare the windows that are stored with what they must be."""
        counted = self.account.counted
        stamped = {name for name, event_us, _, sent in counted if self.unsure and event_us != sent}
        for name, patterns in levels_of(self.settings):
            ours = {place: window for place, window in found.items() if place[1] == name}
            for series in {reading[0] for reading in counted} | {place[0] for place in ours}:
                mine = {place: window for place, window in ours.items() if place[0] == series}
                readings = [one for one in counted if one[0] == series and fits(series, patterns)]
                if series in stamped:
                    self._check_sums(name, series, list(mine.values()), readings)
                elif level_of(name).gap_us:
                    of = {start: window for (_, _, start), window in mine.items()}
                    said = [(event_us, digest(sent, v), v) for _, event_us, v, sent in readings]
                    assert_sessions(of, said, level_of(name).gap_us, f"{series} {name}")
        sure = Account(counted=[reading for reading in counted if reading[0] not in stamped])
        assert_equal_windows(
            {place: window for place, window in found.items() if _exact(place, stamped)},
            {place: w for place, w in sure.windows(self.settings).items() if _exact(place, stamped)},
        )
        self._check_coarser(found)

    def _check_sums(self, level: str, series: str, windows: list[Window], readings: list[Counted]) -> None:
        """Over all windows of a level: each reading in as many of them as overlap."""
        of = level_of(level)
        times = 1 if of.gap_us else of.length_us // of.hop_us
        assert sum(window.count for window in windows) == times * len(readings), f"{series} {level}"
        wanted = times * sum(digest(sent, value) for _, _, value, sent in readings)
        assert (sum(window.digest for window in windows) - wanted) % 2**64 == 0, f"{series} {level}: digest"

    def _check_coarser(self, found: Places) -> None:
        """Each window of a tumbling level is the sum of the base windows inside it (R30)."""
        base, *coarser = self.settings.levels
        for name in coarser:
            length_us = level_of(name).length_us
            sums: dict[tuple[str, int], tuple[int, int]] = {}
            for (series, level, start), window in found.items():
                if level == base:
                    place = (series, start // length_us * length_us)
                    count, total = sums.get(place, (0, 0))
                    sums[place] = (count + window.count, (total + window.digest) % 2**64)
            of = {(s, start): (w.count, w.digest) for (s, level, start), w in found.items() if level == name}
            assert of == sums, f"{name} is not the sum of {base}"


def _exact(place: tuple[str, str, int], stamped: set[str]) -> bool:
    return place[0] not in stamped and not place[1].startswith("session-")
