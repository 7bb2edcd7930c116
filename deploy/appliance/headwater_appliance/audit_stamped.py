"""Series whose readings the agent stamped: nobody but it knows their windows, so all windows of a series together count (R30).

So it is with all series where windows are over the time of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater_appliance.audit_findings import Finding, Findings
from headwater_appliance.audit_sent import Sent
from headwater_appliance.audit_stored import EVER, Windows
from headwater_appliance.audit_uncertain import Undecided, subset
from headwater_appliance.audit_windows import MEAN_TOLERANCE, off_by

Flags = NDArray[np.bool_]


def decide(sent: Sent, base: Windows, names: Sequence[str], findings: Findings) -> tuple[Flags, set[int]]:
    """Tell which readings without a time are counted, by the whole of each series at the base level.

    Returns:
        A flag a reading, and the series of which it cannot be told.
    """
    counted = sent.sure.copy()
    undecided: set[int] = set()
    for series in np.unique(sent.series[~sent.sure]).tolist():
        begin, end = np.searchsorted(sent.series, [series, series + 1])
        mine = slice(int(begin), int(end))
        sure, digest = sent.sure[mine], sent.digest[mine]
        low, high = np.searchsorted(base.series, [series, series + 1])
        count = int(base.rows.count[low:high].sum()) - int(sure.sum())
        with np.errstate(over="ignore"):
            left = base.rows.digest[low:high].sum(dtype=np.uint64) - digest[sure].sum(dtype=np.uint64)
        try:
            chosen = subset(digest[~sure], count, int(left))
        except Undecided:
            undecided.add(series)
            findings.undecided += 1
            text = f"{int((~sure).sum())} readings without a time were not acknowledged: too many to tell which are counted"
            findings.add(Finding("undecided", text, names[series], base.level.name))
            continue
        if chosen is not None:
            counted[begin + np.flatnonzero(~sure)[chosen]] = True
    return counted, undecided


def compare(
    sent: Sent,
    counted: Flags,
    undecided: set[int],
    windows: Windows,
    names: Sequence[str],
    findings: Findings,
) -> tuple[int, int]:
    """Compare each series' windows of one level, all together, with what was sent.

    Returns:
        How many readings are lost and how many twice at this level.
    """
    if windows.kept_from != EVER:
        return 0, 0  # some are deleted, and nobody knows which readings they held
    level = windows.level
    offsets = range(0, level.length_us, level.hop_us) if level.hop_us else (0,)
    wrong = [_compare(sent, counted, undecided, off_by(windows, at), names, findings) for at in offsets]
    lost, twice = zip(*wrong, strict=True)
    return max(lost), max(twice)


def _compare(
    sent: Sent,
    counted: Flags,
    undecided: set[int],
    windows: Windows,
    names: Sequence[str],
    findings: Findings,
) -> tuple[int, int]:
    """Compare windows of which each reading is in one."""
    lost = twice = 0
    for series in np.unique(sent.series).tolist():
        if series in undecided:
            continue
        begin, end = np.searchsorted(sent.series, [series, series + 1])
        mine = slice(int(begin), int(end))
        low, high = np.searchsorted(windows.series, [series, series + 1])
        must, may = int(sent.sure[mine].sum()), int(end - begin)
        has = int(windows.rows.count[low:high].sum())
        wrong = _differences(sent.take(mine).take(counted[mine]), windows.take(np.arange(low, high)))
        if not wrong:
            continue
        lost += max(0, must - has)
        twice += max(0, has - may)
        kind = "lost" if has < must else "twice" if has > may else "altered"
        findings.altered += kind == "altered"
        text = f"readings without a time, all windows together: {must} to {may} must be counted, {has} are"
        shown = {name: {"expected": pair[0], "found": pair[1]} for name, pair in wrong.items()}
        findings.add(Finding(kind, text, names[series], windows.level.name, differences=shown))  # type: ignore[arg-type]
    return lost, twice


def _differences(must: Sent, windows: Windows) -> dict[str, tuple[object, object]]:
    """Compare count, digest, minimum, maximum and mean of a whole series."""
    rows = windows.rows
    expected: dict[str, object] = {
        "count": len(must),
        "digest": f"{int(must.digest.sum(dtype=np.uint64)):016x}",
    }
    found: dict[str, object] = {
        "count": int(rows.count.sum()),
        "digest": f"{int(rows.digest.sum(dtype=np.uint64)):016x}",
    }
    if len(must) and len(windows):
        expected |= {"min": float(must.value.min()), "max": float(must.value.max())}
        found |= {"min": float(rows.min.min()), "max": float(rows.max.max())}
        mean = (
            float((must.value / len(must.value)).sum()),
            float((rows.mean * rows.count).sum() / max(1, rows.count.sum())),
        )
        if not abs(mean[0] - mean[1]) <= MEAN_TOLERANCE * float(np.abs(must.value).max()):
            expected["mean"], found["mean"] = mean
    return {name: (expected[name], found[name]) for name in expected if expected[name] != found[name]}
