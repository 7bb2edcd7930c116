"""What a demo runs: one box, or, with Kafka, four agents and two workers; with their settings, and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from headwater_appliance.box import Box, box_of
from headwater_appliance.demo_settings import Told, agent_settings, cloud_settings
from headwater_appliance.ports import steady_port
from headwater_appliance.supervise import Part
from headwater_appliance.up import agent, cloud_side, parts

AGENTS, WORKERS = 4, 2


class Agent(NamedTuple):
    """An agent of a demo."""

    name: str
    sites: list[str]
    """Those whose devices connect to it; none: all that no other has."""
    settings: Path
    data: Path
    port: int


class Stand(NamedTuple):
    """All that a demo runs beside the fleet, and Kafka."""

    parts: list[Part]
    box: Box
    """The cloud side with the first agent; the other agents stand beside it."""
    agents: list[Agent]


def one_box(folder: Path, told: Told) -> Stand:
    """Write the settings of one box."""
    only = Agent("demo", [], folder / "headwater.toml", folder / "data", steady_port())
    only.settings.write_text(agent_settings(told, only.name, only.data, only.port) + cloud_settings(told))
    return Stand(parts(only.settings), box_of(only.settings), [only])


def cluster(folder: Path, told: Told, sites: list[str], bus: str) -> Stand:
    """Write the settings of agents that share the sites, the first of which stands in one box with the workers."""
    agents: list[Agent] = []
    for number in range(min(AGENTS, len(sites))):
        name = sites[number]
        settings, data = (folder / f"{name}.toml", folder / name) if agents else (folder / "headwater.toml", folder / "data")  # fmt: skip
        agents.append(Agent(name, sites[number::AGENTS], settings, data, steady_port()))
        text = agent_settings(told, name, data, agents[-1].port, bus)
        settings.write_text(text if number else text + cloud_settings(told, bus, WORKERS))
    first, *others = agents
    box = box_of(first.settings)._replace(beside=tuple(one.data for one in others))
    edges = [agent(one.settings, f"agent-{one.name}") for one in agents]
    return Stand([*edges, *cloud_side(first.settings, box)], box, agents)
