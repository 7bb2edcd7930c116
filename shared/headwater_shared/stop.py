"""A wish to stop that a signal handler may express at any moment."""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Stop:
    """Set once, and waited for. A `threading.Event` is no such thing: its lock may be held by the very thread that a signal
    interrupts, which then waits for itself for ever (bpo-13697).
    """

    def __init__(self) -> None:
        self._heard, self._said = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._set = False

    def set(self) -> None:
        if not self._set:
            self._set = True
            os.write(self._said, b"!")

    def wake(self) -> None:
        """Let who waits look about, and go on waiting."""
        with suppress(BlockingIOError):  # it is full of such wishes
            os.write(self._said, b"?")

    def is_set(self) -> bool:
        return self._set

    def wait(self, seconds: float) -> None:
        """Return when it is set or woken, or after so long."""
        if self._set:  # its mark in the pipe may be taken out below, by a wait that was woken at that moment
            return
        if select.select([self._heard], [], [], seconds)[0] and not self._set:
            os.read(self._heard, 4096)

    def close(self) -> None:
        os.close(self._heard)
        os.close(self._said)
