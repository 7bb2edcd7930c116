"""How many dead letters are kept, and what happens when their quota is full: nothing that would be one more is acknowledged (R20)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater_edge.decode import DeadLetter, Decoded
from headwater_edge.membership import distinct
from headwater_edge.source import Burst


@dataclass(slots=True)
class LetterBook:
    """Counts letters and their bytes (topic and message) against a quota of bytes."""

    quota: int
    letters: int = 0
    size: int = 0
    refused: int = 0
    """Messages that were not taken because it was full."""

    @property
    def full(self) -> bool:
        return self.size >= self.quota

    def kept(self, dead: list[DeadLetter]) -> None:
        """Letters were committed."""
        self.letters += len(dead)
        self.size += sum(len(letter.topic) + len(letter.body) for letter in dead)

    def gone(self, letters: int, size: int) -> None:
        """Letters were taken again, or let go."""
        self.letters -= letters
        self.size -= size

    def refuse(self, burst: Burst, decoded: Decoded) -> tuple[Decoded, set[int]]:
        """Take the messages that would be dead letters out of a burst: no reading, no acknowledgement, no identity (R3).

        Returns:
            what is left, and the connections that must end, for nothing more of theirs can be acknowledged in order.
        """
        ends = np.array([end for _, end in burst.runs])
        bad = sorted({letter.message for letter in decoded.dead})
        if burst.whole:
            bad = _with_their_runs(bad, ends)
        self.refused += len(bad)
        for message in bad:
            burst.packet_ids[message] = burst.flags[message] = 0
        counts = decoded.readings.copy()
        counts[bad] = 0
        taken = np.ones(len(counts), np.bool_)
        taken[bad] = False
        kept = np.repeat(taken, decoded.readings)
        left = decoded._replace(
            readings=counts,
            series=decoded.series[kept],
            sent=decoded.sent[kept],
            value=decoded.value[kept],
            dead=[],
            answers=[answer for answer in decoded.answers if taken[answer[0]]],
        )
        return left, {burst.runs[int(at)][0] for at in np.searchsorted(ends, bad, side="right")}


def _with_their_runs(bad: list[int], ends: NDArray[np.int64]) -> list[int]:
    """Return all messages of the runs that these are of."""
    runs = distinct(np.searchsorted(ends, bad, side="right"))
    begins = np.concatenate([[0], ends[:-1]])
    return [message for run in runs.tolist() for message in range(int(begins[run]), int(ends[run]))]
