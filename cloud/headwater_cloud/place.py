"""Where a process answers, for those who asked for any free port: a small file in the data folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


def say_where(place: Path, health_port: int) -> None:
    """Write down where this process answers, whole or not at all, also if the power goes."""
    half = place.with_suffix(".new")
    with half.open("wb") as file:
        file.write(msgspec.json.encode({"health": health_port, "pid": os.getpid()}))
        file.flush()
        os.fsync(file.fileno())
    half.replace(place)
