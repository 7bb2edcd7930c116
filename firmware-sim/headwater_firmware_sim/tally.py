"""The tally: what the fleet did so far, and the lines that people and programs read meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """Counts since the start of the process; the ledger has the truth of the whole run."""

    devices: int = 0
    connected: int = 0
    in_flight: int = 0
    messages: int = 0
    """New ones, sent once at least."""
    readings: int = 0
    """New ones in them, copies too."""
    acknowledged: int = 0
    """Messages."""
    resent: int = 0
    """Messages sent again, with DUP or as new ones."""
    refused: int = 0
    connections: int = 0
    drops: int = 0
    reboots: int = 0
    commands: int = 0
    """That came, repeats too."""
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """By the wall clock, since the start."""
        return time.monotonic() - self.begun

    def snapshot(self) -> dict[str, Any]:
        """Return all counts, as `--json` prints them."""
        names = (name for name in self.__slots__ if name != "begun")
        return {"seconds": round(self.seconds, 3), **{name: getattr(self, name) for name in names}}


def line(now: dict[str, Any], before: dict[str, Any]) -> str:
    """Say in one line for people what happened since the snapshot before."""
    span = max(1e-3, now["seconds"] - before["seconds"])
    readings = (now["readings"] - before["readings"]) / span
    messages = (now["messages"] - before["messages"]) / span
    return (
        f"{now['seconds']:6.0f} s  {now['connected']}/{now['devices']} devices  {readings:7,.0f} readings/s  "
        f"{messages:6,.0f} messages/s  in flight {now['in_flight']:,}  acknowledged {now['acknowledged']:,}  "
        f"resent {now['resent']:,}  drops {now['drops']}  reboots {now['reboots']}"
    )
