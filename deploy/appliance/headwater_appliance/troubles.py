"""What is wrong with a box, each in a sentence with its remedy, from what was seen; the worst first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from headwater_appliance.box import Box
from headwater_appliance.shown import ago, amount, named, size_of
from headwater_appliance.state_of_box import State
from headwater_shared.settings import size

LAG_S = 60.0
"""Windows that are complete up to so long ago, and no more, are behind."""
_STEP_US = 500_000
_FEW_DAYS = 7.0


class Trouble(msgspec.Struct, frozen=True):
    """Something that a person should know."""

    severity: Literal["wrong", "warning"]
    """wrong: something does not work now, or loses something soon; warning: look at it when there is time."""
    text: str
    remedy: str


def troubles(box: Box, state: State) -> list[Trouble]:
    """Return all that is wrong; empty if nothing is."""
    found = [
        *_of_parts(box, state),
        *_of_sink(box, state),
        *_of_disk(box, state),
        *_of_data(box, state),
        *_of_clock(box, state),
    ]
    return sorted(found, key=lambda one: one.severity != "wrong")


def _of_parts(box: Box, state: State) -> Iterator[Trouble]:
    now = state.now
    start = box.command("headwater up")
    if now.edge is None and now.cloud is None:
        other = "" if box.settings else "; or name the settings of the one that runs: --settings FILE"
        yield Trouble(
            "wrong",
            f"Headwater does not run here, in the data folder {box.data}",
            f"start it: {start}{other}",
        )
        return
    if now.edge is None:
        yield Trouble(
            "wrong", "the agent does not run: devices are not heard",
            f"'headwater up' starts it again by itself; if it does not, its log says why; else {start}",
        )  # fmt: skip
    elif not now.agent:
        yield Trouble(
            "wrong", f"the agent (process {now.edge.pid}) runs and does not answer: {now.agent_why}",
            f"it may be starting; if it stays so, end it (kill {now.edge.pid}): 'headwater up' starts it again, nothing is lost",
        )  # fmt: skip
    for said in now.agent.get("detector_troubles", []):
        yield Trouble("warning", said, "see 'headwater-edge detectors', and docs/detection.md")
    if now.cloud is None:
        yield Trouble(
            "wrong", "the cloud side does not run: readings wait at the agent, nothing is lost",
            f"'headwater up' starts it again by itself; if it does not, its log says why; else {start}",
        )  # fmt: skip
    elif not now.cloud_health:
        yield Trouble(
            "wrong", f"the cloud side (process {now.cloud.pid}) runs and does not answer: {now.cloud_why}",
            f"it may be starting; if it stays so, end it (kill {now.cloud.pid}): 'headwater up' starts it again, nothing is lost",
        )  # fmt: skip
    for name in [name for name, worker in now.workers.items() if worker is None and now.cloud is not None]:
        yield Trouble(
            "wrong", f"{name} of the cloud side does not run: the others have its shards, nothing is lost",
            f"'headwater up' starts it again by itself; if it does not, its log says why; else {start}",
        )  # fmt: skip
    for reason in now.cloud_health.get("reasons", []):
        remedy = (
            "'headwater notify list' says what waits" if "notifications" in reason else "its log says more"
        )
        yield Trouble("wrong", f"the cloud side says: {reason}", remedy)
    for name, route in now.cloud_health.get("notify", {}).get("routes", {}).items():
        if route["refused"]:
            yield Trouble(
                "warning", f"{amount(route['refused'], 'notification')} of the route {name} were refused: nobody was told",
                "'headwater notify list' says why, 'headwater notify retry' tries them again",
            )  # fmt: skip
    if state.agent_version not in {"", state.installed} and now.edge is not None:
        yield Trouble(
            "warning", f"the agent runs version {state.agent_version}, installed is {state.installed}",
            "start Headwater again to run what is installed",
        )  # fmt: skip


def _of_sink(box: Box, state: State) -> Iterator[Trouble]:
    """Of what writes into InfluxDB: nothing else waits for it, and cloud.db keeps what it has not written."""
    now = state.now
    if box.sink_process is None or (now.cloud is None and now.sink is None):
        return
    if now.sink is None:
        yield Trouble(
            "wrong", "the sink does not run: InfluxDB gets nothing, which waits in the cloud side's file",
            f"'headwater up' starts it again by itself; its log says why it ends; else {box.command('headwater-cloud sink run')}",
        )  # fmt: skip
        return
    if not now.sink_health:
        yield Trouble(
            "wrong", f"the sink (process {now.sink.pid}) runs and does not answer: {now.sink_why}",
            "it may be starting; if it stays so, end it: 'headwater up' starts it again, nothing is lost",
        )  # fmt: skip
    for reason in now.sink_health.get("reasons", []):
        text, _, hint = reason.partition("\n  hint: ")
        yield Trouble("wrong", f"the sink says: {text}", hint or "its log says more; nothing is lost")
    dead = now.sink_health.get("sink", {}).get("dead_letters", 0)
    if dead:
        yield Trouble(
            "warning", f"InfluxDB refused {amount(dead, 'point')} for ever",
            f"{box.command('headwater-cloud sink list')} says why, then 'headwater-cloud sink retry' tries them again",
        )  # fmt: skip


def _of_disk(box: Box, state: State) -> Iterator[Trouble]:
    now, agent = state.now, state.now.agent
    more_quota = "see that the cloud side runs and takes what waits, or raise edge.disk.quota"
    if agent.get("holding_back"):
        remedy = more_quota if "quota" in agent["holding_back"] else "free space on the disk"
        yield Trouble(
            "wrong", f"the agent holds back, devices keep what they have: {agent['holding_back']}",
            f"{remedy}; it goes on by itself",
        )  # fmt: skip
    elif agent.get("making_room"):
        yield Trouble(
            "warning", "the disk quota is nearly reached: fine windows are let go where coarser ones hold the same", more_quota
        )  # fmt: skip
    elif state.days_to_quota is not None and state.days_to_quota < _FEW_DAYS:
        yield Trouble(
            "warning", f"what waits for the cloud side reaches the disk quota in {ago(state.days_to_quota * 86_400)}", more_quota
        )  # fmt: skip
    floor = size(box.edge.disk.free)
    if not agent.get("holding_back") and now.free < floor:
        yield Trouble(
            "wrong", f"only {size_of(now.free)} of the disk are free, and edge.disk.free asks for {size_of(floor)}", "free space on the disk"
        )  # fmt: skip
    elif state.days_to_full is not None and state.days_to_full < _FEW_DAYS:
        yield Trouble(
            "warning", f"at the rate so far the disk is full in {ago(state.days_to_full * 86_400)}",
            "free space on the disk, or keep history for a shorter time (cloud.keep)",
        )  # fmt: skip
    if agent.get("files_set_aside"):
        yield Trouble(
            "warning", f"a damaged file of the agent was set aside: {agent['lost_ticks']} ticks could not be read, {agent['salvaged']} readings are dead letters",
            f"docs/damaged-files.md says what to do; once you have looked, remove {box.edge_file}.damaged-*",
        )  # fmt: skip


def _of_data(box: Box, state: State) -> Iterator[Trouble]:
    agent = state.now.agent
    for name, broker in agent.items():
        if name.startswith("broker ") and not broker["connected"]:
            yield Trouble("wrong", f"the {name} is away: {broker.get('why', '')}", "see that it runs and can be reached; the agent connects by itself")  # fmt: skip
        elif name.startswith("broker ") and broker.get("refused"):
            yield Trouble("wrong", f"the {name} refuses {', '.join(broker['refused'])}", "allow this agent's user to subscribe to it")  # fmt: skip
    stands_still = state.now.cloud is not None and not state.now.cloud_health
    if agent.get("forward") == "offline" and state.now.cloud is not None:
        yield Trouble(
            "wrong",
            f"the agent cannot write to the bus: {amount(agent['outbox'], 'row')} wait in its file, nothing is lost",
            "mend the cloud side first: it may hold the bus"
            if stands_still
            else f"{box.bus_remedy}; and at the agent's log",
        )
    behind = state.windows_behind_s
    if behind is not None and behind > LAG_S and state.now.cloud_health and state.now.agent:
        yield Trouble(
            "warning", f"windows are complete only up to {ago(behind)} ago",
            "it is catching up if the backlog falls; else look at the silent devices, and at the agent's log",
        )  # fmt: skip
    if state.rates.get("dead", 0) > 0:
        yield Trouble(
            "wrong", f"messages that cannot be read come in: {state.rates['dead']:.1f} a second",
            f"{box.command('headwater-edge dead-letters list')} shows them and why",
        )  # fmt: skip
    elif agent.get("dead_letters"):
        yield Trouble(
            "warning", f"{amount(agent['dead_letters'], 'message')} could not be taken in, kept as dead letters",
            f"{box.command('headwater-edge dead-letters list')}; then replay or purge them",
        )  # fmt: skip
    silent = [device.device for device in state.devices if device.silent(state.now.wall_us)]
    if silent and state.now.edge is not None:
        yield Trouble(
            "warning", f"{amount(len(silent), 'device')} {'is' if len(silent) == 1 else 'are'} silent: {named(silent)}",
            f"see that they have power and network; {box.command('headwater devices --silent')} lists them",
        )  # fmt: skip


def _of_clock(box: Box, state: State) -> Iterator[Trouble]:
    remedy = "see that this machine reaches a time server: timedatectl status, or chronyc tracking"
    if not state.now.synchronised:
        yield Trouble("wrong", "the clock is not set: readings without a time of their own wait, and are marked", remedy)  # fmt: skip
    elif not state.now.kernel_synchronised:
        yield Trouble(
            "warning", "no time server keeps this machine's clock right",
            remedy + ("" if box.common.clock == "ntp" else '; on a machine without a clock of its own set common.clock = "ntp"'),
        )  # fmt: skip
    if abs(state.clock_step_us) > _STEP_US and box.common.clock == "real":
        yield Trouble("warning", f"the clock was set by {state.clock_step_us / 1e6:+.1f} s just now", "nothing, if that was wanted; else " + remedy)  # fmt: skip
