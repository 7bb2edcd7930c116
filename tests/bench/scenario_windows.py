"""The scenarios of the simulator as windows over weeks, without a socket: what a detector sees, and the truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_firmware_sim import faults, network, plan, signals
from headwater_firmware_sim.device import Device
from headwater_firmware_sim.faults import Simple
from headwater_firmware_sim.plan import Plan
from headwater_shared.aggregates import of_readings
from headwater_shared.settings import duration

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LENGTH_US = 600_000_000
"""Of a window: ten minutes."""
SCALE = 3600.0
"""What is a second of a scenario's first minute is an hour here: faults last hours and days."""
_PERIOD_US = 60_000_000
"""Between two samples of a device."""
DAY_US = 86_400_000_000
_BEFORE_US, _STORY_US, _AFTER_US = 21 * DAY_US, 60 * 3_600_000_000, DAY_US
"""How long all is well, how long what the scenario tells lasts, and how long all is well again."""
_ORIGIN_US = 1_800_000_000_000_000 // DAY_US * DAY_US + _BEFORE_US
_COLUMNS = ("number", "mean", "low", "high", "spread")


class Fault(NamedTuple):
    """One fault of one series."""

    kind: str
    row: int
    begin_us: int
    end_us: int
    strength: float
    """How far it moves the mean, or the spread of the readings, of a window at most, in standard deviations of
    what that is over all windows of the very same series without the fault."""


class Windows(NamedTuple):
    """Windows of s series at w starts; `number` is 0 and all else NaN where a series has none."""

    series: list[str]
    device: Ints
    """By row; shape (s,)."""
    start: Ints
    """Shape (w,)."""
    number: Ints
    """Of readings in them; shape (w, s), as all below."""
    mean: Floats
    low: Floats
    high: Floats
    spread: Floats
    faults: list[Fault]


def windows_of(
    name: str, seed: int, devices: int | None = None, kept: Path | None = None, size: float = 1.0
) -> Windows:
    """Make the windows of a scenario with faults of so many times their size, or read those that were kept in a folder."""
    story = _story(name, seed, devices, size)
    if kept is None:
        return _made(story)
    sources = "".join(Path(str(module.__file__)).read_text() for module in (signals, faults, network))
    key = hashlib.sha256(
        msgspec.json.encode(story) + sources.encode() + Path(__file__).read_bytes()
    ).hexdigest()
    path = kept / f"{name}-{seed}-{size:g}-{key[:16]}.npz"
    if path.exists():
        with np.load(path) as found:
            rows = [Fault(*one) for one in msgspec.json.decode(bytes(found["faults"]))]
            series = msgspec.json.decode(bytes(found["series"]))
            number, mean, low, high, spread = (found[key] for key in _COLUMNS)
            return Windows(series, found["device"], found["start"], number, mean, low, high, spread, rows)
    made = _made(story)
    kept.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        series=np.frombuffer(msgspec.json.encode(made.series), np.uint8),
        faults=np.frombuffer(msgspec.json.encode(made.faults), np.uint8),
        device=made.device,
        start=made.start,
        **{key: getattr(made, key) for key in _COLUMNS},
    )
    return made


def _story(name: str, seed: int, devices: int | None, size: float) -> Plan:
    """Plan a scenario over days. What the network and wrong clocks do is left out: detectors see event time."""
    made = plan.make(
        name, seed=seed, origin_us=_ORIGIN_US, seconds=(_STORY_US + _AFTER_US) / SCALE / 1e6,
        devices=devices, scale=SCALE, misbehave=False,
    )  # fmt: skip
    told = msgspec.structs.replace(made.scenario, away=[], clocks=[], network=[])
    moved = {device: [_moved(fault, size) for fault in some] for device, some in made.faults_of.items()}
    return msgspec.structs.replace(made, scenario=told, faults_of=moved, period_us=_PERIOD_US)


def _moved(fault: Simple, size: float) -> Simple:
    """What happened before the origin happens after it, and lasts as long as it did: it is told in hours already."""
    changes: dict[str, Any] = {"size": fault.size * size} if hasattr(fault, "size") else {}
    if duration(fault.before):
        changes["before"] = "0s"
        for key in ("begin", "end"):
            changes[key] = f"{round(duration(getattr(fault, key)) / SCALE)}us"
    return msgspec.structs.replace(fault, **changes)


def _made(story: Plan) -> Windows:
    start = (
        np.arange((story.end_us - _ORIGIN_US + _BEFORE_US) // LENGTH_US) * LENGTH_US + _ORIGIN_US - _BEFORE_US
    )
    metrics = list(story.scenario.metrics)
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    series: list[str] = []
    found: list[Fault] = []
    for index in range(story.devices):
        device = Device(story, index, list(range(len(metrics))))
        mine = story.faults_of.get(device.name, [])
        well = story if mine else None
        if well is not None:
            well = msgspec.structs.replace(story, faults_of={})
        made = list(_windows(device, start))
        usual = list(_windows(Device(well, index, list(range(len(metrics)))), start)) if well else made
        for at, metric in enumerate(metrics):
            row = len(series)
            series.append(f"{device.site}/{device.name}/{metric}")
            for name, column in made[at].items():
                columns[name].append(column)
            for fault in mine:
                if fault.metric in {"", metric}:
                    begin_us, end_us = story.fault_interval(fault)
                    kind = str(msgspec.to_builtins(fault)["kind"])
                    found.append(Fault(kind, row, begin_us, end_us, _strength(made[at], usual[at])))
    device_of = np.repeat(np.arange(story.devices), len(metrics))
    number, mean, low, high, spread = (np.column_stack(columns[name]) for name in _COLUMNS)
    return Windows(series, device_of, start, number, mean, low, high, spread, found)


def _windows(device: Device, start: Ints) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the columns of each metric of a device, over all starts."""
    device.begin_us -= _BEFORE_US
    blocks = list(device.blocks())
    times = np.concatenate([block for block, _ in blocks])
    for at in range(len(device.plan.scenario.metrics)):
        yield _column(times, np.concatenate([values[at] for _, values in blocks]), start)


def _column(times: Ints, values: Floats, start: Ints) -> dict[str, NDArray[Any]]:
    there = ~np.isnan(values)
    times, values = times[there], values[there]
    window = (times - start[0]) // LENGTH_US
    inside = window < len(start)
    times, values, window = times[inside], values[inside], window[inside]
    (first,) = np.nonzero(np.diff(window, prepend=-1))
    rows = of_readings(first, times, values, np.zeros(len(values), np.uint64))
    out: dict[str, NDArray[Any]] = {"number": np.zeros(len(start), np.int64)}
    out["number"][window[first]] = rows.count
    parts = {"mean": rows.mean, "low": rows.min, "high": rows.max, "spread": np.sqrt(rows.m2 / rows.count)}
    for name, part in parts.items():
        out[name] = np.full(len(start), np.nan)
        out[name][window[first]] = part
    return out


def _strength(made: dict[str, NDArray[Any]], usual: dict[str, NDArray[Any]]) -> float:
    """Return how far the fault stands out; 0 if nothing of it can be seen in windows."""
    most = 0.0
    for name in ("mean", "spread"):
        off = np.nanmax(np.abs(made[name] - usual[name]), initial=0.0)
        deviation = float(np.nanstd(usual[name]))
        most = max(most, off / deviation if deviation > 0 else 0.0)
    return float(most)
