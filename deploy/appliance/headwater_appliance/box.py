"""One box as its settings say it: its tables, its files, its clock; nothing of it is opened or changed here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from headwater_cloud.settings import CloudSettings, in_data
from headwater_edge import places
from headwater_edge.settings import EdgeSettings
from headwater_shared.clock import Clock, parse_clock
from headwater_shared.settings import Common, load

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

CLOUD_PLACE = "cloud.json"


class Box(NamedTuple):
    """The settings of all that runs on one box, and where they put it."""

    settings: Path | None
    common: Common
    edge: EdgeSettings
    cloud: CloudSettings

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
    def cloud_place(self) -> Path:
        return self.data / CLOUD_PLACE

    @property
    def bus_file(self) -> Path:
        return in_data(self.common.data, self.cloud.bus)

    def clock(self) -> Clock:
        """Return the clock that the processes of the box go by."""
        return parse_clock(os.environ.get("HEADWATER_CLOCK", self.common.clock))

    def command(self, words: str) -> str:
        """Write one of our commands as a person would type it for this box."""
        return f"{words} --settings {self.settings}" if self.settings else words


def box_of(settings: Path | None) -> Box:
    """Read the settings.

    Raises:
        SettingsError: naming file, line and key.
    """
    if settings is None:
        return Box(None, Common(), EdgeSettings(), CloudSettings())
    return Box(
        settings,
        load(settings, "common", Common),
        load(settings, "edge", EdgeSettings),
        load(settings, "cloud", CloudSettings),
    )
