"""The command `headwater-cloud`: run the cloud side, and read what it stored."""

from __future__ import annotations

import os
import sys

import typer

from headwater_cloud import commands, topics_command
from headwater_cloud.commands import SettingsFile
from headwater_shared.errors import HeadwaterError

app = typer.Typer(help="The cloud side.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(commands.query)
app.command()(commands.alerts)
app.command()(commands.commands)
app.command()(topics_command.topics)


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
    # A process of its own: the command line's libraries stay out of its memory.
    command = [sys.executable, "-m", "headwater_cloud", *([str(settings)] if settings else [])]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell wanted
