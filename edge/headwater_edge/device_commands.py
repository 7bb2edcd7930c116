"""`headwater-edge commands [FILE]`: commands to devices, those that are open and the last that ended; of a running agent or of a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headwater_edge import words
from headwater_edge.commands import ENDED, Commands
from headwater_edge.options import SettingsFile, data_folder
from headwater_edge.places import SOCKET

_COLUMNS = ("status", "command", "device", "act", "series", "time", "reason", "id")


def told(commands: Commands, waiting: int | None = None) -> dict[str, Any]:
    """Return what is to be said of commands: `open`, `ended` (the newest first) and `counts`."""
    found: dict[str, Any] = {
        "open": [
            {
                "status": command.state,
                "command": msgspec.json.decode(command.command)["name"],
                "device": command.device,
                "act": command.act,
                "series": command.series,
                "time": "",
                "reason": "its age is not known: it waits for the clock" if command.unsure else "",
                "id": command.id,
            }
            for command in list(commands.by_id.values())
            if command.state != ENDED
        ],
        "ended": [
            {
                "status": one.status,
                "command": one.name,
                "device": one.device,
                "act": one.act,
                "series": one.series,
                "time": _time(one.time_us),
                "reason": one.reason,
                "id": one.id,
            }
            for one in reversed(list(commands.ended))
        ],
        "counts": msgspec.to_builtins(commands.counts),
    }
    return found if waiting is None else {**found, "waiting_for_their_device": waiting}


def commands(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="An agent's file on a desk; without it the running agent is asked.", metavar="[FILE]"
        ),
    ] = None,
    settings: SettingsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")] = False,
) -> None:
    """Show commands to devices: those that are open, and the last that ended."""
    answer = words.say(data_folder(settings) / SOCKET, "commands") if file is None else _of_file(file)
    if as_json:
        print(msgspec.json.encode(answer).decode())
        return
    rows = [[str(row[column]) for column in _COLUMNS] for row in answer["open"] + answer["ended"]]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (_COLUMNS, *rows):
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    print(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in answer["counts"].items()))


def _of_file(file: Path) -> dict[str, Any]:
    from headwater_edge import on_desk
    from headwater_edge.replay import begin, compared
    from headwater_edge.settings import EdgeSettings, step_settings

    with on_desk.opened(file) as connection:
        state = begin(connection, step_settings(EdgeSettings()), 2**62)
        for _ in compared(connection, state):
            pass  # to the last commit
        return told(state.commands)


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
