"""Readings as a codec takes them out of one message after the other, until they become columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.decoded import DeadLetter, Decoded, Refused, letter_of
from headwater_edge.events import Answered, DeviceSaid
from headwater_shared.errors import Unreadable


class Taking:
    """Grows message by message: a codec appends to `series`, `sent` and `values`, then calls `took` or `refuse`."""

    def __init__(self) -> None:
        self.series: list[int] = []
        self.sent: list[float] = []
        """Microseconds as whole numbers."""
        self.in_seconds = False
        """... or, if a codec says so, seconds since 1970, which are turned to microseconds all at once;"""
        self.odd: dict[int, int] = {}
        """then what is no such time is here, by its place in `sent`."""
        self.values: list[float] = []
        self.counts: list[int] = []
        self.dead: list[DeadLetter] = []
        self.births: list[tuple[bytes, bytes | None]] = []
        self.asks: list[tuple[bytes, bytes]] = []
        self.answers: list[tuple[int, Answered]] = []
        self.skipped = 0
        self.said: list[tuple[int, DeviceSaid]] = []
        self._before = 0

    def took(self) -> None:
        """End a message that was taken whole."""
        now = len(self.series)
        self.counts.append(now - self._before)
        self._before = now

    def took_but(self, message: int, refused: list[Refused], topic: bytes, payload: bytes) -> None:
        """End a message of which some readings are not taken, if `refused` names any."""
        if refused:
            self.dead.append(letter_of(message, refused, topic, payload))
        self.took()

    def refuse(self, message: int, error: Unreadable, topic: bytes, payload: bytes) -> None:
        """End a message that is not taken at all."""
        before = self._before
        del self.series[before:], self.sent[before:], self.values[before:]
        if self.odd:
            self.odd = {at: sent for at, sent in self.odd.items() if at < before}
        self.dead.append(DeadLetter(message, error.reason, error.message, topic, payload))
        self.counts.append(0)

    def decoded(self) -> Decoded:
        """Return the columns."""
        with np.errstate(invalid="ignore"):  # a NaN that signals
            value = floats(self.values) + 0.0  # -0 becomes 0
        return Decoded(
            np.array(self.counts, np.int32),
            np.array(self.series, np.int32),
            self._sent(),
            value,
            self.dead,
            self.births,
            self.asks,
            self.skipped,
            self.answers,
            self.said,
        )

    def _sent(self) -> NDArray[np.int64]:
        if not self.in_seconds:
            return np.array(self.sent, np.int64)
        column = (np.array(self.sent, np.float64) * 1e6 + 0.5).astype(np.int64)
        for at, sent in self.odd.items():
            column[at] = sent
        return column


def floats(values: list[float]) -> NDArray[np.float64]:
    """Make a column of numbers; a whole number that float64 cannot hold is infinite, and so is refused later."""
    try:
        return np.array(values, np.float64)
    except OverflowError:
        return np.array([_float(value) for value in values])


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")
