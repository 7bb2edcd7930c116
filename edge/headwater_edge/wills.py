"""Wills: what a client wants published once its connection has ended without a farewell, each exactly once (R13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from headwater_edge.events import Connect, WillMessage, WillsPublished
from headwater_edge.source import Burst, WithoutClients
from headwater_shared.clock import Clock

GRACE_US = 90_000_000
"""After a restart, for a client that promised no keep alive: as if it had promised a minute."""
_NEVER_US = 2**62


class _Waiting(msgspec.Struct, array_like=True):
    """A will whose client may still come back in time."""

    will: WillMessage
    due_us: int
    restarted: bool
    """It was we who went: a client that comes back owes nothing, whether or not it wants its session."""


class Wills:
    """All wills: of live connections, of clients that may come back, and due. Pure state; monotonic microseconds."""

    def __init__(self) -> None:
        self.live: dict[int, tuple[str, WillMessage, int]] = {}
        """By connection: client, will, keep alive in seconds."""
        self.waiting: dict[str, _Waiting] = {}
        self.due: dict[int, WillMessage] = {}
        """By a number of its own; each is to be published, and gone with the tick that did so."""
        self.next_number = 1
        self._next_us = _NEVER_US

    def connected(self, event: Connect) -> None:
        """A client is there: what waited for it is cancelled, unless its old session ends with this (MQTT 5, 3.1.2.5)."""
        before = self.waiting.pop(event.client, None)
        if before is not None and event.clean and not before.restarted:
            self._fall_due(before.will)
        if event.will is not None:
            self.live[event.connection] = (event.client, event.will, event.keep_alive_s)

    def ended(self, connection: int, *, clean: bool, expiry_s: int, now_us: int) -> None:
        """A connection ended; the will waits as long as it asks for, but not beyond the session."""
        client, will, _ = self.live.pop(connection, ("", None, 0))
        if will is None or clean:
            return
        delay_us = min(will.delay_s, expiry_s) * 1_000_000
        if delay_us:
            self._wait(client, _Waiting(will, now_us + delay_us, restarted=False))
        else:
            self._fall_due(will)

    def session_ended(self, client: str) -> None:
        """An absent client's session was let go."""
        waiting = self.waiting.pop(client, None)
        if waiting is not None:
            self._fall_due(waiting.will)

    def start(self, shift_us: int, now_us: int) -> None:
        """All connections are gone, and not by their clients' doing: each has its keep alive (x1.5) to come back."""
        for waiting in self.waiting.values():
            waiting.due_us += shift_us
        for client, will, keep_alive_s in self.live.values():
            grace_us = keep_alive_s * 1_500_000 or GRACE_US
            due_us = now_us + grace_us + will.delay_s * 1_000_000
            self.waiting[client] = _Waiting(will, due_us, restarted=True)
        self.live.clear()
        self._look_ahead()

    def is_due(self, now_us: int) -> bool:
        """Whether time alone makes a will due."""
        return now_us >= self._next_us

    def ripen(self, now_us: int) -> None:
        """Wills whose clients did not come back in time are due."""
        if now_us < self._next_us:
            return
        for client, waiting in list(self.waiting.items()):
            if waiting.due_us <= now_us:
                self.session_ended(client)
        self._look_ahead()

    def published(self, numbers: list[int]) -> None:
        """These are messages of this tick."""
        for number in numbers:
            self.due.pop(number, None)

    def _wait(self, client: str, waiting: _Waiting) -> None:
        self.waiting[client] = waiting
        self._next_us = min(self._next_us, waiting.due_us)

    def _fall_due(self, will: WillMessage) -> None:
        self.due[self.next_number] = will
        self.next_number += 1

    def _look_ahead(self) -> None:
        self._next_us = min((waiting.due_us for waiting in self.waiting.values()), default=_NEVER_US)

    def dump(self) -> dict[str, object]:
        return {"live": self.live, "waiting": self.waiting, "due": self.due, "next": self.next_number}

    def load(self, dumped: dict[str, object]) -> None:
        self.live = msgspec.convert(dumped["live"], dict[int, tuple[str, WillMessage, int]], strict=False)
        self.waiting = msgspec.convert(dumped["waiting"], dict[str, _Waiting])
        self.due = msgspec.convert(dumped["due"], dict[int, WillMessage], strict=False)
        self.next_number = msgspec.convert(dumped["next"], int)
        self._look_ahead()


class WillSource(WithoutClients):
    """A source (`headwater_edge.source.Source`) that publishes wills that are due: they are messages like all others.

    A will goes with the tick that takes its message in, so a crash before the commit publishes it again after the
    start, and one after it does not.
    """

    def __init__(self, wills: Wills, clock: Clock, deliver: Callable[[Burst], None]) -> None:
        self._wills = wills
        self._clock = clock
        self._deliver = deliver
        self._on_their_way: set[int] = set()

    def look(self) -> None:
        """Deliver what is due; the agent calls it after each commit."""
        numbers = [number for number in self._wills.due if number not in self._on_their_way]
        if not numbers:
            return
        burst = Burst(self._clock.now().wall_us)
        for number in numbers:
            will = self._wills.due[number]
            burst.topics.append(will.topic)
            burst.payloads.append(will.payload)
            burst.size += len(will.topic) + len(will.payload)
        burst.packet_ids = burst.flags = [0] * len(numbers)
        burst.runs.append((0, len(numbers)))
        burst.events.append((0, WillsPublished(numbers)))
        self._on_their_way.update(numbers)
        self._deliver(burst)

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        """They are on disk as messages, and no wills any more."""
        self._on_their_way.intersection_update(self._wills.due)
