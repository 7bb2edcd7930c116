"""When a run is over: all is sent and acknowledged, or there was time enough for it."""

from __future__ import annotations

import threading
import time

AFTER_STOP_S = 3.0
"""Who ends the fleet by hand does not wait for a server that is gone."""


class Ending:
    """Looks at a run now and then. `stop` ends the sampling early; what is unacknowledged is still sent again."""

    def __init__(self, end_us: int, *, paced: bool, drain_s: float, stop: threading.Event) -> None:
        """Plan the end.

        Args:
            end_us: when sampling ends, in event time.
            paced: whether samples wait for their time; if not, `drain_s` counts from the last acknowledgement.
            drain_s: seconds after the end for what is not acknowledged.
            stop: set by whoever wants the end now.
        """
        self._end_us = end_us
        self._paced = paced
        self._drain_s = drain_s
        self.stop = stop
        self._since = time.monotonic()
        self._acknowledged = -1

    def over(self, now_us: int, acknowledged: int, *, finished: bool) -> bool:
        """Tell whether to leave: `finished` means that nothing is left to send or to be acknowledged."""
        if finished:
            return True
        stopped = self.stop.is_set()
        sampling = self._paced and now_us < self._end_us and not stopped
        if sampling or (not self._paced and acknowledged != self._acknowledged and not stopped):
            self._since, self._acknowledged = time.monotonic(), acknowledged
        limit = min(self._drain_s, AFTER_STOP_S) if stopped else self._drain_s
        return not sampling and time.monotonic() - self._since >= limit
