"""What is said of detectors to people: of each series what it has learnt, when it last alarmed, what is set aside, what all costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from headwater_edge.detection.detection import Detection
from headwater_edge.detection.gone import Gone
from headwater_edge.detection.group import Group
from headwater_edge.detection.judge import Judge
from headwater_edge.state import State


def told(detection: Detection, series: str = "*", most: int = 1000) -> dict[str, Any]:
    """Return `detectors` (one a rule and detector: bytes a series, us a window) and `series` that match, `most` of them."""
    return {
        "detectors": [each for judge in detection.judges for each in _costs(judge)],
        "series": [row for _, row in zip(range(most), _rows(detection, series), strict=False)],
        "set_aside": [
            {"rule": judge.rule.name, "series": group.names[one.row], "detector": one.detector, "why": one.why,
             "since_us": one.since_us, "windows_left": one.left}
            for judge in detection.judges for group in judge.groups for one in group.ensemble.stopped()
        ],
    }  # fmt: skip


def troubles(state: State) -> list[str]:
    """Say what is wrong with detectors, a sentence each; none of it stops the agent."""
    found = [f"detectors of {rule} learn anew: the last snapshot had other ones" for rule in state.anew]
    aside: Counter[tuple[str, str]] = Counter()
    for judge in state.detection.judges:
        for group in judge.groups:
            for one in group.ensemble.detectors:
                if isinstance(one, Gone):
                    found.append(f"a detector of {judge.rule.name} does not run: {one.why}")
                for why, models in getattr(one, "lost", {}).items():
                    found.append(f"{models} models of {one.name} of {judge.rule.name} are learnt anew: {why}")
            aside.update(
                (f"{one.detector} of {judge.rule.name}", one.why) for one in group.ensemble.stopped()
            )
    found += [f"{name} is set aside for {series} series: {why}" for (name, why), series in aside.items()]
    return found


def _costs(judge: Judge) -> Iterator[dict[str, Any]]:
    for group in judge.groups:
        watch = group.ensemble.stopwatch
        for at, one in enumerate(group.ensemble.detectors):
            points = watch.points[at] if watch is not None else 0
            yield {
                "rule": judge.rule.name,
                "detector": one.name,
                "rows": one.rows,
                "bytes_a_row": round(one.bytes_of_a_row()),
                "us_a_window": round(watch.ns[at] / points / 1000, 2)
                if watch is not None and points
                else None,
                "gone": one.why if isinstance(one, Gone) else "",
            }


def _rows(detection: Detection, pattern: str) -> Iterator[dict[str, Any]]:
    for judge in detection.judges:
        for group in judge.groups:
            for row, name in enumerate(group.names):
                if name and fnmatchcase(name, pattern):
                    yield _row(judge, group, row, name)


def _row(judge: Judge, group: Group, row: int, name: str) -> dict[str, Any]:
    latest = group.latest[row].tolist()
    detectors = [one.name for one in group.ensemble.detectors]
    known = {one: rarity for one, rarity in zip(detectors, latest, strict=True) if rarity == rarity}  # noqa: PLR0124 - no NaN
    return {
        "rule": judge.rule.name,
        "series": name,
        "windows": int(group.windows[row]),
        "speak": sorted(known),
        "warm_up": [one for one in detectors if one not in known],
        "rarity": known,
        "degree": round(float(group.ensemble.degree.latest[row]), 3),
        "alarm": bool(group.on[row]),
        "last_alarm_us": int(group.begin[row]),
    }
