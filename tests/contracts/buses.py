"""The buses that the contract suite runs on: a name, and how to open one at an address (a path or a server)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headwater_shared.bus import Bus
from headwater_shared.sqlite_log import SqliteLog

BUSES: dict[str, Callable[[str], Bus]] = {"sqlite": lambda address: SqliteLog(Path(address))}
