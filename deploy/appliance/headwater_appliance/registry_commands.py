"""The commands `headwater registry ...`: the registry of one box; what runs reads it within a second."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from headwater_cloud import registry_commands
from headwater_cloud.registry_options import (
    AsJson,
    Cohort,
    CsvFile,
    Device,
    Devices,
    DryRun,
    Maps,
    Metrics,
    Model,
    Out,
    Owner,
    Pattern,
    Place,
    Replace,
    Runbook,
    Site,
)
from headwater_shared import registry
from headwater_shared.clock import Clock, parse_clock
from headwater_shared.registry import Entry
from headwater_shared.settings import Common, load

app = typer.Typer(
    no_args_is_help=True, help="What is known of devices: model, place, owner, cohort, metrics with units."
)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
Data = Annotated[Path | None, typer.Option(help="Data folder; that of the settings without it.")]


class KeptFile:
    """`registry.json` of a data folder."""

    commands = "headwater registry"

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock

    def read(self) -> dict[str, Entry]:
        return registry.read(self._path)

    def changed(self, named: Collection[str] | None = None) -> AbstractContextManager[dict[str, Entry]]:
        return registry.changed(self._path, self._clock.now().wall_us)


@app.command("import")
def import_(
    file: CsvFile,
    map_: Maps = None,
    site: Site = "",
    dry_run: DryRun = False,
    replace: Replace = False,
    settings: SettingsFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take devices from a CSV file; the columns are guessed and shown. With a mistake in it nothing is changed."""
    registry_commands.import_(
        _kept(settings, data), file, maps=map_ or [], site=site, dry_run=dry_run, replace=replace, as_json=as_json
    )  # fmt: skip


@app.command("list")
def list_(
    pattern: Pattern = "*", settings: SettingsFile = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Show devices."""
    registry_commands.list_(_kept(settings, data), pattern, None, as_json=as_json)


@app.command("set")
def set_(
    device: Device,
    model: Model = None,
    place: Place = None,
    owner: Owner = None,
    runbook: Runbook = None,
    cohort: Cohort = None,
    metric: Metrics = None,
    settings: SettingsFile = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Add a device, or change what is said of it; what is not named stays, and an empty text takes it away."""
    said = {"model": model, "place": place, "owner": owner, "cohort": cohort, "runbook": runbook}
    registry_commands.set_(_kept(settings, data), device, said, metric or [], as_json=as_json)


@app.command()
def remove(
    devices: Devices, settings: SettingsFile = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Forget devices. With edge.devices.only = ["registry"] they may not speak any more."""
    registry_commands.remove(_kept(settings, data), devices, as_json=as_json)


@app.command()
def export(
    file: Out = None, settings: SettingsFile = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Write all devices as CSV, which `import` reads."""
    registry_commands.export(_kept(settings, data), file, as_json=as_json)


def _kept(settings: Path | None, data: Path | None) -> KeptFile:
    common = load(settings, "common", Common) if settings else Common()
    clock = parse_clock(os.environ.get("HEADWATER_CLOCK", common.clock))
    return KeptFile((data or Path(common.data)) / registry.FILE, clock)
