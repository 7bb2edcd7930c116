"""The command `headwater-edge`: run an agent, and talk to one that runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headwater_edge import words
from headwater_edge.store import read_store
from headwater_shared.errors import HeadwaterError
from headwater_shared.settings import Common, load

FILE, SOCKET = "edge.db", "edge.sock"

app = typer.Typer(help="The agent on the device.", no_args_is_help=True, pretty_exceptions_enable=False)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]


def main() -> None:
    """Run the command; an error that a person can act on is two lines, not a traceback."""
    try:
        app()
    except HeadwaterError as error:
        print(f"headwater-edge: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


@app.command()
def run(settings: SettingsFile = None) -> None:
    """Run the agent until a signal ends it."""
    # A process of its own: the command line's libraries stay out of the agent's memory.
    os.execv(  # noqa: S606 - our own interpreter, no shell wanted
        sys.executable, [sys.executable, "-m", "headwater_edge", *([str(settings)] if settings else [])]
    )


@app.command()
def flush(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Close every open window of the running agent now."""
    answer = words.say(_data(settings) / SOCKET, "flush")
    print(_json(answer) if as_json else f"all windows closed at tick {answer['tick']}")


@app.command()
def status(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show what the running agent has taken in, put out and still holds."""
    answer = words.say(_data(settings) / SOCKET, "status")
    if as_json:
        print(_json(answer))
        return
    width = max(map(len, answer))
    for name, value in answer.items():
        print(f"{name.replace('_', ' '):{width}}  {value}")


@app.command("dead-letters")
def dead_letters(
    settings: SettingsFile = None,
    last: Annotated[int, typer.Option(help="How many of the latest to show.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what could not be taken: reason, topic and bytes."""
    reader = read_store(_data(settings) / FILE)
    rows = reader.execute(
        "SELECT tick, n, time_us, reason, detail, topic, bytes FROM dead_letter ORDER BY tick DESC, n DESC LIMIT ?",
        (last,),
    ).fetchall()
    reader.close()
    for tick, n, time_us, reason, detail, topic, body in rows:
        if as_json:
            names = ("tick", "n", "time_us", "reason", "detail", "topic", "bytes")
            print(_json(dict(zip(names, (tick, n, time_us, reason, detail, topic, body), strict=True))))
        else:
            print(f"{tick}.{n}  {reason}  {topic.decode(errors='replace')}  {body[:60]!r}  ({detail})")


def _data(settings: Path | None) -> Path:
    common = load(settings, "common", Common) if settings else Common()
    return Path(common.data)


def _json(answer: Any) -> str:
    return msgspec.json.encode(answer).decode()
