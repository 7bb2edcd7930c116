"""Reading in naps: after the first sign of bytes wait a little, then read all sockets in one pass (DESIGN.md, "On the device").

A socket that wakes the loop for each message costs a wake, a read and a write a message; after a nap they serve many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Naps:
    """Calls `read` one nap after the watched descriptor became readable, and then every nap until it finds nothing."""

    def __init__(self, nap_s: float, read: Callable[[], bool]) -> None:
        self._nap_s = nap_s
        self._read = read
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._again = False

    def start(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop, self._fd = loop, fd
        loop.add_reader(fd, self.soon)

    def stop(self) -> None:
        """Read no more; may be called twice."""
        if self._loop is None:
            return
        self._loop.remove_reader(self._fd)
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def soon(self) -> None:
        """See to it that `read` is called within a nap."""
        if self._reading:
            self._again = True
        elif self._loop is not None and self._timer is None:
            self._loop.remove_reader(
                self._fd
            )  # awake already: what comes during the nap need not wake the loop
            self._timer = self._loop.call_later(self._nap_s, self._over)

    def _over(self) -> None:
        self._timer, self._reading, self._again = None, True, False
        found = True
        try:
            found = self._read()
        finally:  # whatever went wrong in there, the sockets are not left unread
            self._reading = False
            if self._loop is not None:
                if found or self._again:
                    self._timer = self._loop.call_later(self._nap_s, self._over)
                else:
                    self._loop.add_reader(self._fd, self.soon)
