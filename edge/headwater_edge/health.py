"""What the agent says of itself: status for people, health for supervisors, metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headwater_edge.aside import all_aside
from headwater_edge.detection.told import troubles
from headwater_edge.pipeline import Agent
from headwater_edge.presence import OFFLINE, SILENT
from headwater_edge.pressure import MORE_QUOTA

_NAMED = 20
"""Devices that the status names, the longest unheard first."""


def status(agent: Agent) -> dict[str, Any]:
    """Return the agent's state in numbers; safe from any thread, each number by itself."""
    state, forward = agent.state, agent.forward
    return {
        "agent": state.settings.agent,
        "epoch": f"{state.epoch:016x}",
        "tick": agent.committed,
        "series": len(agent.index),
        "evicted": agent.evicting.evicted,
        "returned": agent.evicting.returned,
        "devices": len(state.device_numbers),
        **{f"devices_{status}": devices for status, devices in state.presence.counts().items()},
        "silent_devices": state.presence.named(SILENT, _NAMED),
        "offline_devices": state.presence.named(OFFLINE, _NAMED),
        "not_listed": agent.decode.not_listed,
        "readers": state.sessions.readers,
        **msgspec.to_builtins(state.counters),
        "dead_letters": agent.letters.letters,
        "dead_letter_bytes": agent.letters.size,
        "refused": agent.letters.refused,
        "skipped": agent.decode.skipped,
        "sequence_gaps": sum(agent.decode.formats.sparkplug.gaps.values()),
        "outbox": forward.pending,
        "forward": forward.mode,
        "forwarded": forward.sent_rows,
        "replayed": forward.replayed_rows,
        "backlog": forward.outbox.waiting,
        "oldest_unsent_s": round(forward.oldest_s, 3),
        "drain_rate": round(forward.drain_rate, 1),
        "snapshots": list(agent.keeping.snapshots),
        **disk(agent),
        "commands": {
            "open": len(state.commands.open()),
            "waiting_for_their_device": agent.courier.waiting,
            **msgspec.to_builtins(state.commands.counts),
        },
        "holding_back": agent.holding,
        "early_ticks": agent.ticker.early_ends,
        "detector_troubles": troubles(state),
        **_of_damage(agent),
        **agent.put_out.status(),
    }


def _of_damage(agent: Agent) -> dict[str, Any]:
    """What became of the last file that was set aside; it stays in the status as long as the file lies there."""
    files = all_aside(agent.path)
    last = agent.set_aside
    return {
        "files_set_aside": len(files),
        "lost_ticks": last.lost_ticks if last else 0,
        "lost_outbox_rows": last.lost_rows if last else 0,
        "salvaged": last.salvaged if last else 0,
    }


def disk(agent: Agent) -> dict[str, Any]:
    """Return what the agent takes of its disk, and what it gave up for that, in numbers."""
    pressure, space = agent.pressure, agent.pressure.space
    return {
        "disk_taken": space.taken if space else 0,
        "disk_quota": pressure.quota,
        "disk_free": space.free if space else 0,
        "file_bytes": space.used + space.unused if space else 0,
        "snapshot_bytes": agent.keeping.snapshot_bytes,
        "ballast_bytes": space.ballast if space else 0,
        "ballasts_given_up": pressure.ballasts_given_up,
        "making_room": pressure.high,
        "horizon_s": pressure.horizon_us(agent.state.settings.horizon_us) // 1_000_000,
        "provisional": agent.provisional.found,
        "provisional_now": agent.provisional.broken,
    }


