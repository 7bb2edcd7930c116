"""When a tick ends: when it is old, when it is big, and early for an anomaly or a sender that waits (R19)."""

from __future__ import annotations

import time

_LONGEST_US = 1_000_000
_AIM = 200
"""Readings that make a commit worth its pages: at lower rates a tick lasts longer, up to a second. A thousand devices that
send once a second and wait for their PUBACK still get it within the shortest tick."""
_EARLY_RATE, _EARLY_BURST = 8.0, 4.0
"""Early ends: so many a second, so many at once; beyond them a tick ages like any other."""


class Ticker:
    """Decides by monotonic microseconds that are passed in; holds no clock."""

    def __init__(self, shortest_us: int, big: int) -> None:
        self._shortest_us = shortest_us
        self._big = big
        self._rate = 0.0
        self._tokens = _EARLY_BURST
        self._refilled_us: int | None = None
        self._begun_us: int | None = None
        self._early = self._urgent = False
        self.early_ends = 0
        """Ticks that something in them ended early (R19)."""

    def follow(self, shortest_us: int, big: int) -> None:
        """Go by other settings, from now on."""
        self._shortest_us, self._big = shortest_us, big

    def began(self, now_us: int) -> None:
        """The first burst of a tick came."""
        if self._begun_us is None:
            self._begun_us = now_us

    def ask_early(self, *, urgent: bool = True) -> None:
        """Something in the gathering tick cannot wait; what is not urgent leaves half of the tokens to what is."""
        self._early = True
        self._urgent |= urgent

    def length_us(self) -> int:
        """Return how long a tick may gather at the rate of late."""
        if self._rate <= 0:
            return self._shortest_us
        return int(min(max(_AIM / self._rate * 1e6, self._shortest_us), max(_LONGEST_US, self._shortest_us)))

    def is_over(self, now_us: int, readings: int) -> bool:
        """Tell whether the gathering tick is to end now; an early end takes a token."""
        if self._begun_us is None:
            return False
        if readings >= self._big or now_us - self._begun_us >= self.length_us():
            return True
        return self._early and self._take_token(now_us)

    def due_in_us(self, now_us: int) -> int:
        """Return in how many microseconds the gathering tick will be old, or will have a token if it asked for one."""
        assert self._begun_us is not None
        due = max(0, self._begun_us + self.length_us() - now_us)
        if self._early and self._tokens < self._price():
            due = min(due, int((self._price() - self._tokens) / _EARLY_RATE * 1e6) + 1)
        return due

    def ended(self, now_us: int, readings: int) -> None:
        """The tick was taken; its rate sets the length of the next ones."""
        if self._begun_us is not None:
            lasted = max(now_us - self._begun_us, 20_000)
            rate = readings / lasted * 1e6
            self._rate = rate if self._rate == 0 else 0.7 * self._rate + 0.3 * rate
        self._begun_us = None
        self._early = self._urgent = False

    def _price(self) -> float:
        """Return how many tokens there must be for this early end."""
        return 1 if self._urgent else 1 + _EARLY_BURST / 2

    def _take_token(self, now_us: int) -> bool:
        if self._refilled_us is not None:
            self._tokens = min(_EARLY_BURST, self._tokens + (now_us - self._refilled_us) / 1e6 * _EARLY_RATE)
        self._refilled_us = now_us
        if self._tokens < self._price():
            return False
        self._tokens -= 1
        self.early_ends += 1
        return True


def mono_us() -> int:
    """Return real monotonic time: the gathering of ticks does not follow a scaled clock."""
    return time.monotonic_ns() // 1000
