"""How long a demo runs, at which pace, and on what."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from headwater_appliance.demo_settings import Pace, Told, clock_of
from headwater_firmware_sim import scenario as scenarios

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
    fleet: str = ""
    """The scenario that devices go by, if it is another one: a file."""

    @property
    def devices(self) -> scenarios.Scenario:
        """The scenario that devices go by."""
        return scenarios.read(self.fleet or self.scenario)

    @property
    def on_kafka(self) -> bool:
        return self.ground != "box"

    def told(self) -> Told:
        """Return what all processes are told that start now."""
        lead_s = _LEADS_S[self.ground] if self.origin_us is not None else 0.0
        return Told(self.scenario, clock_of(self.pace, self.origin_us, lead_s), self.pace.scale)

    def with_more(self) -> Run:
        """Return the run with what its devices have more on its ground, if anything: the scenario's file with that is in its folder then."""
        more = resources.files("headwater_appliance") / "rules" / f"{self.scenario}-on-{self.ground}.toml"
        if not more.is_file():
            return self
        file = self.folder / f"{self.scenario}.toml"
        file.write_text(f"{dict(scenarios.names())[self.scenario].read_text()}\n{more.read_text()}")
        return self._replace(fleet=str(file))