def health(agent: Agent) -> dict[str, Any]:
    """Return what `/health` answers: reasons if something is wrong."""
    reasons = []
    if agent.holding:
        reasons.append(f"holding back: {agent.holding}; {agent.pressure.hint}")
        if agent.provisional.broken:
            reasons.append(f"limits broken by readings that wait: {agent.provisional.broken}; see the log")
    if agent.pressure.high:
        reasons.append(
            f"the disk quota is nearly reached: fine windows are coalesced ({agent.state.counters.coalesced} so far), and "
            f"the dedupe horizon is 1/{agent.pressure.horizon_shrunk}; {MORE_QUOTA}"
        )
    if agent.pressure.quota > agent.pressure.asked_quota:
        reasons.append(
            f"edge.disk.quota is too small: the agent's state needs {agent.pressure.quota:,} bytes"
        )
    if agent.pressure.lacks_ballast:
        reasons.append("the disk has no room for the ballast; free space")
    if agent.letters.full:
        reasons.append(
            "the dead letters are full, and messages that cannot be read are not acknowledged: "
            "see 'headwater-edge dead-letters list', then replay or purge them"
        )
    reasons += agent.put_out.troubles()
    forward = agent.forward
    if forward.mode == "offline":
        reasons.append("the bus is away; everything waits in the outbox")
    said: dict[str, Any] = {"reasons": reasons, "ready": agent.committed > 0, "tick": agent.committed}
    if all_aside(agent.path):  # nothing that starting again would mend: no reason to call the agent failing
        why = f": {agent.set_aside.why}" if agent.set_aside else ""
        said["set_aside"] = [file.name for file in all_aside(agent.path)]
        said["damage"] = (
            f"a damaged file was set aside{why}; see 'headwater-edge status', and remove the file once you have looked"
        )
    if detectors := troubles(agent.state):
        said["detectors"] = detectors  # nothing that holds anything up, either
    return said | {
        "forward": forward.mode,
        "backlog": forward.outbox.waiting,
        "oldest_unsent_s": round(forward.oldest_s, 3),
    }


