"""The command `headwater-edge`: run an agent, and talk to one that runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import msgspec
import typer

from headwater_edge import (
    dead_letter_commands,
    detector_commands,
    device_commands,
    file_commands,
    user_commands,
    words,
)
from headwater_edge.options import SettingsFile, data_folder
from headwater_edge.places import ADOPT, FILE, SOCKET
from headwater_shared.errors import HeadwaterError
from headwater_shared.settings import load

app = typer.Typer(help="The agent on the device.", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(user_commands.app, name="user")

app.add_typer(dead_letter_commands.app, name="dead-letters")
file_commands.add_to(app)
app.command()(device_commands.commands)
app.command()(detector_commands.detectors)

AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]


def main() -> None:
    """Run the command; an error that a person can act on is two lines, not a traceback."""
    try:
        app()
    except HeadwaterError as error:
        print(f"headwater-edge: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command()
def run(
    settings: SettingsFile = None,
    adopt: Annotated[
        bool, typer.Option(ADOPT, help="The state file becomes this device's, whatever it was bound to.")
    ] = False,
) -> None:
    """Run the agent until a signal ends it."""
    # A process of its own: the command line's libraries stay out of the agent's memory.
    os.execv(  # noqa: S606 - our own interpreter, no shell wanted
        sys.executable,
        [
            sys.executable,
            "-m",
            "headwater_edge",
            *([str(settings)] if settings else []),
            *([ADOPT] if adopt else []),
        ],
    )


@app.command()
def flush(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Close every open window of the running agent now."""
    answer = words.say(data_folder(settings) / SOCKET, "flush")
    print(_json(answer) if as_json else f"all windows closed at tick {answer['tick']}")


@app.command()
def status(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show what the running agent has taken in, put out and still holds."""
    answer = words.say(data_folder(settings) / SOCKET, "status")
    if as_json:
        print(_json(answer))
        return
    width = max(map(len, answer))
    for name, value in answer.items():
        shown = (
            ", ".join(f"{key.replace('_', ' ')} {each}" for key, each in value.items())
            if isinstance(value, dict)
            else ", ".join(map(str, value)) or "none"
            if isinstance(value, list)
            else value
        )
        print(f"{name.replace('_', ' '):{width}}  {shown}")


@app.command("try-alert")
def try_alert(
    name: Annotated[str, typer.Argument(help="Name of one section edge.alert; all without it.")] = "",
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Have the running agent send a test by its local alerts, and show which arrived; exit code 1 if one did not."""
    answer = words.say(data_folder(settings) / SOCKET, "try-alert", 120.0, alert=name)["alerts"]
    if as_json:
        print(_json(answer))
    else:
        for one, why in answer.items():
            print(f"{one}: {why or 'delivered'}")
    if any(answer.values()):
        raise typer.Exit(1)


@app.command()
def decode(
    topic: Annotated[str, typer.Argument(help="Topic of the message.")],
    payload: Annotated[str, typer.Argument(help="Its payload: text, @FILE, or hex:0A1B.")],
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the readings that a message becomes, or why it becomes none; nothing is taken in."""
    from headwater_edge import explain
    from headwater_edge.settings import EdgeSettings
    from headwater_shared.clock import RealClock

    edge = load(settings, "edge", EdgeSettings)
    now_us = RealClock().now().wall_us
    told = explain.explain(topic, explain.payload_of(payload), edge, data_folder(settings) / FILE, now_us)
    print(_json(told) if as_json else "\n".join(explain.lines(told)))


def _json(answer: Any) -> str:
    return msgspec.json.encode(answer).decode()
