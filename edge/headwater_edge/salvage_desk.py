"""Salvage on a desk: from a card out of the field into a new file, or into a folder that a person can look at."""

from __future__ import annotations

import base64
import sqlite3
import tempfile
import zlib
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from headwater_edge import dead_letters, on_desk, outbox_rows
from headwater_edge.events import SetAside
from headwater_edge.salvage import salvage
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_edge.store import PAGE_SIZE, read_store
from headwater_shared import pages, records
from headwater_shared.clock import Now
from headwater_shared.errors import StateError
from headwater_shared.sqlite_file import read_only


def salvage_to(
    file: Path, target: Path, settings: EdgeSettings | None, now: Now, *, as_folder: bool
) -> SetAside:
    """Save what can be read of a file.

    Args:
        settings: of its agent; without, its name is looked for in the file.
        as_folder: `frames/`, `anomalies.jsonl`, `commands.jsonl`, `dead-letters.jsonl` and `summary.json`, in place of a new agent's file.

    Raises:
        StateError: there is no file, it is in use, or nothing in it says whose it is.
    """
    with on_desk.copied(file) as copy:
        if settings is None:
            settings = EdgeSettings(name=agent_of(copy))
        step = step_settings(settings)
        why = "salvaged at a person's word"
        if not as_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
            return salvage(copy, target, step, now, why, file.name, careful=True)
        with tempfile.TemporaryDirectory(prefix="headwater-") as made:
            new = Path(made) / "edge.db"
            event = salvage(copy, new, step, now, why, file.name, careful=True)
            with closing(read_store(new)) as connection:
                _write_folder(connection, target, event)
            return event


_BESIDE = (records.ANOMALY, records.COMMAND, records.DEVICE)
"""Kinds of rows beside the frames."""


def agent_of(file: Path) -> str:
    """Find whose file it is: as noted, or as its frames say.

    Raises:
        StateError: nothing says so.
    """
    with suppress(sqlite3.DatabaseError), closing(read_only(file)) as connection:
        found = connection.execute("SELECT value FROM meta WHERE name = 'agent'").fetchone()
        if found:
            return str(found[0])
    for cell in pages.cells_of(file, PAGE_SIZE):
        if len(cell.values) >= 9 and cell.values[6] in (records.FRAME, *_BESIDE):
            with suppress(zlib.error, ValueError, TypeError):
                return outbox_rows.read(cell.values[6], zlib.decompress(cell.values[8])).agent
    raise StateError(f"nothing in {file.name} says whose it is", hint="name its settings with --settings")


def _write_folder(connection: sqlite3.Connection, folder: Path, event: SetAside) -> None:
    frames = folder / "frames"
    frames.mkdir(parents=True)
    lines_of: dict[str, list[bytes]] = {one: [] for one in _BESIDE}
    for epoch, shard, seq, kind, body in connection.execute(
        "SELECT epoch, shard, seq, kind, body FROM outbox ORDER BY n"
    ):
        raw = zlib.decompress(body)
        if kind == records.FRAME:
            name = f"{int.from_bytes(epoch, 'little'):016x}-{shard}-{seq}.avro"
            (frames / name).write_bytes(raw)
        else:
            lines_of[kind].append(msgspec.json.encode(outbox_rows.read(kind, raw)))
    letters = [
        msgspec.json.encode(_fields(letter)) for letter in reversed(dead_letters.latest(connection, -1))
    ]
    for name, lines in (
        ("anomalies.jsonl", lines_of[records.ANOMALY]),
        ("commands.jsonl", lines_of[records.COMMAND]),
        ("devices.jsonl", lines_of[records.DEVICE]),
        ("dead-letters.jsonl", letters),
    ):
        (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "summary.json").write_bytes(msgspec.json.encode(event) + b"\n")


def _fields(letter: dead_letters.Letter) -> dict[str, object]:
    fields: dict[str, object] = letter._asdict()
    body = fields.pop("body")
    assert isinstance(body, bytes)
    return {
        **fields,
        "topic": letter.topic.decode(errors="replace"),
        "bytes": base64.b64encode(body).decode(),
    }
