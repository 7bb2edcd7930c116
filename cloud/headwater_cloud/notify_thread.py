"""The thread of a route: it steps when there is news or its time has come, and ends after a last step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headwater_shared.errors import HeadwaterError, StartAgain, TryAgain
from headwater_shared.logs import get_logger

log = get_logger()

_LONGEST_S = 60.0
_AFTER_TROUBLE_S = 1.0
_LAST_S = 2.0
"""How long the end of a process waits for a route."""


class Stepped:
    """What steps in a thread of its own, once `start` is called; who calls `step` by hand needs none.

    Args:
        now_us: real time, microseconds.
        broke: is called when the file of the courier must be opened again; `broken` says why.
    """

    def __init__(self, name: str, now_us: Callable[[], int], broke: Callable[[], None]) -> None:
        self.broken: HeadwaterError | None = None
        self.failing = ""
        """Why the last try did not work; empty once one did."""
        self._name, self._now_us, self._broke = name, now_us, broke
        self._news = threading.Event()
        self._over = threading.Event()
        self._until_s = 0.0
        self._thread: threading.Thread | None = None

    def step(self) -> int | None:
        """Do what is to be done now. Returns when to look again, in real microseconds; None: when there is news; 0: at once.

        Raises:
            TryAgain, StartAgain, StateError: a file cannot be read, or written.
        """
        raise NotImplementedError

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is news."""
        self._news.set()

    def end(self) -> None:
        """Send what can go at once, and stop; `close` waits for that."""
        self._until_s = time.monotonic() + _LAST_S
        self._over.set()
        self._news.set()

    def close(self) -> None:
        """Stop; a message that is still on its way after a time-out is found so by the next process."""
        self.end()
        if self._thread is not None:
            self._thread.join(_LAST_S)

    def _run(self) -> None:
        trouble = ""
        while True:
            self._news.clear()
            over = self._over.is_set()  # before the step: what came until then is sent
            try:
                again_us = self.step()
                # The file's trouble is over; there may be nothing to send that would say so.
                if trouble and self.failing == trouble:
                    self.failing = ""
                trouble = ""
                wait_s = _LONGEST_S if again_us is None else (again_us - self._now_us()) / 1e6
            except TryAgain as error:
                self.failing = trouble = error.message
                log.error("the courier's file does not take what became of a notification", error=error)
                wait_s = _AFTER_TROUBLE_S
            except Exception as error:  # noqa: BLE001 - what is in the file is not known: all begins from it
                self.broken = error if isinstance(error, HeadwaterError) else _unforeseen(error)
                self._broke()
                return
            if over and (wait_s > 0 or time.monotonic() > self._until_s):
                return
            if wait_s > 0:
                self._news.wait(min(wait_s, _LONGEST_S))


def _unforeseen(error: Exception) -> HeadwaterError:
    log.error("a route ended", error=f"{type(error).__name__}: {error}")
    return StartAgain(f"{type(error).__name__}: {error}")
