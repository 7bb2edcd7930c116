"""Each coarser level against a finer one: a minute is what its six times ten seconds add up to; so is one that hops.

Sessions begin and end where readings do: they are held against the readings alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headwater_appliance.audit_coarsened import Marks, is_among
from headwater_appliance.audit_findings import Finding, Findings, iso
from headwater_appliance.audit_stored import Windows
from headwater_appliance.audit_windows import Named, differences, off_by, paired, unequal
from headwater_shared.aggregates import Aggregates, merged_groups


def compare(
    levels: Sequence[Windows], marks: Marks, names: Sequence[str], findings: Findings, named: Named
) -> None:
    """Compare every level with the longest of the finer ones that fits into it; windows that are named already are left out.

    Args:
        levels: without sessions, the shortest first, each sorted by (series, start).
        marks: where the finer level is not kept, a coarser window is not compared with it.
        names: of the series.
        findings: what is wrong is added.
        named: windows that are known to be wrong, at any level.
    """
    for number, coarse in enumerate(levels):
        fits = [
            fine
            for fine in levels[:number]
            if fine.fits is None
            and fine.level.at_once == 1
            and coarse.level.hop_us % fine.level.length_us == 0
        ]
        for offset in range(0, coarse.level.length_us if fits else 0, coarse.level.hop_us or 1):
            _compare(fits[-1], off_by(coarse, offset), offset, marks, names, findings, named)


def _compare(
    fine: Windows,
    coarse: Windows,
    offset: int,
    marks: Marks,
    names: Sequence[str],
    findings: Findings,
    named: Named,
) -> None:
    length, level = coarse.level.length_us, coarse.level.name
    kept_from = max(coarse.kept_from, fine.kept_from)
    start = (fine.start - offset) // length * length + offset
    apart = marks.touched(fine.level, coarse.level, offset)
    inside = (start >= kept_from) & coarse.of(fine.series)
    inside &= ~is_among(fine.series, start - offset, length, (apart[0], apart[1] - offset))
    part = fine.take(inside)
    start = start[inside]
    new = np.ones(len(start), np.bool_)
    new[1:] = (np.diff(part.series) != 0) | (np.diff(start) != 0)
    first = np.flatnonzero(new)
    sums = merged_groups(part.rows, first) if len(first) else Aggregates.empty(0)
    whole = ~is_among(coarse.series, coarse.start - offset, length, (apart[0], apart[1] - offset))
    coarse = coarse.take((coarse.start >= kept_from) & whole)
    expected_at, found_at = paired(part.series[first], start[first], coarse.series, coarse.start)
    wrong = (expected_at < 0) | (found_at < 0)
    both = np.flatnonzero(~wrong)
    wrong[both] = unequal(sums.take(expected_at[both]), coarse.rows.take(found_at[both]))
    known = {
        (series, (start - offset) // length * length + offset)
        for name, series, start in named
        if name in {level, fine.level.name}
    }
    for at in np.flatnonzero(wrong).tolist():
        expected, found = int(expected_at[at]), int(found_at[at])
        key = (
            (int(part.series[first[expected]]), int(start[first[expected]]))
            if expected >= 0
            else (int(coarse.series[found]), int(coarse.start[found]))
        )
        if key in known:
            continue
        findings.altered += 1
        shown = differences(
            sums.take(np.array([expected])) if expected >= 0 else None,
            coarse.rows.take(np.array([found])) if found >= 0 else None,
        )
        text = f"it is not what its windows of {fine.level.name} add up to"
        findings.add(Finding("altered", text, names[key[0]], level, iso(key[1]), differences=shown))
