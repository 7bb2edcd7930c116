"""`headwater status`: one screen about a box, whatever of it runs."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from headwater_appliance.box import AsJson, SettingsFile, look_at


def status(
    settings: SettingsFile = None,
    over: Annotated[
        float, typer.Option(min=0.1, max=60, help="Seconds between the two looks that rates are made of.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Show how the box is: what runs, rates, lag, disk, clock, devices, alerts, and what is wrong with its remedy.

    Exit code 0: it works (warnings or not); 1: something is wrong; 3: nothing runs.
    """
    from headwater_appliance.look import look
    from headwater_appliance.status_report import exit_code, seen, told
    from headwater_appliance.status_screen import screen

    box = look_at(settings)
    before = look(box)
    time.sleep(over)
    state, found = seen(box, before, look(box))
    if as_json:
        print(msgspec.json.encode(told(state, found)).decode())
    else:
        Console(highlight=False).print(screen(box, state, found))
    raise typer.Exit(exit_code(state.now, found))
