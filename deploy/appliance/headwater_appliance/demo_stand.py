"""What a demo runs: one box, or, with Kafka, four agents and two workers; with their settings, and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from headwater_appliance.box import Box, Process, box_of
from headwater_appliance.demo_settings import Told, agent_settings, cloud_settings
from headwater_appliance.ports import steady_port
from headwater_appliance.supervise import Part
from headwater_appliance.up import agent, cloud_side, parts, sink_of

AGENTS, WORKERS = 4, 2
_WITH_BROKER = 2
"""Agents of a stack: to the first devices connect themselves, the other connects to the broker."""
_SOON_SILENT = """
[edge.devices]
silent_after = "6s"
offline_after = "3s"
"""
"""A pump that is not heard for some seconds is to be seen on the fleet's dashboard, and so is one whose connection ended."""


class Agent(NamedTuple):
    """An agent of a demo."""

    name: str
    sites: list[str]
    """Those whose devices connect to it; none: all that no other has."""
    settings: Path
    data: Path
    port: int
    broker: int = 0
    """The port of the broker that its devices connect to, and it as well."""

    @property
    def devices_port(self) -> int:
        """Where its devices connect to."""
        return self.broker or self.port


class Stand(NamedTuple):
    """All that a demo runs beside the fleet, and Kafka."""

    parts: list[Part]
    box: Box
    """The cloud side with the first agent; the other agents stand beside it."""
    agents: list[Agent]

    @property
    def processes(self) -> list[Process]:
        """Those of the cloud side, and the sink, if there is one."""
        sink = self.box.sink_process
        return [*self.box.cloud_processes, *([sink] if sink is not None else [])]


def one_box(folder: Path, told: Told) -> Stand:
    """Write the settings of one box."""
    only = Agent("demo", [], folder / "headwater.toml", folder / "data", steady_port())
    only.settings.write_text(agent_settings(told, only.name, only.data, only.port) + cloud_settings(told))
    return Stand(parts(only.settings), box_of(only.settings), [only])


def cluster(folder: Path, told: Told, sites: list[str], bus: str, broker: int = 0, behind: str = "") -> Stand:
    """Write the settings of agents that share the sites, the first of which stands in one box with the workers.

    Args:
        folder: of the demo.
        told: what all have in common.
        sites: of the fleet.
        bus: Kafka's address.
        broker: the port of a broker that the last agent connects to; 0: there is none.
        behind: settings of the cloud side for what stands behind it.
    """
    agents: list[Agent] = []
    number_of = min(_WITH_BROKER if broker else AGENTS, len(sites))
    for number in range(number_of):
        name = sites[number]
        settings, data = (folder / f"{name}.toml", folder / name) if agents else (folder / "headwater.toml", folder / "data")  # fmt: skip
        agents.append(Agent(name, sites[number::number_of], settings, data, steady_port(), broker if number == number_of - 1 else 0))  # fmt: skip
        text = agent_settings(told, name, data, agents[-1].port, bus, agents[-1].broker)
        text += _SOON_SILENT if broker else ""
        settings.write_text(text if number else f"{text}{cloud_settings(told, bus, WORKERS)}\n{behind}")
    first, *others = agents
    box = box_of(first.settings)._replace(beside=tuple(one.data for one in others))
    edges = [agent(one.settings, f"agent-{one.name}") for one in agents]
    return Stand([*edges, *cloud_side(first.settings, box), *sink_of(first.settings, box)], box, agents)
