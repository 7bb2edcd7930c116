"""The agent's side of eviction: now and then a tick says which series are let go, and what is known of those that come back (R12).

It is decided when a tick is made, by the state before it, and journaled with it. From that moment on no number of theirs is
given to a reading: what speaks again is a new series of the next tick.
"""

from __future__ import annotations

import numpy as np

from headwater_edge.decode import Decode
from headwater_edge.events import SeriesEvicted
from headwater_edge.horizon import Horizon
from headwater_edge.idle import may_go
from headwater_edge.keeping import Keeping
from headwater_edge.settings import EdgeSettings
from headwater_edge.state import State
from headwater_edge.tick import Tick
from headwater_edge.topics import SeriesIndex
from headwater_shared.settings import duration

_LOOKS = 64
"""Times that series are looked at within the time after which they go."""
_SOONEST_US, _LATEST_US = 1_000_000, 600_000_000
_ROOM = 8
"""Beyond all but one in so many of the series that there may be, the longest unheard go before their time."""


class Evicting:
    """What is to be done with every tick that brings readings."""

    def __init__(
        self,
        settings: EdgeSettings,
        index: SeriesIndex,
        decode: Decode,
        state: State,
        horizon: Horizon,
        keeping: Keeping,
    ) -> None:
        self.follow(settings)
        self._index, self._decode, self._state = index, decode, state
        self._horizon, self._keeping = horizon, keeping
        self._looked_us = state.age_us
        self.evicted = self.returned = 0
        """Series, since the start."""

    def follow(self, settings: EdgeSettings) -> None:
        """Go by other settings."""
        self._idle_us = duration(settings.series_idle)

    def look(self, tick: Tick) -> None:
        """Complete a tick that is just made and not stepped: the numbers of its new series, who of them returned, who goes."""
        tick.numbers = self._index.taken
        if tick.new_series:
            tick.returned = self._horizon.returned(tick.new_series, tick.numbers)
            self.returned += len(tick.returned)
        age_us, cap = self._state.age_us, self._index.cap
        most = cap - cap // _ROOM
        often_us = _SOONEST_US if len(self._index) > most else self._idle_us // _LOOKS
        if age_us - self._looked_us < min(max(often_us, _SOONEST_US), _LATEST_US):
            return
        self._looked_us = age_us
        gone = may_go(self._state, self._idle_us, self._keeping.gone_us, most)
        gone = gone[~np.isin(gone, tick.readings.series)].tolist()
        if gone:
            tick.events = [*tick.events, (len(tick.messages), SeriesEvicted(gone))]
            self.evicted += len(gone)
            self._index.let_go(gone)
            self._decode.let_go(gone)
            self._horizon.let_go(gone)
