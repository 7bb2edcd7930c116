"""A way to people, and how long its receiver took each time that it took a message."""

from __future__ import annotations

import time
from collections.abc import Callable

from headwater_cloud.sending import Message, Send


class TimedSend:
    """Another way, with a clock at it; `took` gets the seconds of what was delivered."""

    def __init__(
        self, inner: Send, took: Callable[[float], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner, self._took, self._monotonic = inner, took, monotonic

    def send(self, message: Message) -> None:
        """Deliver a message; raises what the other way raises."""
        began_s = self._monotonic()
        self._inner.send(message)
        self._took(self._monotonic() - began_s)
