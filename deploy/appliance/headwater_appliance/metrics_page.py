"""The page of all metrics: `python -m headwater_appliance.metrics_page > docs/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from headwater_cloud import metric_names
from headwater_shared import agent_metrics
from headwater_shared.metric import Shown

_HEAD = """# Metrics

Every process has its metrics at `/metrics` on its health port, on loopback. This page is made from the code
(`python -m headwater_appliance.metrics_page`), and no metric is shown that is not on it.

| process | port | setting |
| --- | --- | --- |
| agent | 9641 | `[edge] health_port` |
| cloud side | 9642; workers 9642, 9643, ... by slot | `[cloud] health_port` |
| sink | 9662 | `[cloud.influx] health_port` |

Names go by Prometheus' conventions: seconds and bytes, `_total` for what only grows. Beside these, each process has the
`process_*` metrics that Prometheus' client knows (CPU, memory, files, start). Histograms have an exemplar with the trace id
(`trace_id`) of what they last saw, for those who ask in the OpenMetrics format, as Prometheus does.

Devices and agents sit behind NAT, so nobody need be able to reach an agent: each sends the cloud side a **status frame** every
30 seconds, beside its readings, and sooner when its mode of forwarding changes. The cloud
shows what they tell as `headwater_agent_*` with the labels `agent` and `site` (that of most of its devices, empty until it has some); lost frames do not
matter, the next one tells all again (a kilobyte each, compressed: 3 MB a day an agent). What is older than an hour is no longer shown, but `headwater_agent_status_age_seconds` is, for a
week. No metric of the cloud side has a label for the device: devices are in the stores.

[deploy/prometheus](../deploy/prometheus) has settings and rules for Prometheus 2: `prometheus --config.file=deploy/prometheus/prometheus.yml` scrapes one box; other
machines are files in `targets/`, and Alertmanager's address is in `alertmanagers/`. With `--enable-feature=exemplar-storage` it keeps the exemplars, too. Each
alerting rule has a page in [runbooks](runbooks/README.md), which its annotation `runbook_url` names.
"""


def page() -> str:
    """Return the page, whole."""
    return "\n".join([_HEAD, *_sections()])


def everything() -> dict[str, Shown]:
    """Return every metric there is, by the name that a query uses."""
    return {metric.name: metric for _, _, metrics in _tables() for metric in metrics}


def _tables() -> Iterator[tuple[str, str, Iterable[Shown]]]:
    yield (
        "The cloud side",
        "Of several workers each shows its own share: sum them. The figures of its file are of the shards that it holds.",
        metric_names.BY_NAME.values(),
    )
    yield (
        "Agents, as the cloud side shows them",
        "Of size S the cloud's process shows all agents; of several workers the one that holds the agent's shard, and no other.",
        (*metric_names.OF_AGENTS.values(), *agent_metrics.TOLD.values()),
    )
    yield (
        "The sink",
        "Of `headwater-cloud sink`, which writes into a time series store.",
        metric_names.SINK.values(),
    )
    yield (
        "The agent itself",
        "On the agent's own port; those that status frames tell are marked.",
        agent_metrics.BY_NAME.values(),
    )


def _sections() -> Iterator[str]:
    for title, text, metrics in _tables():
        yield f"## {title}\n\n{text}\n\n| metric | kind | labels | meaning |\n| --- | --- | --- | --- |"
        for metric in metrics:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            told = " (told)" if metric.told and metric.name.startswith(agent_metrics.EDGE) else ""
            yield f"| `{metric.name}` | {metric.kind}{told} | {labels} | {metric.text} |"
        yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
