"""Settings of metrics: unit and name for screens, valid range, scale and offset, counters."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import isfinite
from typing import Annotated

from msgspec import Meta

from headwater_edge.meaning import RATE
from headwater_shared.errors import SettingsError
from headwater_shared.settings import Section


class MetricSettings(Section, frozen=True, forbid_unknown_fields=True):
    """What is known of the series that match; of several that match one the first counts."""

    series: Annotated[str, Meta(description="Series it is for: site/device/metric, * and ? match any text.")]
    name: Annotated[str, Meta(description="What people call it.")] = ""
    unit: Annotated[str, Meta(description="Unit of its values, after scale and offset.")] = ""
    scale: Annotated[float, Meta(description="Values as sent are multiplied by this ...")] = 1.0
    offset: Annotated[float, Meta(description="... and then this is added.")] = 0.0
    valid: Annotated[
        tuple[float, float] | None,
        Meta(
            description="Least and largest value that can be, after scale and offset; others are dead letters.",
            examples=[[0.0, 150.0]],
        ),
    ] = None
    counter: Annotated[
        bool, Meta(description="It counts up: a series METRIC.rate beside it holds its rate a second.")
    ] = False
    wraps_at: Annotated[
        float | None,
        Meta(
            description="Value at which a counter begins again at 0; without it a fall is a reset.",
            examples=[4294967296.0],
        ),
    ] = None


def check(metrics: Sequence[MetricSettings]) -> None:
    """Check what the structs cannot.

    Raises:
        SettingsError: a metric that cannot be.
    """
    for metric in metrics:
        where = f"[[edge.metric]] series = {metric.series!r}"
        if not isfinite(metric.scale) or metric.scale == 0 or not isfinite(metric.offset):
            raise SettingsError(
                f"{where}: scale and offset must be numbers, scale not 0", hint="scale = 0.1, for example"
            )
        if metric.valid is not None and not metric.valid[0] <= metric.valid[1]:
            raise SettingsError(
                f"{where}: valid = {list(metric.valid)} is empty",
                hint="the least comes first: valid = [0.0, 150.0]",
            )
        if metric.wraps_at is not None and not (metric.counter and metric.wraps_at > 0):
            raise SettingsError(
                f"{where}: wraps_at is for a counter, and above 0", hint="set counter = true beside it"
            )


def metric_of(metrics: Sequence[MetricSettings], series: str) -> MetricSettings | None:
    """Return what the settings say of a series."""
    return next((metric for metric in metrics if fnmatchcase(series, metric.series)), None)


def counts_up(metrics: Sequence[MetricSettings], series: str) -> bool:
    """Tell whether a series is a counter; a rate is none."""
    metric = metric_of(metrics, series) if metrics and not series.endswith(RATE) else None
    return metric is not None and metric.counter
