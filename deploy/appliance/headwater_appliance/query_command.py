"""`headwater query`: windows of series as a table, CSV, JSON lines, or a chart in the terminal."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from headwater_appliance.box import AsJson, SettingsFile, look_at
from headwater_appliance.chart import caption, chart, windows_a_column
from headwater_appliance.shown import shortened
from headwater_cloud import query as queries
from headwater_cloud.history import EARLIEST, LATEST, History
from headwater_cloud.retention import length_us
from headwater_shared.errors import Refused
from headwater_shared.parts import level_of

_MOST = 12
"""Series that are charted at once."""
_WINDOWS = 240
"""Windows of a chart, if nothing else is said."""


def query(
    series: Annotated[str, typer.Argument(help="site/device/metric; * and ? match any text, quote them.")],
    settings: SettingsFile = None,
    level: Annotated[str, typer.Option(help="Length of the windows.")] = "10s",
    since: Annotated[
        str, typer.Option("--from", help="Windows that start at or after this (ISO 8601).")
    ] = "",
    until: Annotated[str, typer.Option("--to", help="Windows that start before this (ISO 8601).")] = "",
    last: Annotated[int | None, typer.Option(min=1, help="The latest so many of each series.")] = None,
    form: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="How to write it.")
    ] = "table",
    as_chart: Annotated[
        bool, typer.Option("--chart", help="Draw each series: mean, minimum and maximum over time.")
    ] = False,
    height: Annotated[int, typer.Option(min=3, max=60, help="Lines of a chart.")] = 12,
    as_json: AsJson = False,
) -> None:
    """Show windows of the series that match, as a table or as charts in the terminal."""
    box = look_at(settings)
    bounds = (queries.time_us(since) if since else EARLIEST, queries.time_us(until) if until else LATEST)
    with closing(History(box.cloud_file)) as history:
        if as_chart and not as_json:
            _charts(history, series, level, bounds, last, height)
            return
        rows = queries.windows(history, series, level, *bounds, last)
        for line in queries.shown(queries.WINDOW, rows, "json" if as_json else form):
            print(line)


def _charts(
    history: History, pattern: str, level: str, bounds: tuple[int, int], last: int | None, height: int
) -> None:
    names = queries.check(history, pattern, level)
    console = Console(highlight=False)
    step_us = level_of(level).hop_us or 1
    if last is None and bounds == (EARLIEST, LATEST):
        last = _WINDOWS
    for name in names[:_MOST]:
        found = history.windows(name, level, *bounds, last)
        of = found.aggregates
        step = step_us
        if not length_us(level) and len(found):  # sessions begin where they like
            step = max(int(found.start[-1] - found.start[0]) // max(console.width - 12, 1), 1)
        lines = chart(found.start, of.count, of.mean, of.min, of.max, console.width - 1, height, step)
        console.print(
            Text(shortened(name, console.width - 20), "bold")
            + Text(f"  {level}, {len(found):,} windows", "dim")
        )
        if not lines:
            console.print("  no windows in that time")
            continue
        for line in lines:
            console.print(line, no_wrap=True, overflow="crop")
        console.print(
            Text(f"{'':11}{caption(level, windows_a_column(found.start, console.width - 1, step))}", "dim"),
            no_wrap=True,
            overflow="crop",
        )
    if len(names) > _MOST:
        raise Refused(
            f"{len(names)} series match, of which {_MOST} are drawn",
            hint="name fewer: site/device/metric, * and ? match any text",
        )
