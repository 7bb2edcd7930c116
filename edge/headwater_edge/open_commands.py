"""What is said of commands to devices: those that are open, and the last that ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from headwater_edge.commands import ENDED, Commands


def told(commands: Commands, waiting: int | None = None) -> dict[str, Any]:
    """Return what is to be said of commands: `open`, `ended` (the newest first) and `counts`."""
    found: dict[str, Any] = {
        "open": [
            {
                "status": command.state,
                "command": msgspec.json.decode(command.command)["name"],
                "device": command.device,
                "act": command.act,
                "who": "" if command.act else command.rule,
                "series": command.of_series,
                "time": "",
                "reason": "its age is not known: it waits for the clock" if command.unsure else "",
                "id": command.id,
            }
            for command in list(commands.by_id.values())
            if command.state != ENDED
        ],
        "ended": [
            {
                "status": one.status,
                "command": one.name,
                "device": one.device,
                "act": one.act,
                "who": one.who,
                "series": one.series,
                "time": _time(one.time_us),
                "reason": one.reason,
                "id": one.id,
            }
            for one in reversed(list(commands.ended))
        ],
        "counts": msgspec.to_builtins(commands.counts),
    }
    return found if waiting is None else {**found, "waiting_for_their_device": waiting}


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
