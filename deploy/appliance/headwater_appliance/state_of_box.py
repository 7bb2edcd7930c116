"""The state of a box in one structure: two looks, what lies between them, its devices, its alerts, and what is wrong."""

from __future__ import annotations

import sqlite3
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

import msgspec

from headwater_appliance import growth
from headwater_appliance.box import Box
from headwater_appliance.devices import Device, devices
from headwater_appliance.look import Look, clock_step_us, rates
from headwater_cloud.found import Found, anomalies
from headwater_cloud.history import History
from headwater_cloud.views import AlertView
from headwater_edge.store import read_store
from headwater_shared.errors import StateError
from headwater_shared.settings import size

_LATEST = 5


class State(msgspec.Struct):
    """All that a screen shows; see `state_of`."""

    now: Look
    rates: dict[str, float]
    """A second, between the two looks."""
    between_s: float
    clock_step_us: int
    agent_version: str
    """Of the agent that started last; empty: none ever did."""
    installed: str
    outbox: growth.Outbox
    windows_behind_s: float | None
    """How long ago the time is up to which every agent's windows are complete; None: none is known."""
    devices: list[Device]
    alerts: list[AlertView]
    """Those that fire, the newest first."""
    found: list[Found]
    """The latest few anomalies."""
    days_to_quota: float | None = None
    days_to_full: float | None = None


def state_of(box: Box, before: Look, now: Look, history: History | None) -> State:
    """Put together what two looks, the files and the agent's list of devices say."""
    outbox = growth.outbox_of(box, now.wall_us, now.agent.get("outbox"))
    stored = sum(taken for name, taken in now.files.items() if name != box.edge_file.name)
    floor = _floor(box)
    quota, taken = now.agent.get("disk_quota", 0), now.agent.get("disk_taken", 0)
    return State(
        now,
        rates(before, now),
        now.mono_s - before.mono_s,
        clock_step_us(before, now),
        written_by(box.edge_file),
        installed(),
        outbox,
        _behind_s(history, now.wall_us),
        devices(box, history),
        history.alerts(firing_only=True) if history else [],
        list(islice(anomalies(history), _LATEST)) if history else [],
        growth.days_to_quota(outbox, min(quota - taken, now.free - floor)) if quota else None,
        growth.days_to_full(history, stored, now.free - floor),
    )


def installed() -> str:
    """Return the version that is installed here."""
    try:
        return version("headwater")
    except PackageNotFoundError:
        return "unknown"


def written_by(file: Path) -> str:
    """Return the version of the agent that started last with a file; empty where that cannot be read."""
    if not file.exists():
        return ""
    try:
        reader = read_store(file)
    except (StateError, sqlite3.DatabaseError):
        return ""
    try:
        row = reader.execute("SELECT version FROM epoch ORDER BY tick DESC LIMIT 1").fetchone()
        return str(row[0]) if row else ""
    except sqlite3.DatabaseError:
        return ""
    finally:
        reader.close()


def _floor(box: Box) -> int:
    return size(box.edge.disk.free)


def _behind_s(history: History | None, now_us: int) -> float | None:
    complete = (
        [progress.complete_us for progress in history.progress() if not progress.silent] if history else []
    )
    return max(now_us - min(complete), 0) / 1e6 if complete else None
