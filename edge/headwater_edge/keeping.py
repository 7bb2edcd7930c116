"""What of the agent's file may go, and when a snapshot is due: by weight, by the time that a replay takes, by the horizon (R4, R15)."""

from __future__ import annotations

import sqlite3

from headwater_edge.commit import Job
from headwater_edge.horizon import Horizon
from headwater_edge.restart import Resumed
from headwater_edge.store import Chores
from headwater_shared.crash import reached

_REPLAY_US = 1_000_000
"""A snapshot is due when the steps since the last took this long: run again, with the decoding, two seconds at most."""
_HEAVIER = 3
"""... or the journal since outweighs it so many times."""
_LEAST = 1_000_000
"""... but not for fewer bytes than this."""
_ROWS = 500
"""Journal rows that go at once."""


class Keeping:
    """Counts; decides by integers. `snapshots` are the ticks of the good ones, newest first, at most two."""

    def __init__(self, connection: sqlite3.Connection, resumed: Resumed, replay_us: int) -> None:
        self.snapshots = resumed.snapshots
        self._first = resumed.journal_first or 1
        self._bytes = resumed.journal_bytes
        self._replay_us = replay_us if resumed.replayed else 0
        self._size = _LEAST
        self._picturing = False
        self._coverage: list[tuple[int, int]] = connection.execute(
            "SELECT tick, age_us FROM coverage ORDER BY tick"
        ).fetchall()
        """(tick, age) of the coverage that is in the file."""
        self.gone_us = max((at_us for tick, at_us in self._coverage if tick < self._first), default=0)
        """Up to this age of the agent the journal's rows are gone, or are gone with the next commit."""

    def stepped(self, took_us: int) -> None:
        """A step took so long; a replay decodes the row besides: about as much again."""
        self._replay_us += took_us

    def committed(self, job: Job) -> None:
        """A tick is in the file."""
        self._bytes += job.size
        if job.output.coverage:
            self._coverage.append((job.output.tick, job.output.age_us))

    def picture_is_due(self) -> bool:
        """Tell whether to take a snapshot now; if so, it is under way until `pictured`."""
        heavy = self._bytes > max(_LEAST, _HEAVIER * self._size)
        return (heavy or self._replay_us > _REPLAY_US) and self.begin_picture()

    def begin_picture(self) -> bool:
        """Begin one now, whether or not it is due; False if one is under way."""
        if self._picturing:
            return False
        self._picturing = True
        self._bytes = self._replay_us = 0
        return True

    def pictured(self, tick: int, size: int) -> None:
        """A snapshot counts, or (tick 0) was not read back."""
        reached("snapshot.counts")
        self._picturing = False
        if tick:
            self._size = size
            self.snapshots = [tick, *self.snapshots][:2]

    @property
    def snapshot_bytes(self) -> int:
        """Bytes of the last snapshot: about what the next one will take."""
        return self._size

    def is_outweighed(self, size: int) -> bool:
        """Tell whether what goes once two more snapshots are there is more than these write."""
        return size > max(_LEAST, 2 * self._size)

    @property
    def keep_from_tick(self) -> int:
        """Rows of ticks after this one are needed by the older of the two snapshots."""
        return self.snapshots[1] if len(self.snapshots) > 1 else 0

    def waits_for_snapshot(self, age_us: int, horizon_us: int) -> bool:
        """Tell whether journal rows beyond the horizon stay only because no two snapshots are after them."""
        return any(
            tick > self.keep_from_tick and at_us <= age_us - horizon_us for tick, at_us in self._coverage
        )

    def old_journal(self, horizon: Horizon, age_us: int, horizon_us: int) -> Chores:
        """Name journal rows that neither a snapshot nor the horizon needs; `horizon` goes by coverage for them from now on."""
        past = [tick for tick, at_us in self._coverage if at_us <= age_us - horizon_us]
        last = min(self._first + _ROWS - 1, self.keep_from_tick, past[-1] if past else 0)
        first = self._first
        if last < first:
            return Chores()
        horizon.gone_to(last)
        self._first = last + 1
        self.gone_us = max([self.gone_us, *(at_us for tick, at_us in self._coverage if tick <= last)])
        self._coverage = [(tick, at_us) for tick, at_us in self._coverage if tick >= last]
        return Chores(journal_from=first, journal_to=last)
