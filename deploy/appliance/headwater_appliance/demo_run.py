"""How long a demo runs, at which pace, and on what."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from headwater_appliance.demo_settings import Pace, Told, clock_of

Ground = Literal["box", "kafka", "stack"]
"""What a demo stands on: one box; several agents and workers with a Kafka between; these with a broker before them, and stores and screens behind."""

_LEADS_S = {"box": 5.0, "kafka": 12.0, "stack": 12.0}
"""So long before an origin that was asked for the processes start; a fleet that is late makes up for what it missed."""


class Run(NamedTuple):
    """How a demo runs, and what it tells."""

    folder: Path
    fleet_s: int
    scenario: str
    pace: Pace
    seed: int
    origin_us: int | None
    ground: Ground
    tampered: bool = False
    """Stored windows are altered before the audit."""

    @property
    def on_kafka(self) -> bool:
        return self.ground != "box"

    def told(self) -> Told:
        """Return what all processes are told that start now."""
        lead_s = _LEADS_S[self.ground] if self.origin_us is not None else 0.0
        return Told(self.scenario, clock_of(self.pace, self.origin_us, lead_s), self.pace.scale)
