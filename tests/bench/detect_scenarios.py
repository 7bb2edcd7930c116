"""Detection on the simulator's scenarios, held against their truth: found by kind of fault, delay, false alarms.

`python -m tests.bench.detect_scenarios FOLDER` prints the table without keeping it, and keeps the windows in a folder for the next time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headwater_edge.detection.judge import Judge
from headwater_edge.detection.rules import DetectRule
from headwater_edge.detection.specs import Spec
from headwater_edge.fine import Rows
from headwater_edge.ring import of_their_own
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import Sketches, length_name
from tests.bench.results import Result
from tests.bench.scenario_windows import LENGTH_US, Fault, Floats, Windows, windows_of

ABOVE = 3.0
"""A fault is above the noise if it moves the mean, or the spread of the readings, of some window by more than so many standard
deviations of what that is without it. The others, and silence (of which there are no windows), are counted apart."""
_AFTER_US = 6 * LENGTH_US
"""An alarm so soon after a fault is of its end, and neither finds it nor is false."""
_WEEK_US = 7 * 86_400_000_000
Run = tuple[int, float]
"""A seed, and how many times as large as the scenario has them faults are."""
AS_TOLD: tuple[Run, ...] = ((1, 1.0), (2, 1.0), (3, 1.0))
WEAK: tuple[Run, ...] = ((4, 0.3), (5, 0.1))
_DEVICES = {"pumps": 60, "cold-chain": None, "city": None}
_SIGMAS = 5.0


class Alarm(NamedTuple):
    """That began in a window of a series, and why."""

    row: int
    start_us: int
    words: str


class Found(NamedTuple):
    """Of one scenario, over some runs."""

    by_kind: dict[str, tuple[int, int, list[float]]]
    """Found, of how many, each found one's delay in windows."""
    false: int
    weeks: float
    """Of all streams together."""
    points: int
    seconds: float

    @property
    def false_a_week(self) -> float:
        return self.false / self.weeks


def default(windows: Windows) -> Iterator[Alarm]:
    """Judge all windows by the default ensemble, as the agent does."""
    judge = Judge(DetectRule("all", "*", length_name(LENGTH_US), (Spec("default"),), "warning", ""))
    judge.grow(windows.series, windows.device)
    for at in range(len(windows.start)):
        rows = rows_at(windows, at)
        over = np.full(len(windows.series), windows.start[at] + LENGTH_US)
        for found in judge.take([rows], over, sealed=False):
            if found.begins:
                yield Alarm(found.series, found.begin_us, found.text)


def plain(windows: Windows) -> Iterator[Alarm]:
    """Judge by what is often done: a mean more than five standard deviations of all before it away from their mean."""
    n = np.zeros(len(windows.series))
    mean, m2 = np.zeros_like(n), np.zeros_like(n)
    on = np.zeros(len(n), np.bool_)
    for at in range(len(windows.start)):
        (row,) = np.nonzero(windows.number[at])
        value = windows.mean[at, row]
        deviation: Floats = np.sqrt(m2[row] / np.maximum(n[row], 1))
        far = (np.abs(value - mean[row]) > _SIGMAS * deviation) & (n[row] >= 30)
        for one in row[far & ~on[row]].tolist():
            yield Alarm(one, int(windows.start[at]), "far")
        on[row] = far
        n[row] += 1
        off = value - mean[row]
        mean[row] += off / n[row]
        m2[row] += off * (value - mean[row])


def rows_at(windows: Windows, at: int) -> Rows:
    """Return the windows of one start as panes that closed."""
    (series,) = np.nonzero(windows.number[at])
    n = len(series)
    count, mean, spread = windows.number[at, series], windows.mean[at, series], windows.spread[at, series]
    none, begin = np.zeros(n, np.uint64), np.full(n, windows.start[at])
    aggregates = Aggregates(
        count, none, mean, spread * spread * count, windows.low[at, series], windows.high[at, series], mean, begin, mean, begin,
    )  # fmt: skip
    return Rows(of_their_own(series, begin, 1, np.zeros(n, np.uint8)), aggregates, Sketches.empty(n))


