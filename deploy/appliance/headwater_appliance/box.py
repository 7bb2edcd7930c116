"""One box as its settings say it: its tables, its files, its clock; nothing of it is opened or changed here."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from headwater_cloud import influx_file
from headwater_cloud.settings import CloudSettings, in_data
from headwater_edge import places
from headwater_edge.settings import EdgeSettings
from headwater_shared.clock import Clock, parse_clock
from headwater_shared.errors import Refused
from headwater_shared.kafka_settings import is_kafka
from headwater_shared.settings import Common, load

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

_WORKER = "worker-{}"

_AS_OWNER = "look as that user: sudo -u {} headwater ..."


class Process(NamedTuple):
    """A process of the cloud side: what it is called, and where it is found."""

    name: str
    file: Path
    """The one beside whose lock it is the writer of."""
    place: Path
    """Where it says on which port it answers."""
    port: int
    """By the settings; 0: any."""


class Box(NamedTuple):
    """The settings of all that runs on one box, and where they put it."""

    settings: Path | None
    common: Common
    edge: EdgeSettings
    cloud: CloudSettings
    beside: tuple[Path, ...] = ()
    """Data folders of further agents that send to the same cloud side, and are looked at together with the box's own."""

    @property
    def data(self) -> Path:
        return Path(self.common.data)

    @property
    def edge_file(self) -> Path:
        return self.data / places.FILE

    @property
    def edge_socket(self) -> Path:
        return self.data / places.SOCKET

    @property
    def edge_place(self) -> Path:
        return self.data / places.PLACE

    @property
    def cloud_file(self) -> Path:
        return in_data(self.common.data, self.cloud.file)

    @property
    def agents(self) -> list[Path]:
        """The data folders of all agents that are looked at."""
        return [self.data, *self.beside]

    @property
    def cloud_processes(self) -> list[Process]:
        """What runs the cloud side: one process, or workers."""
        port = self.cloud.health_port
        if not self.cloud.workers:
            return [Process("cloud", self.cloud_file, self.data / "cloud.json", port)]
        names = [_WORKER.format(slot + 1) for slot in range(self.cloud.workers)]
        return [
            Process(name, self.data / name, self.data / f"{name}.json", port + number if port else 0)
            for number, name in enumerate(names)
        ]

    @property
    def sink_process(self) -> Process | None:
        """What writes into InfluxDB, if the settings have one."""
        if not self.cloud.influx.url:
            return None
        return Process(
            "sink", self.data / influx_file.FILE, self.data / "sink.json", self.cloud.influx.health_port
        )

    @property
    def bus_file(self) -> Path:
        """The SQLite log; there is no such file where the bus is Kafka."""
        return in_data(self.common.data, self.cloud.bus)

    @property
    def bus_remedy(self) -> str:
        """Where to look when the agent cannot write to the bus."""
        if is_kafka(self.edge.bus):
            return f"see that {self.edge.bus} is up, and has its topics (headwater-cloud topics)"
        return f"look at {self.bus_file}, its owner and the free space"

    def clock(self) -> Clock:
        """Return the clock that the processes of the box go by."""
        return parse_clock(os.environ.get("HEADWATER_CLOCK", self.common.clock))

    def command(self, words: str) -> str:
        """Write one of our commands as a person would type it for this box."""
        return f"{words} --settings {self.settings}" if self.settings else words


def look_at(settings: Path | None) -> Box:
    """Read the settings, for a command that looks at what they name.

    Raises:
        SettingsError: as `box_of`.
        Refused: the data folder is another user's: its socket would not answer, and what runs would seem to stand still.
    """
    box = box_of(settings)
    may_look(box)
    return box


def may_look(box: Box) -> None:
    """See that the data folder, if it is there, is ours.

    Raises:
        Refused: it is another user's.
    """
    try:
        owner = box.data.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise Refused(
            f"{box.data} may not be looked at: {error.strerror}", hint=_AS_OWNER.format("USER")
        ) from None
    if os.geteuid() in {0, owner}:
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = str(owner)
    raise Refused(f"{box.data} is {name}'s, who runs Headwater", hint=_AS_OWNER.format(name))


def box_of(settings: Path | None) -> Box:
    """Read the settings.

    Raises:
        SettingsError: naming file, line and key.
    """
    return Box(
        settings,
        load(settings, "common", Common),
        load(settings, "edge", EdgeSettings),
        load(settings, "cloud", CloudSettings),
    )
