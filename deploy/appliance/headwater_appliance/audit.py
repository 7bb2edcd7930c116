"""The audit: proves promise 1 of a finished run, or says what is wrong where (R30).

    ledger ▶ audit_sent ──────┐
    cloud.db ▶ audit_stored ──┼▶ audit_dead ▶ audit_coarsened ▶ audit_uncertain ▶ audit_windows, audit_sessions, audit_stamped
    edge.db ▶ audit_stored ───┘                                                              ▶ audit_levels ▶ audit_findings

What a device was told is taken must be in every window it belongs to exactly once, at each level that is kept, or in the
dead letters; what the stores hold must have been sent. It reads files only, which may be in use; or, in the place of cloud.db,
what InfluxDB holds (audit_influxql ▶ audit_store).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headwater_appliance import (
    audit_dead,
    audit_levels,
    audit_rollups,
    audit_sessions,
    audit_stamped,
    audit_store,
    audit_windows,
)
from headwater_appliance.audit_coarsened import Marks
from headwater_appliance.audit_findings import Findings
from headwater_appliance.audit_influxql import Source
from headwater_appliance.audit_sent import Sent, of_truth
from headwater_appliance.audit_stored import Stored, Windows, read
from headwater_appliance.audit_windows import Named
from headwater_shared import ledger as ledgers
from headwater_shared.aggregates import Aggregates
from headwater_shared.digest import NO_TIME
from headwater_shared.ledger import Truth
from headwater_shared.parts import level_of

LEVELS = ("10s", "1m", "10m", "1h")
"""Those that must be there, where nothing else is said."""
Flags = NDArray[np.bool_]
Some = Mapping[str, Sequence[str]]
"""Levels that only some series have, with the patterns of these."""
NONE: Some = {}
HISTORY, AGENT = "cloud.db", "edge.db"
"""In the data folder."""
LOOKS = 20
_WAIT_S = 0.5
_SHOWN = 20
_AT_ONCE = 1_000_000
"""Readings that are compared at once, whole series: memory is for these, and for what is read."""


def run_audit(
    ledger: Path,
    data: Path,
    *,
    levels: Sequence[str] = LEVELS,
    some: Some = NONE,
    agents: Sequence[Path] | None = None,
    store: Source | None = None,
    looks: int = LOOKS,
    as_json: bool = False,
) -> int:
    """Audit a data folder and print what was found, the counts in the last line.

    Args:
        ledger: of the fleet.
        data: the folder with the cloud side's file and the agent's.
        levels: names of the levels that must be there, for all series.
        some: further levels that must be there, with the patterns of the series that have them.
        agents: the agents' files, if not the one in the folder.
        store: of which the windows are judged, in the place of those of the cloud side's file.
        looks: how often the store is read, half a second apart, while something is wrong: what was just written takes a moment.
        as_json: print all of the evidence as one JSON object; the last line then goes to the standard error.

    Returns:
        The exit code: 0 if all is as it must be, else 1.

    Raises:
        StateError: a file is not there, or is something else; the store does not let us read.
        TryAgain: the store does not answer.
    """
    truth, agents = ledgers.read(ledger), [data / AGENT] if agents is None else agents
    if store is None:
        stored = read(data / HISTORY, agents)
        findings = audit(truth, stored, levels, some)
        if findings.good:  # of windows that are wrong rollups say nothing
            audit_rollups.compare(data / HISTORY, findings)
    else:
        stored, findings = _of_store(store, truth, data / HISTORY, agents, levels, some, looks)
    if as_json:
        print(json.dumps({**findings.evidence(), "waiting": stored.waiting}, indent=1))
        print(findings.line(), file=sys.stderr)
        return 0 if findings.good else 1
    for finding in findings.findings[:_SHOWN]:
        print(finding)
    more = len(findings.findings) - _SHOWN + findings.not_shown
    if more > 0:
        print(f"audit: and {more} more; --json has them")
    if findings.lost and stored.waiting:
        print(
            f"audit: the agent's outbox still holds {stored.waiting} rows: are all windows closed and forwarded?"
        )
    print(findings.line())
    return 0 if findings.good else 1


def _of_store(
    store: Source,
    truth: Truth,
    history: Path,
    agents: Sequence[Path],
    levels: Sequence[str],
    some: Some,
    looks: int,
) -> tuple[Stored, Findings]:
    for look in range(looks):
        found = audit_store.read(store, (*levels, *some), history, agents, time.time_ns() // 1000)
        findings = audit(truth, found.windows, levels, some)
        audit_store.judge(found, findings)
        if findings.good or look == looks - 1:
            break
        time.sleep(_WAIT_S)
    return found.windows, findings


def audit(truth: Truth, stored: Stored, levels: Sequence[str] = LEVELS, some: Some = NONE) -> Findings:
    """Compare what the stores hold with what the ledger says that they must.

    Args:
        truth: the ledger.
        stored: windows and dead letters.
        levels: names of those that must be there for all series.
        some: of those that must be there for some, with patterns; others that are there are audited too, for the series
            that have such windows.
    """
    findings = Findings()
    names = sorted({*truth.series, *stored.names})
    kept = _complete(stored.renamed(names), names, levels, some)
    marks = Marks(kept)
    kept = [marks.without(windows) for windows in kept]
    filled = [marks.filled(windows) for windows in kept]
    findings.coarsened = len(marks)
    findings.counted = int(filled[0].rows.count.sum())
    others = audit_dead.compare(truth.unreadable, stored.dead, findings)
    letters = audit_dead.SetAside(others, names)
    named: Named = set()
    lost, twice = np.zeros((2, len(kept)), np.int64)
    for first, end, sent in of_truth(truth, names, _AT_ONCE):
        findings.acknowledged += int(sent.sure.sum())
        findings.uncertain += int((~sent.sure).sum())
        sent.sure &= ~letters.of(sent)
        ours = [windows.take(windows.between(first, end)) for windows in kept]
        whole = [windows.take(windows.between(first, end)) for windows in filled]
        # A series with readings that the agent stamped is looked at as a whole, also those that bore a time.
        stamped = np.full(len(names), kept[0].level.arrival)
        stamped[sent.series[sent.time == NO_TIME]] = True
        timed, untimed = sent.take(~stamped[sent.series]), sent.take(stamped[sent.series])
        for wrong in (
            _timed(timed, [_of(w, ~stamped) for w in ours], marks, names, findings, named),
            _untimed(untimed, [_of(w, stamped) for w in whole], names, findings),
        ):
            lost += [missing for missing, _ in wrong]
            twice += [extra for _, extra in wrong]
    letters.judge(findings)
    audit_levels.compare([w for w in kept if not w.level.gap_us], marks, names, findings, named)
    # A reading that is lost at several levels is one reading.
    findings.lost += int(lost.max())
    findings.twice += int(twice.max())
    return findings


def _of(windows: Windows, series: Flags) -> Windows:
    return windows.take(series[windows.series])


def _timed(
    sent: Sent,
    kept: Sequence[Windows],
    marks: Marks,
    names: Sequence[str],
    findings: Findings,
    named: Named,
) -> list[tuple[int, int]]:
    """Audit window by window; return lost and twice, a level."""
    counted, undecided = _decide(sent, kept, marks, names, findings)
    out = []
    for windows in kept:
        ours = windows.of(sent.series) & ~marks.gone(windows.level, sent.series, sent.time)
        of = sent.take(ours), counted[ours], undecided
        if windows.level.gap_us:
            base_us = kept[0].level.length_us
            out.append(audit_sessions.compare(*of, base_us, windows, names, findings, named))
        else:
            out.append(audit_windows.compare(*of, windows, names, findings, named))
    return out


def _decide(
    sent: Sent, kept: Sequence[Windows], marks: Marks, names: Sequence[str], findings: Findings
) -> tuple[Flags, set[tuple[int, int]]]:
    """Tell which readings are counted: by the base windows, and where these are not kept by the finest that are (R22)."""
    counted = sent.sure.copy()
    undecided: set[tuple[int, int]] = set()
    left = np.ones(len(sent), np.bool_)
    for windows in kept:
        if windows.level.gap_us or windows.level.at_once > 1 or not left.any():
            continue
        here = left & ~marks.gone(windows.level, sent.series, sent.time)
        counted[here], unclear = audit_windows.decide(sent.take(here), windows, names, findings)
        undecided |= unclear
        left &= ~here
    return counted, undecided


def _untimed(
    sent: Sent, kept: Sequence[Windows], names: Sequence[str], findings: Findings
) -> list[tuple[int, int]]:
    """Audit series by series; return lost and twice, a level."""
    counted, undecided = audit_stamped.decide(sent, kept[0], names, findings)
    out = []
    for windows in kept:
        ours = windows.of(sent.series)
        out.append(audit_stamped.compare(sent.take(ours), counted[ours], undecided, windows, names, findings))
    return out


def _complete(kept: list[Windows], names: Sequence[str], levels: Sequence[str], some: Some) -> list[Windows]:
    """Say which series have each level, and add levels that must be there and are not, without windows.

    Returns:
        the base first, then tumbling and hopping ones, the shortest first, then sessions.
    """
    known = {windows.level.name for windows in kept}
    none = np.zeros(0, np.int64)
    missing = [
        Windows(level_of(name), none, none.copy(), Aggregates.empty(0))
        for name in (*levels, *some)
        if name not in known
    ]
    out = [*kept, *missing]
    for windows in out:
        if windows.level.name in levels:
            continue
        patterns = some.get(windows.level.name)
        fits = np.zeros(len(names), np.bool_)
        if patterns is None:
            fits[windows.series] = True
        else:
            fits[:] = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
        windows.fits = fits
    return sorted(out, key=lambda w: (w.level.gap_us, w.level.length_us, w.level.at_once))
