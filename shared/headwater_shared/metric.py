"""A metric as it is named, once: kind, help text and labels stand here, and whoever shows it says only its values.

Names go by Prometheus' conventions: `headwater_`, then the part, base units (seconds, bytes), `_total` for what only grows.
`docs/metrics.md` is made of these, and no other metric is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Kind = Literal["counter", "gauge", "histogram"]


class Shown(NamedTuple):
    """What stands in a registry under one name."""

    name: str
    """Whole, as a query names it."""
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    told: bool = False
    """Of an agent: whether its status frames tell the cloud side of it."""

    @property
    def family(self) -> str:
        """The name as Prometheus' client and OpenMetrics have it: a counter's without `_total`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name


Value = tuple[Sequence[str], float]
"""The labels' values, in their order, and the number."""


def shown(metric: Shown, values: Iterable[Value] | float) -> Metric:
    """Make what a collector yields; one number where there are no labels."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made = kind(metric.family, metric.text, labels=metric.labels)
    for labels, value in [((), values)] if isinstance(values, int | float) else values:
        made.add_metric(labels, value)
    return made


def by_name(metrics: Iterable[Shown]) -> dict[str, Shown]:
    """Return them by their names.

    Raises:
        ValueError: a name stands there twice.
    """
    found: dict[str, Shown] = {}
    for metric in metrics:
        if metric.name in found:
            raise ValueError(f"two metrics are called {metric.name}")
        found[metric.name] = metric
    return found
