"""`headwater backup` and `headwater restore`: a running box in one file, and a box from it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import msgspec
import typer

AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it.", dir_okay=False)],
    settings: Annotated[
        Path | None,
        typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a box, which may run, into one file: its state, its history, its settings; no private keys, no secrets.

    The copy is of the moment at which the command begins. Exit code 75: no room; nothing is left behind.
    """
    from headwater_appliance.backup import backup as write

    made = write(file, settings, _version(), (lambda _: None) if as_json else print)
    size = file.stat().st_size
    if as_json:
        print(msgspec.json.encode({"file": str(file), "bytes": size, "manifest": made}).decode())
        return
    print(f"wrote {file}: {size / 1e6:,.1f} MB, {', '.join(entry.name for entry in made.files)}")
    if not any(entry.name == "headwater.toml" for entry in made.files):
        print("  without settings: name them with --settings")
    print("  it holds no private keys and no secrets: keep those of your certificates elsewhere")


def restore(
    file: Annotated[Path, typer.Argument(help="What `headwater backup` wrote.", dir_okay=False)],
    settings: Annotated[
        Path,
        typer.Option(
            "--settings", help="Settings file; written from the backup if there is none.", dir_okay=False
        ),
    ] = Path("headwater.toml"),
    replace: Annotated[
        bool, typer.Option("--replace", help="Move the state that is there aside, into before-restore-N.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a box from a backup. Nothing may run there; state that is there is not touched without --replace.

    What came after the backup is not in it. The cloud side tells if it has seen more of the agent than the agent knows of itself.
    """
    from headwater_appliance.backup import places
    from headwater_appliance.backup import restore as make

    made, aside = make(file, settings, replace=replace)
    data = places(settings if settings.exists() else None).data
    if as_json:
        answer = {"data": str(data), "aside": str(aside) if aside else None, "manifest": made}
        print(msgspec.json.encode(answer).decode())
        return
    print(f"restored the box of {made.agent} as of {made.made} into {data}")
    if aside is not None:
        print(f"  what was there is in {aside}: remove it once you have looked")
    print(f"  start it: headwater up --settings {settings}")
    print("  on other hardware, once before that: headwater-edge run --adopt --settings " + str(settings))


def _version() -> str:
    try:
        return version("headwater")
    except PackageNotFoundError:
        return "unknown"
