"""Options that commands of `headwater-edge` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater_shared.settings import Common, load

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]


def data_folder(settings: Path | None) -> Path:
    """Return the folder that holds an agent's state."""
    common = load(settings, "common", Common)
    return Path(common.data)
