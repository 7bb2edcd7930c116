"""`headwater-edge commands [FILE]`: commands to devices, those that are open and the last that ended; of a running agent or of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headwater_edge import words
from headwater_edge.open_commands import told
from headwater_edge.options import SettingsFile, data_folder
from headwater_edge.places import SOCKET

_COLUMNS = ("status", "command", "device", "act", "who", "series", "time", "reason", "id")


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
