"""The screen of `headwater status`, and the upper part of that of `headwater watch`."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headwater_appliance.box import Box
from headwater_appliance.processes import Running
from headwater_appliance.shown import STYLES, ago, amount, at_time, named, rate_of, shortened, size_of
from headwater_appliance.state_of_box import State
from headwater_appliance.troubles import Trouble
from headwater_shared.kafka_settings import is_kafka

_BAR = 20


def screen(box: Box, state: State, found: Sequence[Trouble]) -> RenderableType:
    """Everything, top to bottom."""
    return Group(head(state, found), Text(), facts(box, state), *remedies(found))


def head(state: State, found: Sequence[Trouble]) -> RenderableType:
    """Where, when, and whether all is well."""
    wrong = sum(one.severity == "wrong" for one in found)
    warnings = len(found) - wrong
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    if wrong:
        word = Text(f"{wrong} wrong", STYLES["wrong"])
    elif warnings:
        word = Text(f"works, {amount(warnings, 'warning')}", STYLES["warning"])
    else:
        word = Text("all is well", "bold green")
    when = at_time(state.now.wall_us, 0)
    line.add_row(Text(f"Headwater on {shortened(socket.gethostname(), 24)}  {when} UTC", "bold"), word)
    return line


def facts(box: Box, state: State) -> RenderableType:
    """What runs and how it does, a line a thing."""
    now, agent = state.now, state.now.agent
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column()
    lines.add_row("agent", _process(now.edge, bool(agent), state.rates.get("edge_cpu"), state.agent_version))
    lines.add_row("cloud side", _cloud_side(state))
    if box.sink_process is not None:
        lines.add_row("store", _sink(state))
    if agent:
        lines.add_row(
            "readings",
            f"{rate_of(state.rates.get('readings', 0))} now; {agent['accepted']:,} counted, "
            f"{agent['by_transport'] + agent['by_meaning'] + agent['by_horizon']:,} resent, {agent['late']:,} late",
        )
        lines.add_row(
            "dead letters", f"{agent['dead_letters']:,} kept ({size_of(agent['dead_letter_bytes'])})"
        )
        lines.add_row("forwarding", _forwarding(state))
    elif state.outbox.rows:
        lines.add_row(
            "outbox", f"{amount(state.outbox.rows, 'row')} wait in the agent's file for the cloud side"
        )
    lines.add_row("windows", _windows(state))
    lines.add_row("bus", _bus(box, state))
    lines.add_row("disk", _disk(box, state))
    lines.add_row("clock", _clock(box, state))
    lines.add_row("devices", _devices(state))
    lines.add_row("alerts", _alerts(state))
    return lines


def remedies(found: Sequence[Trouble]) -> list[RenderableType]:
    """A paragraph for each thing that is wrong."""
    if not found:
        return []
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    for one in found:
        lines.add_row(Text(one.severity.upper(), STYLES[one.severity]), one.text)
        lines.add_row("", Text(f"> {one.remedy}", "dim"))
    return [Text(), lines]


def _cloud_side(state: State) -> Text:
    now = state.now
    said = _process(now.cloud, bool(now.cloud_health), state.rates.get("cloud_cpu"), "")
    if now.workers and now.cloud is not None:
        there = [name for name, worker in now.workers.items() if worker is not None]
        said.append(f"; {', '.join(there)} of {len(now.workers)}")
    return said


def _sink(state: State) -> Text:
    now = state.now
    said = _process(now.sink, bool(now.sink_health), None, "")
    of = now.sink_health.get("sink")
    if of:
        behind = f"{ago(of['behind_s'])} behind" if of["behind"] else "up to date"
        said.append(
            f"; {of['points']:,} points, {behind}{', older rows beside' if of['catching_up'] else ''}"
        )
    return said


def _process(process: Running | None, answers: bool, cpu: float | None, version: str) -> Text:
    if process is None:
        return Text("does not run", STYLES["wrong"])
    said = Text("runs" if answers else "runs, does not answer", "green" if answers else STYLES["wrong"])
    said.append(
        f"  process {process.pid}, since {ago(process.uptime_s)}, {size_of(process.memory_bytes)}", ""
    )
    if cpu is not None:
        said.append(f", {cpu:.0%} CPU")
    if version:
        said.append(f", version {version}")
    return said


def _forwarding(state: State) -> str:
    agent = state.now.agent
    modes = {"live": "live", "backlog": "draining a backlog", "offline": "the bus is away"}
    said = f"{modes.get(agent['forward'], agent['forward'])}; {amount(agent['outbox'], 'row')} not yet in the cloud"
    if agent["backlog"]:
        said += f", {agent['backlog']:,} of them backlog"
        if agent["drain_rate"]:
            said += f" (drained at {rate_of(agent['drain_rate'])}, {ago(agent['backlog'] / agent['drain_rate'])} to go)"
    if agent["oldest_unsent_s"] >= 1:
        said += f"; the oldest waits for {ago(agent['oldest_unsent_s'])}"
    return said


def _windows(state: State) -> str:
    if state.windows_behind_s is None:
        return "none yet"
    return f"complete up to {ago(state.windows_behind_s)} ago"


def _bus(box: Box, state: State) -> str:
    now, rates = state.now, state.rates
    if is_kafka(box.cloud.bus):
        lag = now.cloud_health.get("lag_records")
        return "Kafka" if lag is None else f"Kafka; {amount(lag, 'record')} to read"
    if now.records is None:
        return (
            "cannot be read now: another process holds it, or it is damaged"
            if box.bus_file.exists()
            else "not there yet"
        )
    to_read = max(now.records - now.read, 0) if now.read is not None else now.records
    said = f"{rate_of(rates.get('records', 0))} written"
    if "read" in rates:
        said += f", {rate_of(rates['read'])} read by the cloud side"
    return f"{said}; {amount(to_read, 'record')} to read"


def _disk(box: Box, state: State) -> RenderableType:
    now, agent = state.now, state.now.agent
    lines = []
    if agent.get("disk_quota"):
        share = min(agent["disk_taken"] / agent["disk_quota"], 1.0)
        full = round(share * _BAR)
        left = (
            f"; full in {ago(state.days_to_quota * 86_400)} at this rate"
            if state.days_to_quota is not None
            else ""
        )
        lines.append(
            Text(
                "█" * full + "░" * (_BAR - full),
                "red" if share > 0.9 else "yellow" if share > 0.75 else "green",
            )
            + Text(
                f" agent {size_of(agent['disk_taken'])} of {size_of(agent['disk_quota'])} (edge.disk.quota){left}"
            )
        )
    files = ", ".join(f"{name} {size_of(bytes_)}" for name, bytes_ in now.files.items()) or "no files yet"
    full_in = (
        f"; full in {ago(state.days_to_full * 86_400)} at the rate so far"
        if state.days_to_full is not None
        else ""
    )
    lines += [Text(f"{size_of(now.free)} free{full_in}"), Text(f"{files}")]
    return Group(*lines)


def _clock(box: Box, state: State) -> str:
    said = "set" if state.now.synchronised else "not set"
    if state.now.kernel_synchronised:
        said += ", kept right by a time server"
    elif box.common.clock != "ntp":
        said += ", kept right by no time server"
    if box.common.clock.startswith("scaled"):
        said += f"; runs {box.common.clock.partition(':')[2].partition('@')[0]} times as fast (simulation)"
    if back := state.now.agent.get("set_back"):
        said += f"; was set back {back} times"
    return said


def _devices(state: State) -> str:
    if not state.devices:
        return "none yet"
    if state.now.edge is None:
        return f"{len(state.devices):,} known; no agent hears them now"
    silent = [device.device for device in state.devices if device.silent(state.now.wall_us)]
    said = f"{len(state.devices):,} known, {len(state.devices) - len(silent):,} send"
    return said + (f", {len(silent):,} silent: {named(silent)}" if silent else "")


def _alerts(state: State) -> RenderableType:
    if not state.alerts:
        return Text("none fires")
    said = Text(f"{amount(len(state.alerts), 'alert')} fire{'s' if len(state.alerts) == 1 else ''}")
    for alert in state.alerts[:3]:
        said.append(f"\n{alert.severity}", STYLES.get(alert.severity, ""))
        said.append(
            f"  {shortened(alert.subject, 40)}  {alert.rule} since {at_time(alert.episode_us, state.now.wall_us)}"
        )
    if len(state.alerts) > 3:
        said.append(f"\nand {len(state.alerts) - 3:,} more: headwater alerts --firing")
    return said
