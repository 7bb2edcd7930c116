"""The sources of one agent: whose each burst in memory is, and all of them paused and resumed together."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TypeVar

from headwater_edge.output import Output
from headwater_edge.source import Burst, Source

S = TypeVar("S", bound=Source)


class Sources:
    """Attached sources; a burst is given back to the one that brought it."""

    def __init__(self, deliver: Callable[[Source, Burst], None], most: int) -> None:
        """`most`: readings and messages that may wait in memory before the sources are paused, at twice as many."""
        self._deliver = deliver
        self.most = most
        self._attached: list[Source] = []
        self._of: dict[int, Source] = {}
        """By the burst's id, while it is in memory."""
        self.paused = self.holding = False
        self.pauses = 0

    def attach(self, source_of: Callable[[Callable[[Burst], None]], S]) -> S:
        """Attach a source: `source_of(deliver)` makes it."""

        def deliver(burst: Burst) -> None:
            self._of[id(burst)] = source
            self._deliver(source, burst)

        source = source_of(deliver)
        self._attached.append(source)
        return source

    def acknowledge(self, bursts: list[Burst], output: Output) -> None:
        """Give committed bursts back, to each source its own in the order of arrival."""
        by_source: dict[int, tuple[Source, list[Burst]]] = {}
        for burst in bursts:
            burst.unknown, burst.verdicts = output.unknown, output.verdicts
            source = self._of.pop(id(burst), None)
            if source is not None:
                by_source.setdefault(id(source), (source, []))[1].append(burst)
        for source, own in by_source.values():
            source.acknowledge(own, output.sessions)

    def command(self, topic: bytes, payload: bytes, left_s: int, but: Container[int]) -> list[int]:
        """Send a command by every source over which somebody may hear it (see `Source`)."""
        every = [source.command(topic, payload, left_s, but) for source in self._attached]
        return [connection for connections in every for connection in connections]

    def weigh(self, waiting: int) -> None:
        """Pause where too much waits in memory, resume when half of that is gone."""
        if not self.paused and waiting > 2 * self.most:
            self.paused = True
            self.pauses += 1
            for source in self._attached:
                source.pause()
        elif self.paused and not self.holding and waiting <= self.most:
            self._resume()

    def hold(self, why: str) -> None:
        """Hold back, or go on ("")."""
        before, self.holding = self.holding, bool(why)
        if self.holding and not before:
            for source in self._attached:
                source.hold()
        elif before and not self.holding and not self.paused:
            self._resume()

    def _resume(self) -> None:
        self.paused = False
        for source in self._attached:
            source.resume()
