"""The commands `headwater-cloud devices ...`: the registry of all devices, on the bus that the cloud side reads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import typer

from headwater_cloud import registry_commands
from headwater_cloud.commands import SettingsFile
from headwater_cloud.history import History
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
from headwater_cloud.registry_topic import RegistryTopic
from headwater_cloud.settings import CloudSettings, in_data
from headwater_shared.bus import Bus
from headwater_shared.buses import opener
from headwater_shared.clock import Clock, parse_clock
from headwater_shared.errors import Refused, StateError
from headwater_shared.kafka_settings import KafkaSettings, is_kafka
from headwater_shared.registry import Entry, change_of, differing, entry_of, refuse_wrong
from headwater_shared.settings import Common, load
from headwater_shared.spread import Spread
from headwater_shared.spread_settings import spread_of

app = typer.Typer(
    no_args_is_help=True,
    help="What is known of devices, for all sites: model, place, owner, cohort, metrics with units.",
)


class KeptOnBus:
    """The topic `hw-registry`, and the copies of it that shards read.

    The topic first, then the copies: what a crash leaves out in between, the same command again makes good, for it begins with the
    copies of what it names; so does the cloud side, which looks at the topic once a second (`registry_copies`).
    """

    commands = "headwater-cloud devices"

    def __init__(self, bus: Bus, clock: Clock, spread: Iterable[Spread] = ()) -> None:
        self._topic, self._clock = RegistryTopic(bus, spread), clock

    def read(self) -> dict[str, Entry]:
        self._topic.read()
        found = {device: entry_of(change) for device, change in self._topic.latest.items()}
        return {device: entry for device, entry in sorted(found.items()) if entry is not None}

    @contextmanager
    def changed(self, named: Collection[str] | None = None) -> Iterator[dict[str, Entry]]:
        before = self.read()
        known = self._topic.latest
        self._topic.copy([device for device in known if named is None or device in named])
        devices = dict(before)
        yield devices
        refuse_wrong(devices)
        now_us = self._clock.now().wall_us
        changed = differing(before, devices)
        for device in changed:
            # A clock that is behind that of who changed it last must not make this the older change.
            time_us = max(now_us, known[device].time_us + 1 if device in known else 0)
            self._topic.learn(change_of(device, devices.get(device), time_us))
        self._topic.write(changed)
        self._topic.copy(changed)


@app.command("list")
def list_(pattern: Pattern = "*", settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show devices, each with its status as its agent said it last."""
    with _kept(settings) as kept:
        registry_commands.list_(kept, pattern, _statuses(settings), as_json=as_json)


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
    as_json: AsJson = False,
) -> None:
    """Add a device, or change what is said of it; what is not named stays, and an empty text takes it away."""
    said = {"model": model, "place": place, "owner": owner, "cohort": cohort, "runbook": runbook}
    with _kept(settings) as kept:
        registry_commands.set_(kept, device, said, metric or [], as_json=as_json)


@app.command()
def remove(devices: Devices, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Forget devices: nothing is known of them any more, and they are nobody's peers. What they sent stays."""
    with _kept(settings) as kept:
        registry_commands.remove(kept, devices, as_json=as_json)


@app.command("import")
def import_(
    file: CsvFile,
    map_: Maps = None,
    site: Site = "",
    dry_run: DryRun = False,
    replace: Replace = False,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Take devices from a CSV file; the columns are guessed and shown. With a mistake in it nothing is changed."""
    with _kept(settings) as kept:
        registry_commands.import_(
            kept, file, maps=map_ or [], site=site, dry_run=dry_run, replace=replace, as_json=as_json
        )  # fmt: skip


@app.command()
def export(file: Out = None, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Write all devices as CSV, which `import` reads."""
    with _kept(settings) as kept:
        registry_commands.export(kept, file, as_json=as_json)


@contextmanager
def _kept(settings: Path | None) -> Iterator[KeptOnBus]:
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    data = Path(common.data)
    if not is_kafka(cloud.bus) and not (data / cloud.bus).exists():
        raise Refused(
            f"there is no log {data / cloud.bus} yet",
            hint="start Headwater once, or name its settings: --settings FILE; on one box `headwater registry` needs no log",
        )
    clock = parse_clock(os.environ.get("HEADWATER_CLOCK", common.clock))
    with closing(opener(cloud.bus, data, load(settings, "kafka", KafkaSettings))()) as bus:
        yield KeptOnBus(bus, clock, spread_of(cloud.spread))


def _statuses(settings: Path | None) -> dict[str, str]:
    """Return what is stored of the devices' status; nothing where there is no store yet."""
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    try:
        with closing(History(in_data(common.data, cloud.file))) as history:
            return {one.device: one.status for one in history.devices()}
    except (StateError, sqlite3.DatabaseError):
        return {}
