"""Windows that an agent let go under pressure are not missed where a coarser one holds their readings, and nowhere else (R22, R30)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headwater_appliance.audit_stored import Stored
from headwater_shared.parts import COARSENED, tumbling
from tests.appliance.audit_cases import JUNK, Run, T, series, stored
from tests.appliance.test_audit import S, dropped, judged, only, window

NAME = series(0, 0)
LENGTHS = {name: tumbling(name).length_us for name in ("10s", "1m", "10m")}


def coarsened(found: Stored, level: str, start: int, *, mark: bool = True) -> None:
    """Let the finer windows within one of the first series go, as an agent does; `mark`: the coarser one says so."""
    for windows in found.levels:
        windows.flags = np.zeros(len(windows), np.int64) if windows.flags is None else windows.flags
    for finer in ("10s", "1m", "10m"):
        if LENGTHS[finer] >= tumbling(level).length_us:
            break
        for at in range(start, start + tumbling(level).length_us, LENGTHS[finer]):
            windows = next(w for w in found.levels if w.level.name == finer)
            if ((windows.series == found.names.index(NAME)) & (windows.start == at)).any():
                dropped(found, finer, NAME, at)
    if mark:
        windows, row = window(found, level, NAME, start)
        assert windows.flags is not None
        windows.flags[row] |= COARSENED


@pytest.mark.parametrize("level", ["1m", "10m"])
def test_r22_lost_resolution_is_no_lost_reading(tmp_path: Path, level: str) -> None:
    """Fine windows within a marked one are gone: all is good, every reading counted, and the audit says how many are coarsened."""
    run = Run(tmp_path / "ledger")
    run.junk()
    found = stored(run.readings, [JUNK])
    coarsened(found, level, T)
    findings = judged(run, found)
    assert findings.good, findings.findings
    assert (findings.counted, findings.coarsened) == (540, 1)


def test_r30_without_the_mark_they_are_lost(tmp_path: Path) -> None:
    """The same windows are gone and nobody says that they may be."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    coarsened(found, "1m", T, mark=False)
    findings = judged(run, found)
    assert findings.lost == 60
    assert not findings.good


def test_r30_a_mark_excuses_no_lost_reading(tmp_path: Path) -> None:
    """A reading that is not in the marked window either is lost, and named."""
    run = Run(tmp_path / "ledger")
    _, gone, _ = lost = next(one for one in run.readings if one[0] == NAME and one[1] >= T + 20 * S)
    left = [one for one in run.readings if one != lost]
    found = stored(left)
    coarsened(found, "10m", T)
    findings = judged(run, found)
    assert findings.lost == 1
    named = [finding for finding in findings.findings if finding.readings]
    assert {finding.level for finding in named} == {"10m", "1h"}
    assert all(finding.readings[0]["time_us"] == gone for finding in named)


def test_r30_a_mark_excuses_no_other_window(tmp_path: Path) -> None:
    """A fine window that is missing beside the marked one is lost."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    coarsened(found, "1m", T)
    dropped(found, "10s", NAME, T + 60 * S)
    findings = judged(run, found)
    assert findings.lost == 10
    assert only(findings).level == "10s"


def test_r30_an_uncertain_reading_is_found_in_the_marked_window(tmp_path: Path) -> None:
    """Whether a reading without acknowledgement is counted is read off the finest level that is kept."""
    run = Run(tmp_path / "ledger")
    run.send(0, T + 5 * S + 77, [1.25, 2.5], known=False)
    counted = [*run.readings, (NAME, T + 5 * S + 77, 1.25)]
    found = stored(counted)
    coarsened(found, "10m", T)
    findings = judged(run, found)
    assert findings.good, findings.findings
    assert findings.uncertain == 2


def test_r30_readings_without_a_time_are_sought_in_marked_windows_too(tmp_path: Path) -> None:
    """Series that the agent stamped are audited as a whole, over what is kept and what stands for the rest."""
    run = Run(tmp_path / "ledger", devices=(1, 2))
    stamped = []
    for n in range(40):
        run.bare(0, float(n))
        stamped.append((NAME, T + n * S, float(n)))
    found = stored(run.readings, stamped=stamped)
    coarsened(found, "1m", T)
    findings = judged(run, found)
    assert findings.good, findings.findings
    windows, row = window(found, "1m", NAME, T)
    windows.rows.count[row] -= 1
    assert judged_again(run, found) == 1


def judged_again(run: Run, found: Stored) -> int:
    from headwater_appliance.audit import audit
    from headwater_shared import ledger

    return audit(ledger.read(run.path), found).lost
