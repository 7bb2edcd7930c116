"""The command `headwater-cloud`: run the cloud side, and read what it stored."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from headwater_cloud import (
    alert_commands,
    commands,
    dead_letter_commands,
    devices_command,
    maintenance_commands,
    notify_commands,
    order_commands,
    sink_commands,
    status_command,
    topics_command,
)
from headwater_cloud.commands import SettingsFile
from headwater_shared.errors import HeadwaterError

app = typer.Typer(help="The cloud side.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(commands.query)
app.add_typer(alert_commands.alerts, name="alerts")
app.add_typer(alert_commands.incidents, name="incidents")
app.add_typer(maintenance_commands.app, name="maintenance")
app.command()(commands.commands)
app.add_typer(order_commands.app, name="command")
app.command()(topics_command.topics)
app.command()(status_command.status)
app.add_typer(dead_letter_commands.app, name="dead-letters")
app.add_typer(devices_command.app, name="devices")
app.add_typer(notify_commands.app, name="notify")
app.add_typer(sink_commands.app, name="sink")


def main() -> None:
    """Run the command; an error that a person can act on is two lines, not a traceback."""
    try:
        app()
    except HeadwaterError as error:
        print(f"headwater-cloud: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command()
def run(settings: SettingsFile = None) -> None:
    """Run the cloud side until a signal ends it."""
    _become(settings)


@app.command()
def worker(
    settings: SettingsFile = None,
    slot: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Which of the workers of its group this one is: no two live ones the same."
        ),
    ] = 1,
) -> None:
    """Run one of several processes of the cloud side, which share Kafka's shards, until a signal ends it."""
    _become(settings, "--slot", str(slot))


def _become(settings: Path | None, *more: str) -> None:
    """Be a process of its own: the command line's libraries stay out of its memory."""
    command = [sys.executable, "-m", "headwater_cloud", *([str(settings)] if settings else []), *more]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell wanted
