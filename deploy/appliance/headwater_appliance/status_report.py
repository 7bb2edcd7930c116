"""The state of a box and what is wrong with it, as a status shows them: for people, for scripts, and as an exit code."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import Any

from headwater_appliance.box import Box
from headwater_appliance.devices import open_history
from headwater_appliance.look import Look
from headwater_appliance.state_of_box import State, state_of
from headwater_appliance.troubles import Trouble, troubles


def seen(box: Box, before: Look, now: Look) -> tuple[State, list[Trouble]]:
    """Make the state of two looks, and find what is wrong."""
    history = open_history(box)
    with closing(history) if history else nullcontext():
        state = state_of(box, before, now, history)
    return state, troubles(box, state)


def exit_code(now: Look, found: list[Trouble]) -> int:
    """Return what scripts are told."""
    if now.edge is None and now.cloud is None:
        return 3
    return int(any(one.severity == "wrong" for one in found))


def told(state: State, found: list[Trouble]) -> dict[str, Any]:
    """Return what `--json` shows: stable names, numbers in the units that their names end with."""
    now = state.now
    silent = [device.device for device in state.devices if device.silent(now.wall_us)]
    return {
        "time_us": now.wall_us,
        "works": not exit_code(now, found),
        "agent": {"process": now.edge, "version": state.agent_version, "why": now.agent_why, **now.agent},
        "cloud": {"process": now.cloud, **({"workers": now.workers} if now.workers else {}), "why": now.cloud_why, **now.cloud_health},
        **({"sink": {"process": now.sink, "why": now.sink_why, **now.sink_health}} if now.sink or now.sink_health else {}),
        "installed": state.installed,
        "rates_per_s": {name: round(rate, 3) for name, rate in state.rates.items()},
        "rates_over_s": round(state.between_s, 3),
        "outbox": state.outbox,
        "windows_behind_s": state.windows_behind_s,
        "bus": {"records": now.records, "read": now.read},
        "disk": {
            "free_bytes": now.free, "files_bytes": now.files, "days_to_quota": state.days_to_quota, "days_to_full": state.days_to_full,
        },
        "clock": {
            "set": now.synchronised, "time_server": now.kernel_synchronised, "step_us": state.clock_step_us,
        },
        "devices": {"known": len(state.devices), "silent": silent},
        "alerts": state.alerts,
        "troubles": found,
    }  # fmt: skip
