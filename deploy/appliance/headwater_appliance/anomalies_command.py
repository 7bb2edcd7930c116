"""`headwater anomalies`: what was found, why, and the readings around it."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from headwater_appliance.box import AsJson, SettingsFile, look_at
from headwater_appliance.shown import STYLES, ago, at_time, odds, shortened, sparkline
from headwater_cloud import found as founds
from headwater_cloud.found import Found
from headwater_cloud.history import EARLIEST, LATEST, History
from headwater_cloud.query import iso, time_us

_SPARKS = 16
_DETECTORS = 3


def anomalies(
    series: Annotated[
        str, typer.Argument(help="site/device/metric; * and ? match any text, quote them.")
    ] = "*",
    settings: SettingsFile = None,
    rule: Annotated[str, typer.Option(help="Only of the rule of this name; * and ? match any text.")] = "*",
    severity: Annotated[
        founds.Severity, typer.Option(help="Only of this severity or a higher one.")
    ] = "info",
    since: Annotated[str, typer.Option("--from", help="Those that began at or after this (ISO 8601).")] = "",
    until: Annotated[str, typer.Option("--to", help="Those that began before this (ISO 8601).")] = "",
    last: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List anomalies, the newest first: what was found, since when, why, and the readings up to it."""
    box = look_at(settings)
    bounds = (time_us(since) if since else EARLIEST, time_us(until) if until else LATEST)
    with closing(History(box.cloud_file)) as history:
        some = list(islice(founds.anomalies(history, series, rule, severity, *bounds), last))
    if as_json:
        for one in some:
            print(msgspec.json.encode(told(one)).decode())
        return
    console = Console(highlight=False)
    if not some:
        narrowed = series != "*" or rule != "*" or severity != "info" or since or until
        console.print("no anomaly matches" if narrowed else "no anomalies yet: nothing broke a rule")
        return
    for one in some:
        console.print(shown(one, box.clock().now().wall_us, console.width))


def told(one: Found) -> dict[str, Any]:
    """Return what `--json` shows of an anomaly."""
    fields: dict[str, Any] = msgspec.to_builtins(one)
    return fields | {
        "begin": iso(one.begin_us),
        "end": iso(one.end_us) if one.end_us is not None else None,
        "reason": reason(one),
        "samples": {"times_us": one.samples.times, "values": one.samples.values},
    }


def shown(one: Found, now_us: int, width: int) -> RenderableType:
    """Write an anomaly: when and what, then why, with the readings as a small chart."""
    over = "goes on" if one.end_us is None else f"over after {ago((one.end_us - one.begin_us) / 1e6)}"
    first = Text.assemble(
        (at_time(one.begin_us, now_us), "bold"), "  ", (f"{one.severity:8}", STYLES.get(one.severity, "")), "  ",
        shortened(one.series, max(width - 50, 24)), f"  {one.rule}  ", (over, "bold" if one.end_us is None else "dim"),
    )  # fmt: skip
    lines: list[RenderableType] = [first]
    body = Table.grid(padding=(0, 1, 0, 0))
    body.add_column(width=10)
    body.add_column(overflow="fold")
    if one.text:
        body.add_row("", one.text)
    body.add_row("", Text(f"because {reason(one)}", "dim"))
    values = one.samples.values
    if values:
        latest = " ".join(f"{value:.4g}" for value in values[-4:])
        body.add_row("", Text.assemble((sparkline(values, _SPARKS), "cyan"), f"  {min(values):.4g} to {max(values):.4g}, last {latest}"))  # fmt: skip
    return Group(*lines, body)


def reason(one: Found) -> str:
    """Say what the rule compared: a value with its limit, a change with the largest that may be, a silence with the longest; and
    how rare what detectors saw is.
    """
    if one.scores:
        rarest = sorted(one.scores, key=lambda score: -score[1])[:_DETECTORS]
        told = ", ".join(f"{name} {odds(rarity)}" for name, rarity in rarest)
        return f"the window's mean was {one.value:.6g}: {told}"
    if one.limit is None:
        return f"it was {one.value:.6g}"
    return f"it was {one.value:.6g}, the limit is {one.limit:.6g}"
