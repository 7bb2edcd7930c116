"""Outputs go from the consumer's file to the bus, by their ids: after a crash they go again, and the bus skips them (R27)."""

from __future__ import annotations

from headwater_cloud.outputs import Waiting
from headwater_shared.bus import Bus
from headwater_shared.crash import reached

_AT_ONCE = 500
"""Records of one append: other writers of the log wait no longer than for that."""


class Publisher:
    """Holds the outputs that are committed and not known to be on the bus."""

    def __init__(self, bus: Bus, waiting: list[Waiting]) -> None:
        self._bus = bus
        self._waiting = waiting
        self.published = 0
        """The last id known to be on the bus: rows up to it may go from the file."""

    def __len__(self) -> int:
        return len(self._waiting)

    def committed(self, outputs: list[Waiting]) -> None:
        """Take over what a commit put into the file."""
        self._waiting += outputs

    def publish(self) -> None:
        """Append all that waits.

        Raises:
            BusUnavailable: some is still waiting; call again.
        """
        while self._waiting:
            producer, first, _ = self._waiting[0]
            run = [
                record
                for n, (name, number, record) in enumerate(self._waiting[:_AT_ONCE])
                if (name, number) == (producer, first + n)  # the ids of one append follow one another
            ]
            reached("cloud.publish.before")
            self._bus.append_once(producer, first, run)
            reached("cloud.publish.after")
            del self._waiting[: len(run)]
            self.published = first + len(run) - 1
