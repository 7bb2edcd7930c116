"""`headwater devices`: who sends, how much, since when not, and with what clock."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater_appliance.box import AsJson, SettingsFile, look_at
from headwater_appliance.devices import Device, devices, open_history
from headwater_appliance.shown import ago, amount, at_time, rate_of

_WIDE = 100
"""Columns of a terminal that has room for the latest time too."""

_CLOCKS = {"": "own", "ours": "none"}
"""What is said of a device's clock where its times were taken as sent, and where it sent none."""


def list_devices(
    pattern: Annotated[
        str,
        typer.Argument(help="A site, or site/device; * and ? match any text, quote them.", metavar="[WHICH]"),
    ] = "*",
    settings: SettingsFile = None,
    silent: Annotated[
        bool,
        typer.Option(
            "--silent",
            help="Only those that are not online; without a status, those from which nothing came for a minute.",
        ),
    ] = False,
    last: Annotated[
        int | None, typer.Option(min=1, help="At most so many; those silent for the longest first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices: when each was heard last, how much it sends, its series, its clock, and windows that are missing."""
    box = look_at(settings)
    history = open_history(box)
    with closing(history) if history else nullcontext():
        found = devices(box, history, pattern)
    now_us = box.clock().now().wall_us
    everyone = len(found)
    quiet = sum(one.silent(now_us) for one in found)
    if silent:
        found = [one for one in found if one.silent(now_us)]
    if last is not None:
        found = sorted(found, key=lambda one: -one.silence_s(now_us))[:last]
    if as_json:
        for one in found:
            print(msgspec.json.encode(told(one, now_us)).decode())
        return
    console = Console(highlight=False)
    if found:
        console.print(table(found, now_us, console.width))
    if everyone:
        console.print(f"{amount(everyone, 'device')}, {quiet:,} silent")
    elif pattern != "*":
        console.print(f"no device matches {pattern!r}; '{box.command('headwater devices')}' lists all")
    else:
        console.print("no device has sent anything yet; docs/connect.md shows how one is connected")


def told(one: Device, now_us: int) -> dict[str, Any]:
    """Return what `--json` shows of a device."""
    return {
        "device": one.device,
        "site": one.site,
        "status": one.status or None,
        "silent": one.silent(now_us),
        "model": one.model or None,
        "place": one.place or None,
        "heard_s": round(one.silence_s(now_us), 1) if one.heard_s is not None or one.last_us else None,
        "last_us": one.last_us or None,
        "series": one.series,
        "readings_per_s": round(one.per_s, 4),
        "missing_windows": one.missing,
        "clock": one.clock or "own",
    }


def table(found: list[Device], now_us: int, width: int) -> Table:
    """Make the table; models and places only where the registry has some."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    wide = width >= _WIDE
    made.add_column("device", overflow="fold")  # whole, on more lines than one: it is to be copied
    registered = wide and any(one.model or one.place for one in found)
    for name in ("model", "place") if registered else ():
        made.add_column(name, overflow="ellipsis", max_width=16, no_wrap=True)
    for name in ("status", "heard", "latest time", "rate", "series", "gaps", "clock"):
        if wide or name != "latest time":
            made.add_column(name, no_wrap=True, justify="left" if name in {"status", "clock"} else "right")
    for one in found:
        is_silent = one.silent(now_us)
        known = one.heard_s is not None or one.last_us
        made.add_row(
            Text(one.device, "red" if is_silent else ""),
            *([one.model, one.place] if registered else []),
            Text(one.status or "-", "red" if is_silent else ""),
            Text(ago(one.silence_s(now_us)) if known else "long ago", "red" if is_silent else ""),
            *([at_time(one.last_us, now_us) if one.last_us else "-"] if wide else []),
            rate_of(one.per_s),
            str(one.series),
            Text(str(one.missing), "yellow" if one.missing else "dim"),
            Text(_CLOCKS.get(one.clock, one.clock), "yellow" if one.clock not in _CLOCKS else ""),
        )
    return made
