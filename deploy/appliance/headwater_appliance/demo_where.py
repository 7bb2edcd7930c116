"""What a demo says at its beginning: what runs, where it is found, and what to try meanwhile."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from headwater_appliance.demo_run import Run
from headwater_appliance.demo_stand import Stand

_WIDE = 32


def where(run: Run, stand: Stand, health: Mapping[str, int], more: Sequence[str] = ()) -> list[str]:
    """Return the lines.

    Args:
        run: of the demo.
        stand: what runs.
        health: the port of each process, by name.
        more: lines of what stands behind Headwater.
    """
    fleet = run.devices
    hours = run.fleet_s * run.pace.scale / 3600
    devices = f"{run.pace.devices or fleet.devices} simulated {fleet.name}s on {len(fleet.sites)} sites"
    settings = os.path.relpath(stand.box.settings or "")
    if run.on_kafka:
        lines = [f"Headwater demo: {devices} send MQTT to {len(stand.agents)} agents on this machine, and these to Kafka and two workers."]  # fmt: skip
    else:
        lines = [f"Headwater demo: {devices} send MQTT to an agent on this machine."]
    if run.pace.scale != 1:
        lines.append(f"Time runs {run.pace.scale:g} times as fast: {hours:.0f} hours in {run.fleet_s} s.")
    for one in stand.agents:
        whose = f" of {', '.join(one.sites)}" if one.sites else ""
        lines.append(place(f"devices{whose} connect to", f"mqtt://127.0.0.1:{one.devices_port}"))
    for one in stand.agents:
        who = f"the agent {one.name}" if run.on_kafka else "the agent"
        lines.append(place(who, f"http://127.0.0.1:{health[one.name]}/health  and /metrics"))
    for process in stand.processes:
        who = process.name if run.on_kafka else "the cloud side"
        lines.append(place(who, f"http://127.0.0.1:{health[process.name]}/health  and /metrics"))
    if run.on_kafka:
        lines.append(place("Kafka", stand.box.cloud.bus))
    return [
        *lines,
        *more,
        place("what it stores", os.path.relpath(stand.box.data)),
        place("logs", os.path.relpath(run.folder / "demo.log")),
        "Meanwhile, in another terminal:",
        f"  .venv/bin/headwater query '{fleet.sites[0]}/*/{next(iter(fleet.metrics))}' --settings {settings} --last 3",
        f"  .venv/bin/headwater alerts --settings {settings}    (and: alerts show ID, incidents, rules explain ID)",
        f"  .venv/bin/headwater commands --settings {settings}",
        f"  .venv/bin/headwater-edge status --settings {settings}",
        "",
    ]


def place(what: str, where: str) -> str:
    """Return a line that says where something is found."""
    return f"  {what} ".ljust(_WIDE) + where
