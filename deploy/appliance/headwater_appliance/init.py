"""`headwater init`: the commented default settings file."""

from __future__ import annotations

from pathlib import Path

from headwater_appliance.up_settings import UpSettings
from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import EdgeSettings
from headwater_shared.errors import Refused
from headwater_shared.kafka_settings import KafkaSettings
from headwater_shared.settings import Common, Section, describe

SECTIONS: dict[str, type[Section]] = {
    "common": Common,
    "kafka": KafkaSettings,
    "edge": EdgeSettings,
    "cloud": CloudSettings,
    "up": UpSettings,
}


def default_file() -> str:
    """Return the text of the default file: it parses to exactly the defaults."""
    return describe(SECTIONS)


def init(path: Path) -> None:
    """Write the default file.

    Raises:
        Refused: there is one already.
    """
    try:
        with path.open("x") as file:
            file.write(default_file())
    except FileExistsError:
        raise Refused(f"{path} exists already", hint="name another file, or move it away") from None
