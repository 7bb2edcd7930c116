"""The audit of hopping and session windows, of levels that some series have, and of windows over the time of arrival."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest

from headwater_appliance.audit import audit
from headwater_appliance.audit_findings import Findings
from headwater_appliance.audit_stored import Stored, Windows
from headwater_shared import ledger
from headwater_shared.parts import level_of
from tests import reference
from tests.appliance.audit_cases import Run, T, aggregates, series, stored

S = 1_000_000
ALL = ("10s", "1m", "10m", "1h")
SOME: dict[str, tuple[str, ...]] = {"1m/20s": ("*/flow",), "session-10s": ("*",), "2m": ("north/*",)}


def with_kinds(readings: Sequence[tuple[str, int, float]]) -> Stored:
    """The stores that hold these readings, at the levels of `SOME` too."""
    found = stored(readings)
    for name, patterns in SOME.items():
        level = level_of(name)
        ours = [reading for reading in readings if any(fnmatchcase(reading[0], p) for p in patterns)]
        made = (
            reference.sessions(ours, level.gap_us)
            if level.gap_us
            else reference.windows(ours, level.length_us, level.hop_us)
        )
        found.levels.append(
            Windows(
                level,
                np.array([found.names.index(of) for of, _ in made], np.int64),
                np.array([start for _, start in made], np.int64),
                aggregates(list(made.values())),
            )
        )
    return found


def run_with_pauses(path: Path) -> Run:
    """Devices that send for 35 s, pause for 65, and send for 35 again."""
    run = Run(path, samples=35)
    for number in range(35):
        for device in range(3):
            run.send(device, T + (100 + number) * S + device, [float(number), -1.0])
    return run


def judged(run: Run, found: Stored, some: dict[str, tuple[str, ...]] = SOME) -> Findings:
    return audit(ledger.read(run.close()), found, ALL, some)


def of(found: Stored, level: str, name: str) -> tuple[Windows, list[int]]:
    """Windows of a level, and the rows of one series by start."""
    windows = next(w for w in found.levels if w.level.name == level)
    rows = np.flatnonzero(windows.series == found.names.index(name))
    return windows, rows[np.argsort(windows.start[rows])].tolist()


@pytest.mark.parametrize("told", [SOME, {}])
def test_a_run_that_kept_the_promise_passes(tmp_path: Path, told: dict[str, tuple[str, ...]]) -> None:
    """All kinds are compared, also if nobody says which series have a level: then those that have such windows."""
    run = run_with_pauses(tmp_path / "ledger")
    findings = judged(run, with_kinds(run.readings), told)
    assert findings.good, [str(finding) for finding in findings.findings]
    assert findings.windows["session-10s"] == 12
    assert findings.windows["1m/20s"] == 3 * 8
    assert findings.windows["2m"] == 2 * 2 * 2
    assert findings.split == {"session-10s": 0}


@pytest.mark.parametrize("level", list(SOME))
def test_a_level_that_is_not_there_is_lost(tmp_path: Path, level: str) -> None:
    """For the series that must have it, and only these."""
    run = run_with_pauses(tmp_path / "ledger")
    found = with_kinds(run.readings)
    found.levels = [windows for windows in found.levels if windows.level.name != level]
    findings = judged(run, found)
    assert findings.lost == 70 * {"1m/20s": 3, "session-10s": 6, "2m": 4}[level]
    assert {f.level for f in findings.findings} == {level}
    assert all(any(fnmatchcase(f.series, p) for p in SOME[level]) for f in findings.findings)


def _fewer(windows: Windows, row: int) -> None:
    windows.rows.count[row] -= 1


def _more(windows: Windows, row: int) -> None:
    windows.rows.count[row] += 1


def _other(windows: Windows, row: int) -> None:
    windows.rows.digest[row] ^= np.uint64(1)


def _higher(windows: Windows, row: int) -> None:
    windows.rows.max[row] += 1


def _elsewhere(windows: Windows, row: int) -> None:
    windows.start[row] += 1000 * S + 1


@pytest.mark.parametrize(
    ("change", "kind"),
    [(_fewer, "lost"), (_more, "twice"), (_other, "altered"), (_higher, "altered"), (_elsewhere, "")],
)
@pytest.mark.parametrize("level", list(SOME))
def test_one_wrong_window_is_named(
    tmp_path: Path, level: str, change: Callable[[Windows, int], None], kind: str
) -> None:
    """Series and level, whatever of it is wrong; one under another start fails too."""
    run = run_with_pauses(tmp_path / "ledger")
    found = with_kinds(run.readings)
    windows, rows = of(found, level, series(0, 0))
    change(windows, rows[1])
    findings = judged(run, found)
    assert not findings.good
    assert {(f.series, f.level) for f in findings.findings} == {(series(0, 0), level)}
    if kind:
        assert [f.kind for f in findings.findings] == [kind]
    assert (findings.lost, findings.twice) == {"lost": (1, 0), "twice": (0, 1)}.get(kind, (findings.lost, 0))


def test_a_lost_session_is_named(tmp_path: Path) -> None:
    """All of its readings."""
    run = run_with_pauses(tmp_path / "ledger")
    found = with_kinds(run.readings)
    windows, rows = of(found, "session-10s", series(0, 0))
    found.levels[found.levels.index(windows)] = windows.take(np.arange(len(windows)) != rows[1])
    findings = judged(run, found)
    (wrong,) = findings.findings
    assert (wrong.kind, wrong.series, wrong.level, findings.lost) == ("lost", series(0, 0), "session-10s", 35)


def test_one_reading_lost_of_all_hopping_windows_is_one(tmp_path: Path) -> None:
    """It is missing in each window that it belongs to, and is one reading."""
    run = run_with_pauses(tmp_path / "ledger")
    gone = next(r for r in run.readings[50:] if r[0] == series(0, 0))
    found, without = with_kinds(run.readings), with_kinds([r for r in run.readings if r != gone])
    found.levels[4] = without.levels[4]
    findings = judged(run, found)
    assert (findings.lost, findings.twice, findings.altered) == (1, 0, 0)
    assert [f.level for f in findings.findings] == ["1m/20s"] * 3
    assert [f.readings[0]["time_us"] for f in findings.findings] == [gone[1]] * 3


def test_two_sessions_in_one_are_named(tmp_path: Path) -> None:
    """A silence longer than the gap lies in it, though no reading is missing."""
    run = run_with_pauses(tmp_path / "ledger")
    found = with_kinds(run.readings)
    own = [reading for reading in run.readings if reading[0] == series(0, 0)]
    ((_, start), whole) = next(iter(reference.sessions(own, 10**12).items()))
    windows, rows = of(found, "session-10s", series(0, 0))
    kept = windows.take(np.arange(len(windows)) != rows[1])
    at = int(np.flatnonzero((kept.series == windows.series[rows[0]]) & (kept.start == start))[0])
    kept.rows.put(np.array([at]), aggregates([whole]))
    found.levels[found.levels.index(windows)] = kept
    (wrong,) = judged(run, found).findings
    assert (wrong.kind, wrong.series) == ("altered", series(0, 0))
    assert "silence" in wrong.text


def test_a_session_in_two_is_no_fault_and_is_counted(tmp_path: Path) -> None:
    """So a start leaves it where a late reading would have bridged; the two may even overlap by a base window."""
    run = Run(tmp_path / "ledger", samples=30)
    found, truth = with_kinds(run.readings), ledger.read(run.close())
    mine = sorted(reading for reading in run.readings if reading[0] == series(0, 0))
    for parted in ((mine[:12], mine[12:]), (mine[:10] + mine[11:13], mine[10:11] + mine[13:])):
        windows, rows = of(found, "session-10s", series(0, 0))
        halves = [next(iter(reference.sessions(half, 10**12).values())) for half in parted]
        kept = windows.take(~np.isin(np.arange(len(windows)), rows))
        at = next(n for n, other in enumerate(found.levels) if other is windows)
        found.levels[at] = Windows(
            kept.level,
            np.append(kept.series, [windows.series[rows[0]]] * 2),
            np.append(kept.start, [half.first_time for half in halves]),
            type(kept.rows).concatenate([kept.rows, aggregates(halves)]),
        )
        findings = audit(truth, found, ALL, SOME)
        assert findings.good, [str(finding) for finding in findings.findings]
        assert findings.split == {"session-10s": 1}


def test_uncertain_readings_are_those_of_the_base(tmp_path: Path) -> None:
    """What the base windows show to be counted must be in hopping windows and sessions too; undecided ones hide theirs."""
    run = run_with_pauses(tmp_path / "ledger")
    unsure = [(series(0, 0), T + 40 * S + n, float(n)) for n in range(31)]
    for _, time_us, value in unsure:
        run.send(0, time_us, [value], known=False)
    taken = with_kinds([*run.readings, *unsure[:20]])
    truth = ledger.read(run.close())
    findings = audit(truth, taken, ALL, SOME)
    assert {f.kind for f in findings.findings} == {"undecided"}
    assert audit(truth, with_kinds([*run.readings, *unsure]), ALL, SOME).good
    half = with_kinds([*run.readings, *unsure])
    half.levels[5] = with_kinds(run.readings).levels[5]
    assert {f.level for f in audit(truth, half, ALL, SOME).findings} == {"session-10s"}


def test_series_without_times_are_looked_at_as_a_whole(tmp_path: Path) -> None:
    """Each hop of a hopping level parts the readings, and so do sessions: count and digest must be those of the series."""
    run = Run(tmp_path / "ledger", samples=0)
    values = [float(n) for n in range(40)]
    for value in values:
        run.bare(0, value)
    name = series(0, 0)
    given = [(name, T + 7 * S * n, value) for n, value in enumerate(values)]
    found = with_kinds(given)
    for windows in found.levels:
        for row, start in enumerate(windows.start.tolist()):
            end = (
                start + windows.level.length_us - 1
                if windows.level.length_us
                else windows.rows.last_time[row]
            )
            held = [value for _, t, value in given if start <= t <= end]
            windows.rows.digest[row] = np.uint64(sum(reference.digest(None, v) for v in held) % 2**64)
    truth = ledger.read(run.close())
    findings = audit(truth, found, ALL, SOME)
    assert findings.good, [str(finding) for finding in findings.findings]
    for level in ("1m/20s", "session-10s"):
        windows, rows = of(found, level, name)
        windows.rows.count[rows[0]] -= 1
        findings = audit(truth, found, ALL, SOME)
        assert [(f.kind, f.level) for f in findings.findings if f.level == level][:1] == [("lost", level)]
        windows.rows.count[rows[0]] += 1


def test_windows_over_the_time_of_arrival_are_looked_at_series_by_series(tmp_path: Path) -> None:
    """Nobody but the agent knows when a reading arrived: what a series counts must be what was sent, at each level."""
    run = Run(tmp_path / "ledger", samples=40)
    arrived = {reading: (reading[0], T + 3 * n * S, reading[2]) for n, reading in enumerate(run.readings)}
    base = stored(arrived.values())
    names = [f"{name}@arrival" for name in ALL]
    for windows in base.levels:
        windows.level = level_of(f"{windows.level.name}@arrival")
        for row, start in enumerate(windows.start.tolist()):
            name = base.names[int(windows.series[row])]
            held = [
                r
                for r, (of, t, _) in arrived.items()
                if of == name and 0 <= t - start < windows.level.length_us
            ]
            windows.rows.digest[row] = np.uint64(sum(reference.digest(t, v) for _, t, v in held) % 2**64)
    truth = ledger.read(run.close())
    findings = audit(truth, base, names)
    assert findings.good, [str(finding) for finding in findings.findings]
    base.levels[1].rows.count[3] -= 1
    findings = audit(truth, base, names)
    assert [f.level for f in findings.findings if f.kind == "lost"] == ["1m@arrival"]
    assert findings.lost == 1


def test_sessions_that_retention_deleted_are_not_missed(tmp_path: Path) -> None:
    """Before the first one that begins after `kept_from` nothing is asked for, and behind it all."""
    run = run_with_pauses(tmp_path / "ledger")
    found = with_kinds(run.readings)
    windows = found.levels[5]
    found.levels[5] = windows.take(windows.start >= T + 50 * S)
    found.levels[5].kept_from = T + 50 * S
    truth = ledger.read(run.close())
    assert audit(truth, found, ALL, SOME).good
    found.levels[5] = found.levels[5].take(np.arange(len(found.levels[5])) > 0)
    assert audit(truth, found, ALL, SOME).lost == 35
