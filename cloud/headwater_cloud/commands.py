"""The commands that read the history: one text for `headwater-cloud` and for `headwater` on one box."""

from __future__ import annotations

from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal

import typer

from headwater_cloud import query as queries
from headwater_cloud.history import EARLIEST, LATEST, History
from headwater_cloud.ordering import unheard
from headwater_cloud.settings import CloudSettings, in_data
from headwater_shared.bus import Bus
from headwater_shared.buses import opener
from headwater_shared.kafka_settings import KafkaSettings
from headwater_shared.settings import Common, load

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
Format = Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to write it.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as --format json.")]


def query(
    series: Annotated[str, typer.Argument(help="site/device/metric; * and ? match any text, quote them.")],
    settings: SettingsFile = None,
    level: Annotated[str, typer.Option(help="Length of the windows.")] = "10s",
    since: Annotated[
        str, typer.Option("--from", help="Windows that start at or after this (ISO 8601).")
    ] = "",
    until: Annotated[str, typer.Option("--to", help="Windows that start before this (ISO 8601).")] = "",
    last: Annotated[int | None, typer.Option(help="The latest so many of each series.")] = None,
    form: Format = "table",
    as_json: AsJson = False,
) -> None:
    """Show windows of the series that match."""
    bounds = (queries.time_us(since) if since else EARLIEST, queries.time_us(until) if until else LATEST)
    history = history_of(settings)
    for line in queries.shown(
        queries.WINDOW, queries.windows(history, series, level, *bounds, last), "json" if as_json else form
    ):
        print(line)


def commands(
    device: Annotated[str, typer.Argument(help="site/device; * and ? match any text, quote them.")] = "*",
    settings: SettingsFile = None,
    last: Annotated[int | None, typer.Option(help="The latest so many.")] = None,
    form: Format = "table",
    sent: Annotated[
        bool, typer.Option("--sent", help="First those that lie on the bus and that no agent has read yet.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show commands to devices and what became of them, the newest first."""
    history = history_of(settings)
    rows = queries.commands(history, device, last)
    if sent:
        with closing(bus_of(settings)) as bus:
            rows = chain(queries.sent(unheard(bus, history), device), rows)
    for line in queries.shown(queries.COMMAND, islice(rows, last), "json" if as_json else form):
        print(line)


def bus_of(settings: Path | None) -> Bus:
    """Open the bus of the cloud side.

    Raises:
        SettingsError, PartMissing, BusUnavailable: it cannot be had.
    """
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    return opener(cloud.bus, Path(common.data), load(settings, "kafka", KafkaSettings))()


def history_of(settings: Path | None) -> History:
    """Open the cloud side's file for reading.

    Raises:
        StateError: it is not there, or not of this version.
    """
    common = load(settings, "common", Common)
    cloud = load(settings, "cloud", CloudSettings)
    return History(in_data(common.data, cloud.file))
