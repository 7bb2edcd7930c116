"""`headwater up`: agent and cloud side as processes of their own on this box."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from headwater_appliance.supervise import Part, Supervisor, python, stops_on_signals
from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.logs import configure
from headwater_shared.settings import Common, load


def parts(settings: Path | None) -> list[Part]:
    """Return the processes of one box."""
    arguments = [str(settings)] if settings else []
    return [
        Part("edge", python("headwater_edge", *arguments)),
        Part("cloud", python("headwater_cloud", *arguments)),
    ]


def check(settings: Path | None) -> Common:
    """Read every table that the parts will read, so that a mistake is told once and before anything starts.

    Raises:
        SettingsError: naming file, line and key.
    """
    if settings is None:
        return Common()
    step_settings(load(settings, "edge", EdgeSettings))
    load(settings, "cloud", CloudSettings)
    return load(settings, "common", Common)


def environment(common: Common) -> dict[str, str]:
    """Return what the parts must agree on: a scaled clock begins now, for all of them."""
    if common.clock == "real":
        return {}
    return {
        "HEADWATER_CLOCK": os.environ.get(
            "HEADWATER_CLOCK", f"{common.clock}@{datetime.now(UTC).isoformat()}"
        )
    }


def up(settings: Path | None) -> int:
    """Run agent and cloud side until a signal; return the exit code."""
    common = check(settings)
    configure(common.log, common.log_level, part="up")

    async def keep() -> int:
        supervisor = Supervisor(parts(settings), environment(common))
        stops_on_signals(supervisor)
        return await supervisor.run()

    return asyncio.run(keep())
