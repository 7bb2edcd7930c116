"""Session windows against the ledger: every reading in exactly one, figures right, and no silence in one longer than the gap.

A session is known by its readings: those from its first to its last. Two that go on in each other are no fault, but are
counted as split: a start of the agent leaves what it can no longer bridge, and what comes later than sessions are held
is one of its own. Where the times of two overlap therefore, both are held against their readings together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_findings import Finding, Findings, iso
from headwater_appliance.audit_sent import Sent
from headwater_appliance.audit_stored import EVER, Windows
from headwater_appliance.audit_windows import Named, differences, judge, paired, unequal
from headwater_shared.aggregates import Aggregates, merged_groups, of_readings

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def compare(
    sent: Sent,
    counted: Flags,
    undecided: set[tuple[int, int]],
    base_us: int,
    windows: Windows,
    names: Sequence[str],
    findings: Findings,
    named: Named,
) -> tuple[int, int]:
    """Compare the sessions of one level with the readings, but for those around undecided base windows.

    Returns:
        How many readings are lost and how many twice at this level; what is wrong goes to `findings` and `named`.
    """
    level, lost, twice = windows.level, 0, 0
    unclear: dict[int, list[tuple[int, int]]] = {}
    for series, start in undecided:
        unclear.setdefault(series, []).append((start - level.gap_us, start + base_us + level.gap_us))
    for series in np.unique(np.append(sent.series, windows.series)).tolist():
        begin, end = np.searchsorted(sent.series, [series, series + 1])
        low, high = np.searchsorted(windows.series, [series, series + 1])
        mine = sent.take(slice(int(begin), int(end)))
        must, ours = _kept(mine.take(counted[begin:end]), windows.take(np.arange(low, high)))
        stretches, split = _stretches(must, ours)
        findings.windows[level.name] = findings.windows.get(level.name, 0) + len(ours)
        findings.split[level.name] = findings.split.get(level.name, 0) + split
        for first, last, expected, found, misplaced in stretches:
            if any(a <= last and first <= b for a, b in unclear.get(series, ())):
                continue
            named.add((level.name, series, first))
            around = mine.take((mine.time >= first) & (mine.time <= last))
            kind, how_many, text, readings = judge(around, expected, found)
            lost += how_many if kind == "lost" else 0
            twice += how_many if kind == "twice" else 0
            findings.altered += kind == "altered"
            text = misplaced if misplaced and kind == "altered" else text
            shown = differences(expected, found)
            findings.add(Finding(kind, text, names[series], level.name, iso(first), "", shown, readings))
    return lost, twice


_Stretch = tuple[int, int, Aggregates | None, Aggregates | None, str]
"""First and last time, what must be there, what is, and what else is wrong."""


def _stretches(must: Sent, windows: Windows) -> tuple[list[_Stretch], int]:
    """Return what is wrong of one series, and how many of its sessions go on in another one.

    The times of a series fall into stretches: those in which sessions lie that overlap, and those between them. The
    stretch of sessions i has number 2i + 1, the one behind it 2i + 2.
    """
    gap_us, rows = windows.level.gap_us, windows.rows
    order = np.argsort(rows.first_time, kind="stable")
    first, latest = rows.first_time[order], np.maximum.accumulate(rows.last_time[order])
    begins = np.append(True, first[1:] > latest[:-1])[: len(first)]
    of_window, starts = np.cumsum(begins) - 1, np.flatnonzero(begins)
    first, last = first[starts], latest[np.append(starts[1:], len(order))[: len(starts)] - 1]
    split = len(order) - len(starts) + int((first[1:] - last[:-1] <= gap_us).sum())
    found = merged_groups(rows.take(order), starts) if len(starts) else Aggregates.empty(0)

    behind = np.searchsorted(first, must.time, side="right") - 1
    inside = (behind >= 0) & (must.time <= np.append(last, 0)[behind])
    number = 2 * behind + 2 - inside
    own = np.flatnonzero(np.append(True, number[1:] != number[:-1])[: len(number)])
    expected = of_readings(own, must.time, must.value, must.digest) if len(own) else Aggregates.empty(0)

    silent = number[1:][inside[1:] & (number[1:] == number[:-1]) & (np.diff(must.time) > gap_us)]
    start = windows.start[order]
    elsewhere = 2 * of_window[(start < first[of_window]) | (start > last[of_window])] + 1
    zeros = np.zeros(len(own) + len(starts), np.int64)
    expected_at, found_at = paired(
        zeros[: len(own)], number[own], zeros[len(own) :], 2 * np.arange(len(starts)) + 1
    )
    out: list[_Stretch] = []
    for e, f in zip(expected_at.tolist(), found_at.tolist(), strict=True):
        must_be = expected.take(np.array([e])) if e >= 0 else None
        is_there = found.take(np.array([f])) if f >= 0 else None
        misplaced = ""
        if f >= 0 and 2 * f + 1 in silent:
            misplaced = "it holds a silence that is longer than the gap"
        elif f >= 0 and 2 * f + 1 in elsewhere:
            misplaced = "it bears a start at which it is not"
        if (
            must_be is not None
            and is_there is not None
            and not misplaced
            and not unequal(must_be, is_there).any()
        ):
            continue
        one = must_be if is_there is None else is_there
        assert one is not None
        out.append((int(one.first_time[0]), int(one.last_time[0]), must_be, is_there, misplaced))
    return out, split


def _kept(must: Sent, windows: Windows) -> tuple[Sent, Windows]:
    """Leave out what lies before the first session that retention cannot have deleted."""
    if windows.kept_from == EVER:
        return must, windows
    begins = np.append(True, np.diff(must.time) > windows.level.gap_us)[: len(must)] & (
        must.time >= windows.kept_from
    )
    from_us = int(must.time[begins].min(initial=np.iinfo(np.int64).max))
    return must.take(must.time >= from_us), windows.take(windows.rows.first_time >= from_us)
