"""The agent's own numbers for Prometheus; names and texts stand in `headwater_shared.agent_metrics`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headwater_edge.health import health, status
from headwater_edge.pipeline import Agent
from headwater_shared import tracing
from headwater_shared.agent_metrics import edge
from headwater_shared.clock import SYNCHRONISED
from headwater_shared.metric import Value, shown

_MODES = ("live", "backlog", "offline")

_COUNTERS = {
    "messages_total": "messages",
    "readings_total": "readings",
    "readings_counted_total": "accepted",
    "late_readings_total": "late",
    "beyond_horizon_readings_total": "beyond_horizon",
    "dead_letters_total": "dead",
    "clock_set_back_total": "set_back",
    "parts_total": "parts",
    "revisions_total": "revisions",
    "parts_coalesced_total": "coalesced",
    "anomalies_total": "anomalies",
}
"""By the end of the metric's name, the field of `state.Counters`."""
_STATUS = {
    "series": "series",
    "series_evicted_total": "evicted",
    "series_returned_total": "returned",
    "readers": "readers",
    "messages_not_listed_total": "not_listed",
    "messages_refused_total": "refused",
    "values_skipped_total": "skipped",
    "dead_letters_kept": "dead_letters",
    "dead_letters_kept_bytes": "dead_letter_bytes",
    "provisional_limits_total": "provisional",
    "ticks_total": "tick",
    "early_ticks_total": "early_ticks",
    "forwarded_rows_total": "forwarded",
    "replayed_rows_total": "replayed",
    "outbox_rows": "outbox",
    "backlog_rows": "backlog",
    "oldest_unsent_seconds": "oldest_unsent_s",
    "drain_rows_per_second": "drain_rate",
    "making_room": "making_room",
    "horizon_seconds": "horizon_s",
    "disk_taken_bytes": "disk_taken",
    "disk_quota_bytes": "disk_quota",
    "disk_free_bytes": "disk_free",
    "file_bytes": "file_bytes",
    "ballast_bytes": "ballast_bytes",
    "ballasts_given_up_total": "ballasts_given_up",
    "files_set_aside": "files_set_aside",
    "lost_ticks": "lost_ticks",
    "lost_outbox_rows": "lost_outbox_rows",
    "salvaged_readings": "salvaged",
}
"""By the end of the metric's name, the key of the status."""


class AgentMetrics(Collector):
    """Reads the agent's plain numbers when they are asked for, so that the hot path counts in plain integers."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._began_s = time.time()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        agent = self._agent
        counters, numbers = agent.state.counters, status(agent)
        for name, field in _COUNTERS.items():
            yield shown(edge(name), getattr(counters, field))
        for name, key in _STATUS.items():
            yield shown(edge(name), numbers[key])
        for name, values in _labelled(agent).items():
            yield shown(edge(name), values)
        yield from self._by_itself(len(numbers["detector_troubles"]))
        yield from _put_out(agent)

    def _by_itself(self, detector_troubles: int) -> Iterator[Metric]:
        agent = self._agent
        now = agent.clock.now()
        yield shown(edge("start_time_seconds"), self._began_s)
        yield shown(edge("clock_synchronised"), now.quality == SYNCHRONISED)
        yield shown(edge("clock_timestamp_seconds"), now.wall_us / 1e6)
        complete = agent.forward.complete
        behind = [now.wall_us - at for at, _ in complete.shards.values()] if complete is not None else []
        yield shown(edge("complete_lag_seconds"), max(0.0, max(behind, default=0) / 1e6))
        yield shown(edge("detector_troubles"), detector_troubles)
        yield shown(edge("commands_open"), len(agent.state.commands.open()))
        yield shown(edge("holding_back"), bool(agent.holding))
        yield shown(edge("disk_written_bytes_total"), _written_bytes())
        yield shown(edge("troubles"), len(health(agent)["reasons"]))
        yield shown(edge("spans_total"), [((became,), n) for became, n in tracing.counts()._asdict().items()])


def _labelled(agent: Agent) -> dict[str, list[Value]]:
    counters = agent.state.counters
    return {
        "build_info": [((agent.version,), 1)],
        "duplicates_total": [
            ((by,), getattr(counters, f"by_{by}")) for by in ("transport", "meaning", "horizon")
        ],
        "restamped_readings_total": [
            ((how,), getattr(counters, how)) for how in ("clamped", "restamped", "held")
        ],
        "sequence_gaps_total": [
            ((device,), missing) for device, missing in list(agent.decode.formats.sparkplug.gaps.items())
        ],
        "devices": [((status,), devices) for status, devices in agent.state.presence.counts().items()],
        "forward_mode": [((mode,), float(agent.forward.mode == mode)) for mode in _MODES],
        "commands_total": [
            ((became,), count) for became, count in msgspec.to_builtins(agent.state.commands.counts).items()
        ],
    }


def _put_out(agent: Agent) -> Iterator[Metric]:
    """Yield what became of local alerts, by the way that they go, and of egress."""
    for name in ("sent", "waiting", "dropped", "refused", "failures"):
        routes = list(agent.put_out.alerts.routes.values())
        metric = edge(f"alerts_{name}" if name == "waiting" else f"alerts_{name}_total")
        yield shown(metric, [((route.settings.name,), getattr(route, name)) for route in routes])
    if agent.put_out.egress is not None:
        for name, number in agent.put_out.egress.status().items():
            yield shown(edge(f"egress_{name}" if name == "waiting" else f"egress_{name}_total"), number)


def _written_bytes() -> int:
    """What the kernel had to write for this process; 0 where it does not tell (proc(5))."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), 0)


def registry(agent: Agent, *more: Collector) -> CollectorRegistry:
    """Make the registry that `/metrics` shows."""
    made = CollectorRegistry()
    made.register(AgentMetrics(agent))
    ProcessCollector(registry=made)
    for collector in more:
        made.register(collector)
    return made
