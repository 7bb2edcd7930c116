"""Windows against the ledger: what each must hold by what was sent, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_findings import Finding, Findings, Kind, iso
from headwater_appliance.audit_sent import Sent, windows_of
from headwater_appliance.audit_stored import Windows
from headwater_appliance.audit_uncertain import Undecided, subset
from headwater_shared.aggregates import Aggregates, of_readings

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Named = set[tuple[str, int, int]]
"""Windows that are known to be wrong: (level, series, start)."""

EXACT = ("count", "digest", "min", "max", "first", "last")
MEAN_TOLERANCE = 1e-9
"""Relative to the largest value: the order of merging moves the last bits (R31)."""
_PAIRS = 200  # readings of a window among which an exchange of one for another is looked for


def decide(
    sent: Sent, base: Windows, names: Sequence[str], findings: Findings
) -> tuple[Flags, set[tuple[int, int]]]:
    """Tell which timed readings are counted: the sure ones, and those uncertain ones that the base windows show (R30).

    Returns:
        A flag a reading, and the base windows (series, start) of which it cannot be told.
    """
    counted = sent.sure.copy()
    undecided: set[tuple[int, int]] = set()
    if counted.all():
        return counted, undecided
    first, start = windows_of(sent, base.level.length_us)
    ends = np.append(first[1:], len(sent))
    some = np.flatnonzero(np.add.reduceat(~sent.sure, first))
    at, row = paired(sent.series[first[some]], start[some], base.series, base.start)
    row_of = np.full(len(some), -1, np.int64)
    row_of[at[at >= 0]] = row[at >= 0]
    for group, stored in zip(some.tolist(), row_of.tolist(), strict=True):
        begin, end = int(first[group]), int(ends[group])
        sure = sent.sure[begin:end]
        count, digest = (
            (int(base.rows.count[stored]), int(base.rows.digest[stored])) if stored >= 0 else (0, 0)
        )
        known = int(sent.digest[begin:end][sure].sum(dtype=np.uint64))
        unsure = begin + np.flatnonzero(~sure)
        try:
            chosen = subset(sent.digest[unsure], count - int(sure.sum()), (digest - known) % 2**64)
        except Undecided:
            key = (int(sent.series[begin]), int(start[group]))
            undecided.add(key)
            findings.undecided += 1
            text = (
                f"{len(unsure)} readings were sent and not acknowledged: too many to tell which are counted"
            )
            findings.add(Finding("undecided", text, names[key[0]], base.level.name, iso(key[1])))
            continue
        if chosen is not None:
            counted[unsure[chosen]] = True
    return counted, undecided


def compare(
    sent: Sent,
    counted: Flags,
    undecided: set[tuple[int, int]],
    windows: Windows,
    names: Sequence[str],
    findings: Findings,
    named: Named,
) -> tuple[int, int]:
    """Compare the windows of one level with what they must hold, but for those around undecided ones.

    Returns:
        How many readings are lost and how many twice at this level; what is wrong goes to `findings` and `named`.
    """
    # A hopping level is as many tumbling ones, each off by another hop: a reading is in one window of each.
    level = windows.level
    wrong = [
        _compare(sent, counted, undecided, off_by(windows, offset), offset, names, findings, named)
        for offset in range(0, level.length_us, level.hop_us)
    ]
    lost, twice = zip(*wrong, strict=True)
    return max(lost), max(twice)


def off_by(windows: Windows, offset_us: int) -> Windows:
    """Return the windows that start so long after a multiple of their length; at 0 also those that start at no hop."""
    level = windows.level
    if level.at_once == 1:
        return windows
    off = windows.start % level.length_us
    return windows.take((off == offset_us) | ((offset_us == 0) & (off % level.hop_us != 0)))


def _compare(
    sent: Sent,
    counted: Flags,
    undecided: set[tuple[int, int]],
    windows: Windows,
    offset: int,
    names: Sequence[str],
    findings: Findings,
    named: Named,
) -> tuple[int, int]:
    length, level = windows.level.length_us, windows.level.name
    must = sent.take(counted)
    first, start = windows_of(must, length, offset)
    rows = of_readings(first, must.time, must.value, must.digest) if len(first) else Aggregates.empty(0)
    series = must.series[first]
    is_kept = start >= windows.kept_from
    series, start, rows = series[is_kept], start[is_kept], rows.take(np.flatnonzero(is_kept))
    stored = windows.take(np.flatnonzero(windows.start >= windows.kept_from))
    expected_at, found_at = paired(series, start, stored.series, stored.start)
    wrong = (expected_at < 0) | (found_at < 0)
    both = np.flatnonzero(~wrong)
    wrong[both] = unequal(rows.take(expected_at[both]), stored.rows.take(found_at[both]))
    findings.windows[level] = findings.windows.get(level, 0) + len(wrong)
    hidden = {(of, (begin - offset) // length * length + offset) for of, begin in undecided}
    lost = twice = 0
    for at in np.flatnonzero(wrong).tolist():
        expected, found = int(expected_at[at]), int(found_at[at])
        key = (
            (int(series[expected]), int(start[expected]))
            if expected >= 0
            else (int(stored.series[found]), int(stored.start[found]))
        )
        if key in hidden:
            continue
        named.add((level, *key))
        kind, how_many, text, readings = judge(
            _readings(sent, key, length), _row(rows, expected), _row(stored.rows, found)
        )
        lost += how_many if kind == "lost" else 0
        twice += how_many if kind == "twice" else 0
        findings.altered += kind == "altered"
        shown = differences(_row(rows, expected), _row(stored.rows, found))
        findings.add(Finding(kind, text, names[key[0]], level, iso(key[1]), "", shown, readings))
    return lost, twice


def paired(a_series: Ints, a_start: Ints, b_series: Ints, b_start: Ints) -> tuple[Ints, Ints]:
    """Pair the windows of two lists, in each of which a window stands once.

    Returns:
        For each window of either, its index in the first list and in the second, -1 where it is not; sorted by both.
    """
    series, start = np.concatenate([a_series, b_series]), np.concatenate([a_start, b_start])
    order = np.lexsort((start, series))
    series, start = series[order], start[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(series) != 0) | (np.diff(start) != 0)
    group = np.cumsum(new) - 1
    of_b = order >= len(a_series)
    n = int(group[-1]) + 1 if len(group) else 0
    a_at, b_at = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    a_at[group[~of_b]] = order[~of_b]
    b_at[group[of_b]] = order[of_b] - len(a_series)
    return a_at, b_at


def unequal(a: Aggregates, b: Aggregates) -> Flags:
    """Tell which rows differ: all exactly, the mean to `MEAN_TOLERANCE`; shape (n,)."""
    wrong = np.zeros(len(a), np.bool_)
    for name in EXACT:
        wrong |= ~(getattr(a, name) == getattr(b, name))  # NaN, which no window may hold, differs too
    scale = np.maximum(np.abs(a.min), np.abs(a.max))
    return wrong | ~(np.abs(a.mean - b.mean) <= MEAN_TOLERANCE * scale)


def differences(expected: Aggregates | None, found: Aggregates | None) -> dict[str, dict[str, Any]]:
    """Return what differs between two windows, either of which may be missing."""
    if expected is not None and found is not None:
        scale = max(abs(expected.min[0]), abs(expected.max[0]))
        names = [name for name in EXACT if getattr(expected, name)[0] != getattr(found, name)[0]]
        names += ["mean"] if not abs(expected.mean[0] - found.mean[0]) <= MEAN_TOLERANCE * scale else []
    else:
        names = ["count", "digest"]
    return {name: {"expected": _shown(expected, name), "found": _shown(found, name)} for name in names}


def _shown(row: Aggregates | None, name: str) -> Any:
    if row is None:
        return None
    value = getattr(row, name)[0].item()
    return f"{value:016x}" if name == "digest" else value


def _row(rows: Aggregates, at: int) -> Aggregates | None:
    return rows.take(np.array([at])) if at >= 0 else None


def _readings(sent: Sent, key: tuple[int, int], length_us: int) -> Sent:
    """Return all readings, counted or not, that belong to a window."""
    begin, end = np.searchsorted(sent.series, [key[0], key[0] + 1])
    times = sent.time[begin:end]
    low, high = np.searchsorted(times, [key[1], key[1] + length_us])
    return sent.take(slice(int(begin + low), int(begin + high)))


def judge(
    readings: Sent, expected: Aggregates | None, found: Aggregates | None
) -> tuple[Kind, int, str, list[dict[str, Any]]]:
    """Say what is wrong with a window: kind, how many readings, in words, and which ones the digest convicts."""
    must, may = int(readings.sure.sum()), len(readings)
    has = int(found.count[0]) if found is not None else 0
    if has < must:
        missing = must - has
        what = "the window is missing" if found is None else "it lacks readings"
        return "lost", missing, f"{what}: {missing} acknowledged lost", _missing(readings, expected, found)
    if may == 0:
        return "altered", 0, "no reading that was sent explains this window", []
    if has > may:
        return "twice", has - may, f"{has - may} counted too often", _doubled(readings, expected, found)
    if found is not None and expected is not None and found.digest[0] != expected.digest[0]:
        return "altered", 0, "it holds other readings than were sent", _exchanged(readings, expected, found)
    return "altered", 0, "its readings are right, what it says of them is not", []


def _missing(readings: Sent, expected: Aggregates | None, found: Aggregates | None) -> list[dict[str, Any]]:
    if expected is None or found is None:
        return []
    with np.errstate(over="ignore"):
        gone = expected.digest[0] - found.digest[0]
    return _listed(readings, readings.digest == gone)


def _doubled(readings: Sent, expected: Aggregates | None, found: Aggregates | None) -> list[dict[str, Any]]:
    if expected is None or found is None:
        return []
    with np.errstate(over="ignore"):
        extra = found.digest[0] - expected.digest[0]
    return _listed(readings, readings.digest == extra)


def _exchanged(readings: Sent, expected: Aggregates, found: Aggregates) -> list[dict[str, Any]]:
    """One reading counted in the place of another of the same window."""
    if len(readings) > _PAIRS:
        return []
    with np.errstate(over="ignore"):
        apart = readings.digest[:, None] - readings.digest[None, :]
        pairs = np.argwhere(apart == found.digest[0] - expected.digest[0])
    return _listed(readings, pairs[0]) if len(pairs) else []


def _listed(readings: Sent, at: Any) -> list[dict[str, Any]]:
    chosen = readings.take(at)
    return [
        {"time": iso(time), "time_us": time, "value": value}
        for time, value in zip(chosen.time.tolist(), chosen.value.tolist(), strict=True)
    ]
