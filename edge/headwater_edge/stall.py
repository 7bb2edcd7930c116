"""Stall means exit: rows wait, none is sent, and the bus says that it is well; then only a new process helps.

A bus that says it is away, or does not answer at all, is no stall: everything waits, and the same process goes on later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from headwater_shared.bus import Bus
from headwater_shared.errors import HeadwaterError, StartAgain
from headwater_shared.topics import HAVE

_LOOKS = 8
"""In the time that makes a stall, so many looks are taken."""


class Watch:
    """Watches the forwarder from a thread of its own, with a bus of its own, which may hang too."""

    def __init__(
        self, open_bus: Callable[[], Bus], after_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._open_bus = open_bus
        self.after_s = after_s
        """May be set anew at any time."""
        self._monotonic = monotonic
        self._asked_s: float | None = None
        """Since when the bus owes an answer, for whatever it was asked for."""
        self._stop = threading.Event()

    def asked(self) -> None:
        """The bus is asked for something."""
        if self._asked_s is None:
            self._asked_s = self._monotonic()

    def answered(self) -> None:
        """It has answered, whatever it was."""
        self._asked_s = None

    def start(self, on_failure: Callable[[BaseException], None]) -> None:
        threading.Thread(target=self._run, args=(on_failure,), name="stall", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def stalled(self) -> bool:
        """Tell whether the bus owes us an answer for too long and gives one to another who asks."""
        asked_s = self._asked_s
        if asked_s is None or self._monotonic() - asked_s < self.after_s:
            return False
        with suppress(HeadwaterError):
            bus = self._open_bus()
            try:
                bus.ends(HAVE.name)
            finally:
                bus.close()
            return self._asked_s == asked_s
        return False

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        while not self._stop.wait(self.after_s / _LOOKS):
            if self.stalled():
                with suppress(RuntimeError):  # the agent's loop has ended before us
                    on_failure(_stall(self.after_s))
                return


def _stall(after_s: float) -> StartAgain:
    return StartAgain(
        f"forwarding stands still: rows wait, the bus says that it is well and has taken none for {after_s:g} s",
        hint="the agent ends, and goes on from its file when it is started again ('headwater up' does)",
    )
