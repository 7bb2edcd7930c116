"""When to connect again: decorrelated jitter with a cap, which begins anew only after a connection that lasted."""

from __future__ import annotations

import random
from collections.abc import Callable

_LEAST_S = 0.05


class Retry:
    """Delays of one broker's connections, in seconds.

    Each delay is drawn evenly between the least and three times the one before, at most `most_s` (decorrelated jitter: Brooker,
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). The first one is drawn from up to `first_s`, so that the agents
    of a broker that went away do not all come back in one moment.
    """

    def __init__(
        self,
        first_s: float,
        most_s: float,
        stable_s: float = 60.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._stable_s = stable_s
        self._uniform = uniform
        self._last_s = 0.0

    def after(self, lasted_s: float) -> float:
        """Return how long to wait after a connection that lasted so long (0: there was none).

        One that lasted a stable while starts the delays anew; one that did not lets them grow: a broker that accepts and
        drops is no better than one that is away.
        """
        if lasted_s >= self._stable_s:
            self._last_s = 0.0
        most = max(self._first_s, 3 * self._last_s)
        self._last_s = min(self._most_s, self._uniform(min(_LEAST_S, self._first_s), most))
        return self._last_s

    def after_takeover(self) -> float:
        """Return how long to wait where another client uses our id: near the cap, for each connect ends the other's."""
        self._last_s = self._uniform(self._most_s / 2, self._most_s)
        return self._last_s
