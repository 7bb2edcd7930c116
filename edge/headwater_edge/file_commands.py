"""`headwater-edge check | salvage | replay FILE`: an agent's file on a desk; it is never written to."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headwater_edge import check as checks
from headwater_edge import on_desk
from headwater_edge.detection.key import FileSeal, key_path
from headwater_edge.opening import is_damage
from headwater_edge.options import SettingsFile
from headwater_edge.replay import Compared, begin, compared
from headwater_edge.settings import EdgeSettings, StepSettings, step_settings
from headwater_shared.clock import RealClock
from headwater_shared.errors import Refused
from headwater_shared.settings import load

File = Annotated[
    Path,
    typer.Argument(help="An agent's file: edge.db, or a copy of it; its -wal beside it.", metavar="FILE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def add_to(app: typer.Typer) -> None:
    """Give the commands to the command line."""
    app.command()(check)
    app.command()(salvage)
    app.command()(replay)


def check(file: File, as_json: AsJson = False) -> None:
    """Say whether a file is sound, what waits in it, and where its bytes go. Exit code 1 if it is damaged."""
    try:
        with on_desk.opened(file) as connection:
            found = checks.report(connection, file)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        found = {"file": str(file), "bytes": file.stat().st_size, "faults": [f"SQLite says: {error}"]}
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _print_table(found)
    if found["faults"]:
        if not as_json:
            print(
                f"damaged; 'headwater-edge salvage {file} --into NEW' saves what can be read, and so does an agent's start"
            )
        raise typer.Exit(1)


def salvage(
    file: File,
    settings: SettingsFile = None,
    into: Annotated[
        Path | None, typer.Option(help="A new agent's file, to be put in the place of the damaged one.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="A new folder of frames as Avro, and of dead letters as JSON lines.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Save what can be read of a damaged file: into a new file that an agent can start from, or into a folder."""
    from headwater_edge.salvage_desk import salvage_to

    if (into is None) == (folder is None):
        raise Refused(
            "say where to: --into NEW or --folder NEW",
            hint="a new file is for an agent, a folder for a person",
        )
    target = into or folder
    assert target is not None
    if target.exists():
        raise Refused(f"{target} is there already", hint="name a new one; nothing is written over")
    edge = load(settings, "edge", EdgeSettings) if settings else None
    event = salvage_to(file, target, edge, RealClock().now(), as_folder=folder is not None)
    if as_json:
        print(msgspec.json.encode(event).decode())
        return
    print(f"{file}: {event.why}")
    print(f"the state is whole up to tick {event.reached} of {event.tick}")
    print(f"{event.salvaged} readings behind it are dead letters, possibly counted already")
    print(f"{event.lost_ticks} ticks and {event.lost_rows} outbox rows could not be read")
    print(f"saved in {target}")


def replay(
    file: File,
    settings: SettingsFile = None,
    from_tick: Annotated[
        int, typer.Option("--from", help="First tick to show; a snapshot before it is begun from.")
    ] = 0,
    to_tick: Annotated[
        int, typer.Option("--to", help="Last tick to run; the journal's last by default.")
    ] = 0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the readings and the parts too.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(
            help="The key that learnt models are signed with; by default that beside FILE's folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the journal again, tick by tick: what each took in and put out, and whether that is what is stored. Exit code 1 if not."""
    ticks = rows = gone = 0
    wrong = 0
    with on_desk.opened(file) as connection:
        seal = FileSeal(key or key_path(file.parent), _agent_of(connection))
        state = begin(connection, _step_settings(settings), from_tick, seal)
        for one in compared(connection, state, seal):
            if to_tick and one.stepped.number > to_tick:
                break
            ticks, rows, gone = ticks + 1, rows + one.same, gone + one.gone
            wrong += len(one.differences)
            if one.stepped.number < from_tick:
                continue
            if as_json:
                print(msgspec.json.encode(_told(one)).decode())
            else:
                _print_tick(one, state.names, verbose=verbose)
    if not as_json:
        print(
            f"{ticks} ticks run again; of their rows {rows} are stored just so, {gone} are gone, {wrong} differences"
        )
    if wrong:
        raise typer.Exit(1)


def _agent_of(connection: sqlite3.Connection) -> str:
    """Return the name of the agent whose file it is."""
    found = connection.execute("SELECT value FROM meta WHERE name = 'agent'").fetchone()
    return str(found[0]) if found else ""


def _step_settings(settings: Path | None) -> StepSettings:
    """Return those of a file that is not known yet: the first row of a journal brings its own."""
    return step_settings(load(settings, "edge", EdgeSettings))


def _told(one: Compared) -> dict[str, Any]:
    took, out = one.stepped.took, one.stepped.put_out
    levels: Counter[str] = Counter()
    for frame in out.frames:
        levels.update(frame.parts.levels[level] for level in frame.parts.level.tolist())
    return {
        "tick": one.stepped.number,
        "time": datetime.fromtimestamp(took.now.wall_us / 1e6, UTC).isoformat(timespec="milliseconds"),
        "events": [type(event).__name__ for _, event in took.events],
        "messages": len(took.messages),
        "readings": len(took.readings),
        "new_series": took.new_series,
        "frames": [[frame.shard, frame.seq, len(frame.parts)] for frame in out.frames],
        "parts": dict(levels),
        "anomalies": [f"{a.rule} {a.phase} {a.series}" for a in out.anomalies],
        "commands": [f"{c.name} {c.status} {c.device}" for c in out.commands],
        "stored_so": one.same,
        "gone": one.gone,
        "differences": one.differences,
    }


def _print_tick(one: Compared, names: list[str], *, verbose: bool) -> None:
    told = _told(one)
    said = f"{told['messages']} messages, {told['readings']} readings"
    events = f"; {', '.join(told['events'])}" if told["events"] else ""
    print(f"tick {told['tick']}  {told['time']}  {said}{events}")
    for shard, seq, parts in told["frames"]:
        print(f"    frame, shard {shard}, seq {seq}: {parts} parts")
    for anomaly in told["anomalies"]:
        print(f"    anomaly: {anomaly}")
    for command in told["commands"]:
        print(f"    command: {command}")
    if verbose:
        took = one.stepped.took.readings
        columns = took.series.tolist(), took.sent.tolist(), took.value.tolist()
        for number, sent, value in zip(*columns, strict=True):
            print(f"    {names[number]} at {sent}: {value!r}")
        for frame in one.stepped.put_out.frames:
            p = frame.parts
            for row in range(len(p)):
                count = int(p.aggregates.count[row])
                print(
                    f"    {p.names[p.series[row]]} {p.levels[p.level[row]]} at {p.start[row]}: {count} readings"
                )
    for difference in told["differences"]:
        print(f"    DIFFERS: {difference}")


def _print_table(found: dict[str, Any]) -> None:
    width = max(map(len, found))
    for name, value in found.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {size:,}" for key, size in value.items()) or "not known"
        elif isinstance(value, list):
            shown = "; ".join(map(str, value)) or "none"
        else:
            shown = str(value)
        print(f"{name:{width}}  {shown}")
