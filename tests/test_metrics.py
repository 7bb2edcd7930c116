"""The metrics: one name each by Prometheus' conventions, one page made of them, and no other names anywhere."""

from __future__ import annotations

import re

import pytest

from headwater_appliance.metrics_page import everything, page
from headwater_shared.metric import Shown
from tests.support import ROOT

_NAME = re.compile(r"headwater_(?:edge|cloud|agent|sink)_[a-z0-9_]+[a-z0-9]\b(?!\*)")


def test_the_page_of_metrics_is_made_of_the_registries() -> None:
    """docs/metrics.md is what `python -m headwater_appliance.metrics_page` writes, to the letter."""
    assert (ROOT / "docs" / "metrics.md").read_text() == page()


@pytest.mark.parametrize("metric", everything().values(), ids=everything())
def test_a_metric_goes_by_the_conventions(metric: Shown) -> None:
    """Its name has our prefix, `_total` if and only if it is a counter, base units, and a help text that is a sentence."""
    assert re.fullmatch(r"headwater_[a-z][a-z0-9]*(_[a-z0-9]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    unit = metric.name.removesuffix("_total").rpartition("_")[2]
    assert unit not in {"s", "ms", "us", "byte", "kb", "mb", "percent", "minutes", "hours", "count"}
    assert metric.text.endswith(".")
    assert metric.name.endswith("_info") or "info" not in metric.name


def test_no_metric_of_the_cloud_has_a_label_for_the_device() -> None:
    """A label a device would make a time series of each device of the fleet: those are in the stores."""
    found = [
        metric.name
        for metric in everything().values()
        if {"device", "series"} & set(metric.labels) and not metric.name.startswith("headwater_edge_")
    ]
    assert found == []


def test_every_metric_that_is_named_anywhere_exists() -> None:
    """Pages, tests and what is deployed name metrics by their whole names, and each of these is shown."""
    places = [
        *ROOT.glob("*/README.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(path for path in (ROOT / "deploy").rglob("*") if path.suffix in {".yml", ".json"}),
        *(ROOT / "tests").rglob("*.py"),
    ]
    suffixes = ("", "_bucket", "_sum", "_count")
    known = {name + suffix for name in everything() for suffix in suffixes}
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in places
        if path.is_file() and ".venv" not in path.parts
        for name in _NAME.findall(path.read_text(encoding="utf-8", errors="replace"))
        if name not in known and not any(one.startswith(name + "_") for one in known)
    }
    assert missing == set()