def hold(windows: Windows, alarms: list[Alarm]) -> tuple[list[tuple[Fault, float]], list[Alarm]]:
    """Hold alarms against the truth.

    Returns:
        each fault with its delay in windows, NaN if it was not found; the false alarms.
    """
    delays = [(fault, float("nan")) for fault in windows.faults]
    false = []
    for alarm in alarms:
        is_true = False
        for at, (fault, delay) in enumerate(delays):
            same_device = windows.device[fault.row] == windows.device[alarm.row]
            begins = fault.begin_us - LENGTH_US < alarm.start_us
            if not (same_device and begins and alarm.start_us < fault.end_us + _AFTER_US):
                continue
            is_true = True
            if alarm.row == fault.row and alarm.start_us < fault.end_us and np.isnan(delay):
                delays[at] = (fault, float(alarm.start_us // LENGTH_US - fault.begin_us // LENGTH_US))
        if not is_true:
            false.append(alarm)
    return delays, false


def found(
    name: str, how: Callable[[Windows], Iterator[Alarm]], kept: Path | None, runs: tuple[Run, ...] = AS_TOLD
) -> Found:
    """Judge a scenario some times."""
    by_kind: dict[str, tuple[int, int, list[float]]] = {}
    false, weeks, points, seconds = 0, 0.0, 0, 0.0
    for seed, size in runs:
        windows = windows_of(name, seed, _DEVICES[name], kept, size)
        began = time.process_time()
        alarms = list(how(windows))
        seconds += time.process_time() - began
        delays, wrong = hold(windows, alarms)
        false += len(wrong)
        weeks += float(np.count_nonzero(windows.number)) * LENGTH_US / _WEEK_US
        points += int(np.count_nonzero(windows.number))
        for fault, delay in delays:
            kind = (
                fault.kind
                if fault.strength >= ABOVE or fault.kind == "dropout"
                else f"{fault.kind}, in the noise"
            )
            hit, of, all_delays = by_kind.get(kind, (0, 0, []))
            is_found = delay == delay  # noqa: PLR0124 - not NaN
            by_kind[kind] = (hit + is_found, of + 1, [*all_delays, *([delay] if is_found else [])])
    return Found(by_kind, false, weeks, points, seconds)


def share(found: list[Found]) -> tuple[int, int, list[float]]:
    """Add up the faults above the noise: found, of how many, their delays."""
    rows = [
        row
        for one in found
        for kind, row in one.by_kind.items()
        if kind != "dropout" and not kind.endswith("in the noise")
    ]
    return sum(row[0] for row in rows), sum(row[1] for row in rows), [d for row in rows for d in row[2]]


def table(found: dict[str, Found]) -> dict[str, Any]:
    """Return the table: by scenario what was found of each kind, and its median delay; false alarms a stream-week."""
    out: dict[str, Any] = {}
    for name, one in found.items():
        rows = {
            kind: f"{hit} of {of}" + (f", {np.median(delays):.0f} windows" if delays else "")
            for kind, (hit, of, delays) in sorted(one.by_kind.items())
        }
        out[name] = {**rows, "false alarms a stream-week": round(one.false_a_week, 3)}
    return out


def run(folder: Path, kept: Path | None = None) -> Iterator[Result]:
    """Run the bench."""
    kept = kept or folder
    ours = {name: found(name, default, kept) for name in _DEVICES}
    weak = {name: found(name, default, kept, WEAK) for name in _DEVICES}
    others = {name: found(name, plain, kept) for name in _DEVICES}
    (hit, of, delays), (plain_hit, plain_of, _) = share([*ours.values()]), share([*others.values()])
    weak_hit, weak_of, _ = share([*weak.values()])
    yield Result(
        "detect-scenarios",
        100 * hit / of,
        "% of the faults above the noise found",
        100 * plain_hit / plain_of,
        f"a mean {_SIGMAS:g} standard deviations of all before it from theirs",
        "nothing is written: windows of ten minutes over 25 days, faults of hours, no sockets",
        {
            "table": table(ours),
            "median delay in windows": float(np.median(delays)) if delays else None,
            "false alarms a stream-week": _false_a_week(ours),
            "of weak ones above the noise, a third and a tenth of their size": f"{weak_hit} of {weak_of}",
            "weak ones' table": table(weak),
            "above the noise": f"moves a window's mean or spread by {ABOVE:g} standard deviations of its own",
            "us a point": 1e6
            * sum(one.seconds for one in ours.values())
            / sum(one.points for one in ours.values()),
            "baseline's table": table(others),
            "baseline's false alarms a stream-week": _false_a_week(others),
        },
    )


def _false_a_week(found: dict[str, Found]) -> float:
    return sum(one.false for one in found.values()) / sum(one.weeks for one in found.values())


def main(folder: Path) -> None:
    """Print the table, and the false alarms' reasons of one seed."""
    for result in run(folder, folder):
        for of in ("table", "weak ones' table"):
            print(of)
            for name, rows in result.more[of].items():
                for kind, what in rows.items():
                    print(f"  {name:12} {kind:32} {what}")
        print("weak ones above the noise:", *[v for k, v in result.more.items() if k.startswith("of weak")])
        print(f"found {result.figure:.1f} % (baseline {result.baseline:.1f} %)")
        for name in ("median delay in windows", "false alarms a stream-week", "us a point", "baseline's false alarms a stream-week"):  # fmt: skip
            print(f"{name}: {result.more[name]:.3g}")
    for name, devices in _DEVICES.items():
        windows = windows_of(name, 1, devices, folder)
        for alarm in hold(windows, list(default(windows)))[1][:10]:
            day = (alarm.start_us - int(windows.start[0])) / 86_400e6
            print(f"false: {windows.series[alarm.row]:32} day {day:5.2f}  {alarm.words}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
