"""The next tick while it gathers: bursts as they were decoded, until one step takes them all (R12)."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from headwater_edge.decode import DeadLetter, Decoded
from headwater_edge.events import Event
from headwater_edge.source import Burst
from headwater_edge.tick import Messages, Readings, Tick, quiet_tick
from headwater_shared.clock import Now
from headwater_shared.crash import reached


class Gather:
    """Bursts in the order of arrival, with their columns."""

    def __init__(self) -> None:
        self.bursts: list[Burst] = []
        self.readings = 0
        self.messages = 0
        self.events: list[tuple[int, Event]] = []
        self.births: list[tuple[bytes, bytes | None]] = []
        """What a codec must have again after a restart, see `Decoded.births`."""
        self._decoded: list[Decoded] = []

    def __bool__(self) -> bool:
        return bool(self.bursts or self.events)

    @property
    def decoded(self) -> list[tuple[int, Decoded]]:
        """When each burst with messages was read, and what it became."""
        return list(
            zip((burst.arrived_us for burst in self.bursts if burst.topics), self._decoded, strict=True)
        )

    def add(self, burst: Burst, decoded: Decoded | None) -> None:
        """Take in a burst; `decoded` is None if it holds events only."""
        events = burst.events
        if decoded is not None and (decoded.answers or decoded.said):
            events = sorted([*events, *decoded.answers, *decoded.said], key=lambda event: event[0])
        self.events += [(self.messages + at, event) for at, event in events]
        self.bursts.append(burst)
        if decoded is not None:
            burst.dead = decoded.dead
            self._decoded.append(decoded)
            self.births += decoded.births
            self.readings += len(decoded.value)
            self.messages += len(burst.topics)

    def tick(self, now: Now, new_series: list[str]) -> tuple[Tick, list[DeadLetter]]:
        """Make the tick of all that was gathered."""
        reached("tick.gathered")
        if not self._decoded:
            tick = quiet_tick(now)
            tick.events, tick.new_series = self.events, new_series
            return tick, []
        bursts = [burst for burst in self.bursts if burst.topics]
        runs: list[tuple[int, int]] = []
        ends: list[int] = []
        ids: list[int] = []
        flags: list[int] = []
        dead: list[DeadLetter] = []
        unreadable: list[tuple[int, int]] = []
        before = 0
        for burst, decoded in zip(bursts, self._decoded, strict=True):
            runs += [(connection, before + end) for connection, end in burst.runs]
            ids += burst.packet_ids
            flags += burst.flags
            if decoded.dead:
                dead += [letter._replace(message=before + letter.message) for letter in decoded.dead]
                unreadable += [(before + message, crc) for message, crc in decoded.unreadable()]
            before += len(burst.topics)
            ends.append(before)
        run_columns = np.array(runs, np.int64).reshape(-1, 2)
        all_decoded = self._decoded
        messages = Messages(
            np.ascontiguousarray(run_columns[:, 0]),
            np.ascontiguousarray(run_columns[:, 1]),
            np.array([burst.arrived_us for burst in bursts], np.int64),
            np.array(ends, np.int64),
            np.array(ids, np.int64).astype(np.uint16),  # without what stands above them at QoS 2
            np.array(flags, np.uint8),
            _joined([d.readings for d in all_decoded]),
        )
        readings = Readings(
            _joined([d.series for d in all_decoded]),
            _joined([d.sent for d in all_decoded]),
            _joined([d.value for d in all_decoded]),
        )
        return Tick(now, self.events, new_series, messages, readings, unreadable), dead


def beyond_letters(
    bursts: list[Burst], tick: Tick, beyond: list[tuple[int, int]], names: list[str]
) -> list[DeadLetter]:
    """Make dead letters of readings that cannot be told from a resend, one a message; it keeps all of the message's bytes (R4).

    Args:
        bursts: those of the tick.
        beyond: (message, reading), as the step put them out.
    """
    of_message: dict[int, list[int]] = {}
    for message, at in beyond:
        of_message.setdefault(message, []).append(at)
    with_messages = [burst for burst in bursts if burst.topics]
    ends = tick.messages.burst_end.tolist()
    letters = []
    for message, readings in of_message.items():
        which = bisect_right(ends, message)
        at = message - (ends[which - 1] if which else 0)
        said = [
            (names[tick.readings.series[i]], int(tick.readings.sent[i]), float(tick.readings.value[i]))
            for i in readings
        ]
        detail = ", ".join(f"{series} at {sent}" for series, sent, _ in said[:5])
        burst = with_messages[which]
        letters.append(
            DeadLetter(message, "beyond-horizon", detail, burst.topics[at], burst.payloads[at], said)
        )
    return letters


def _joined(columns: list[Any]) -> Any:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)
