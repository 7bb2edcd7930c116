"""One look at a box: its processes, what agent and cloud side say of themselves, its files; and rates, from two looks."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec

from headwater_appliance.box import Box
from headwater_appliance.processes import Running, running, writer_of
from headwater_appliance.together import running_of, status_of
from headwater_edge import places, words
from headwater_edge.ballast import free_at
from headwater_shared.clock import SYNCHRONISED, kernel_synchronised
from headwater_shared.errors import HeadwaterError, Refused
from headwater_shared.sqlite_file import read_only
from headwater_shared.topics import IN

_PATIENCE_S = 3.0


class Look(msgspec.Struct):
    """What was seen at one moment; what does not answer is empty, and why is said."""

    mono_s: float
    wall_us: int
    """By the clock of the settings."""
    machine_us: int
    """By the machine's own."""
    machine_mono_us: int
    """Its monotonic time at that moment."""
    synchronised: bool
    """The clock of the settings is believed."""
    kernel_synchronised: bool
    edge: Running | None = None
    """The agent; of several together."""
    cloud: Running | None = None
    """The cloud side; its workers together."""
    workers: dict[str, Running | None] = {}
    """Each, where the cloud side is workers."""
    agent: dict[str, Any] = {}
    """Its status, see `headwater_edge.health.status`; of several together."""
    agent_why: str = ""
    cloud_health: dict[str, Any] = {}
    cloud_why: str = ""
    sink: Running | None = None
    """What writes into InfluxDB."""
    sink_health: dict[str, Any] = {}
    sink_why: str = ""
    records: int | None = None
    """Ever written to `hw-in`, the bus's main topic."""
    read: int | None = None
    """Of them read by the cloud side."""
    files: dict[str, int] = {}
    """Bytes of each file of the data folder that is ours, its log included."""
    free: int = 0
    """Bytes that are free on the disk of the data folder."""


def look(box: Box) -> Look:
    """Look once. Nothing of the box is changed; what is away costs a few seconds at most."""
    clock = box.clock().now()
    machine_us, mono_us = time.time_ns() // 1000, time.monotonic_ns() // 1000
    seen = Look(
        mono_us / 1e6,
        clock.wall_us,
        machine_us,
        mono_us,
        clock.quality == SYNCHRONISED,
        kernel_synchronised(),
    )
    seen.edge = running_of([running(writer_of(agent / places.FILE)) for agent in box.agents])
    found = {process.name: running(writer_of(process.file)) for process in box.cloud_processes}
    seen.cloud = running_of(list(found.values()))
    seen.workers = found if box.cloud.workers else {}
    seen.agent, seen.agent_why = agent_of(box)
    seen.mono_s = time.monotonic()  # of the counters, which rates are made of
    seen.cloud_health, seen.cloud_why = health_of(box)
    if box.sink_process is not None:
        seen.sink = running(writer_of(box.sink_process.file))
        seen.sink_health, seen.sink_why = sink_health_of(box)
    seen.records = _number(box.bus_file, "SELECT sum(next) FROM partition WHERE topic = ?", (IN.name,))
    seen.read = _number(box.cloud_file, 'SELECT sum(next) FROM "offset"')
    seen.files = _sizes(box)
    seen.free = _free(box.data)
    return seen


def agent_of(box: Box) -> tuple[dict[str, Any], str]:
    """Ask the agents how they are: what they say, put together, or why one says nothing."""
    said = []
    for agent in box.agents:
        try:
            said.append(words.say(agent / places.SOCKET, "status", timeout_s=_PATIENCE_S))
        except Refused as error:
            return {}, error.message
    return status_of(said), ""


def health_of(box: Box) -> tuple[dict[str, Any], str]:
    """Ask the cloud side how it is: what it says, or why it does not; of workers together, with who gave each reason."""
    said, why = [], ""
    for process in box.cloud_processes:
        health, silent = _health(process.place, box.cloud.health_host)
        if health and box.cloud.workers:
            health["reasons"] = [f"{process.name}: {reason}" for reason in health.get("reasons", [])]
        if health:
            said.append(health)
        why = why or (silent and f"{process.name}: {silent}" if box.cloud.workers else silent)
    if said and why:
        said.append({"reasons": [why]})
    return status_of(said), "" if said else why


def sink_health_of(box: Box) -> tuple[dict[str, Any], str]:
    """Ask what writes into InfluxDB how it is, likewise."""
    process = box.sink_process
    return ({}, "") if process is None else _health(process.place, box.cloud.health_host)


def _health(place: Path, host: str) -> tuple[dict[str, Any], str]:
    try:
        at = msgspec.json.decode(place.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}, "it has never run here"
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"http://{host}:{at['health']}/health")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310
            return msgspec.json.decode(answer.read(), type=dict[str, Any]), ""
    except urllib.error.HTTPError as error:  # 503: it is ill, and says why
        with error:
            return _decoded(error.read())
    except (OSError, msgspec.DecodeError) as error:
        return {}, f"no answer on port {at['health']}: {getattr(error, 'reason', error)}"


def rates(before: Look, after: Look) -> dict[str, float]:
    """Return what happened a second between two looks; what was not seen both times is left out."""
    seconds = after.mono_s - before.mono_s
    if seconds <= 0:
        return {}
    found: dict[str, float] = {}
    same = before.agent.get("epoch") == after.agent.get("epoch")  # else it was started again in between
    for name in ("messages", "readings", "accepted", "parts", "tick", "dead", "forwarded"):
        if same and name in before.agent and name in after.agent:
            found[name] = max(after.agent[name] - before.agent[name], 0) / seconds
    for name in ("records", "read"):
        first, last = getattr(before, name), getattr(after, name)
        if first is not None and last is not None:
            found[name] = max(last - first, 0) / seconds
    for name in ("edge", "cloud"):
        one, other = getattr(before, name), getattr(after, name)
        if one is not None and other is not None and one.pid == other.pid:
            found[f"{name}_cpu"] = max(other.cpu_s - one.cpu_s, 0.0) / seconds
    return found


def clock_step_us(before: Look, after: Look) -> int:
    """Return how far the machine's clock jumped between two looks: what its wall time went beyond the monotonic."""
    return (after.machine_us - before.machine_us) - (after.machine_mono_us - before.machine_mono_us)


def _decoded(body: bytes) -> tuple[dict[str, Any], str]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any]), ""
    except msgspec.DecodeError as error:
        return {}, f"another program answers there: {error}"


def _number(file: Path, query: str, values: tuple[Any, ...] = ()) -> int | None:
    if not file.exists():
        return None
    try:
        reader = read_only(file)
    except HeadwaterError:
        return None
    try:
        (found,) = reader.execute(query, values).fetchone()
        return int(found or 0)
    except sqlite3.Error:
        return None
    finally:
        reader.close()


def _sizes(box: Box) -> dict[str, int]:
    found = {}
    for file in (box.edge_file, box.bus_file, box.cloud_file):
        sizes = [_size(file.with_name(file.name + suffix)) for suffix in ("", "-wal", "-journal")]
        if any(sizes):
            found[file.name] = sum(sizes)
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free(folder: Path) -> int:
    there = next((one for one in (folder, *folder.absolute().parents) if one.exists()), Path("/"))
    try:
        return free_at(there / "x")
    except OSError:
        return 0