class AgentMetrics(Collector):
    """Reads the agent's plain numbers when Prometheus asks, so that the hot path counts in plain integers."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        counters = self._agent.state.counters
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"headwater_edge_{name}", text, value=getattr(counters, name))
        numbers = status(self._agent)
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"headwater_edge_{name}", text, value=numbers[name])
        for name, text in _FORWARDED.items():
            yield CounterMetricFamily(f"headwater_edge_{name}", text, value=numbers[name])
        mode = GaugeMetricFamily("headwater_edge_forward", "1 for the mode of forwarding", labels=["mode"])
        for one in ("live", "backlog", "offline"):
            mode.add_metric([one], float(numbers["forward"] == one))
        yield mode
        skipped = "Values that are no readings (text, null), and messages of topics that bring none"
        yield CounterMetricFamily("headwater_edge_skipped", skipped, value=self._agent.decode.skipped)
        gaps = CounterMetricFamily(
            "headwater_edge_sequence_gaps",
            "Messages missing by a device's own sequence numbers",
            labels=["device"],
        )
        for device, missing in list(self._agent.decode.formats.sparkplug.gaps.items()):
            gaps.add_metric([device], missing)
        yield gaps
        commands = CounterMetricFamily(
            "headwater_edge_commands",
            "Commands to devices and their answers, by what became of them",
            labels=["became"],
        )
        for name, count in msgspec.to_builtins(self._agent.state.commands.counts).items():
            commands.add_metric([name], count)
        yield commands
        yield GaugeMetricFamily(
            "headwater_edge_commands_open",
            "Commands that are let out and not answered",
            value=numbers["commands"]["open"],
        )
        yield from _put_out(self._agent)
        yield GaugeMetricFamily(
            "headwater_edge_holding_back",
            "1 while nothing is taken in, for want of disk space or by the quota",
            value=bool(self._agent.holding),
        )


def _put_out(agent: Agent) -> Iterable[Metric]:
    """Yield what became of local alerts, by the way that they go, and of egress."""
    for name, text in _ALERTS.items():
        family = GaugeMetricFamily if name == "waiting" else CounterMetricFamily
        metric = family(f"headwater_edge_alerts_{name}", text, labels=["alert"])
        for route in list(agent.put_out.alerts.routes.values()):
            metric.add_metric([route.settings.name], getattr(route, name))
        yield metric
    if agent.put_out.egress is not None:
        for name, number in agent.put_out.egress.status().items():
            family = GaugeMetricFamily if name == "waiting" else CounterMetricFamily
            yield family(f"headwater_edge_egress_{name}", _EGRESS[name], value=number)


_ALERTS = {
    "sent": "Local alerts that were delivered",
    "waiting": "Local alerts that wait",
    "dropped": "Local alerts that were dropped: the queue was full, or it took too long",
    "refused": "Local alerts that were refused for good",
    "failures": "Tries to deliver a local alert that failed",
}
_EGRESS = {
    "shown": "Messages of egress that subscribers at the listener were sent",
    "published": "Messages of egress that the broker was given",
    "waiting": "Messages of egress that wait for the broker",
    "dropped": "Messages of egress that were dropped, for the broker did not take them",
}
_COUNTERS = {
    "messages": "Messages taken in",
    "readings": "Readings taken in, duplicates too",
    "accepted": "Readings counted",
    "by_transport": "Readings of messages that MQTT marked as resent, and that were; and of requests whose idempotency key was known",
    "by_meaning": "Readings that repeated series, time and value of an earlier message",
    "dead": "Messages, whole or in part, that became dead letters",
    "parts": "Parts put out, revisions too",
    "revisions": "Parts put out again after late readings",
    "late": "Readings that came after their window had been closed",
    "clamped": "Readings whose stamp lay in the future, and were stamped with their arrival",
    "restamped": "Readings without a time that were stamped after our clock was set",
    "held": "Readings without a time that were stamped by a clock that was not believed",
    "set_back": "Corrections of our clock backwards",
    "by_horizon": "Readings that repeated one which had left memory, but not the journal",
    "beyond_horizon": "Readings that could not be told from a resend, and became dead letters",
    "anomalies": "Anomalies put out, begins and ends",
    "coalesced": "Parts of fine windows let go before anyone was given them, for coarser ones hold their readings",
}
_FORWARDED = {
    "forwarded": "Outbox rows given to the bus, those that were given to it again too",
    "replayed": "Those of them that were a backlog",
}
_GAUGES = {
    "tick": "The last committed tick",
    "series": "Series known",
    "evicted": "Series that were let go since the start, for they were idle (edge.series_idle)",
    "returned": "Series that came back after that",
    "devices": "Devices known",
    "devices_online": "Devices that are online",
    "devices_silent": "Devices that are there and send nothing",
    "devices_offline": "Devices whose connection has ended, or that are said to be gone",
    "readers": "Filters under which others read alerts and egress at the listener",
    "not_listed": "Messages of devices that may not speak (edge.devices.only)",
    "dead_letters": "Dead letters that are kept",
    "dead_letter_bytes": "Their bytes",
    "refused": "Messages that were not taken because the dead letters were full",
    "outbox": "Outbox rows that the cloud is not known to have",
    "backlog": "Outbox rows that go out after all that is newer",
    "oldest_unsent_s": "How long ago the oldest row was made that the bus was not given, in seconds; 0: there is none",
    "drain_rate": "Rows a second that the backlog loses while it is drained",
    "early_ticks": "Ticks that ended early",
    "files_set_aside": "Damaged state files that lie beside the one in use",
    "lost_ticks": "Ticks of the last damaged file whose readings could not be read",
    "lost_outbox_rows": "Its outbox rows that could not be read, in place of which empty frames were sent",
    "salvaged": "Its readings that became dead letters, possibly counted already",
    "disk_taken": "Bytes that count against the quota: the file, its log, its ballast, the next snapshot",
    "disk_quota": "Bytes that may be taken",
    "disk_free": "Bytes that are free on the disk",
    "file_bytes": "Bytes of the agent's file, free pages too",
    "ballast_bytes": "Bytes of the ballast; 0: it was given up, and the disk has no room for it yet",
    "ballasts_given_up": "How often the disk was full, and the ballast given up",
    "making_room": "1 while the disk quota is nearly reached",
    "horizon_s": "How far back resent readings are recognised exactly, in seconds",
    "provisional": "Limits found broken, or held again, by readings that had to wait for the disk",
}


def registry(agent: Agent, *more: Collector) -> CollectorRegistry:
    """Make the registry that `/metrics` shows."""
    made = CollectorRegistry()
    made.register(AgentMetrics(agent))
    for collector in more:
        made.register(collector)
    return made
