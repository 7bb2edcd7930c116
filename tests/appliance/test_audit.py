"""The audit passes what is right, and names each thing that is wrong where it is wrong."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from headwater_appliance.audit import audit
from headwater_appliance.audit_findings import Finding, Findings
from headwater_appliance.audit_stored import Stored, Windows
from headwater_shared import ledger
from headwater_shared.aggregates import Aggregates
from headwater_shared.ledger import COPY, RESENT
from tests.appliance.audit_cases import JUNK, Run, T, aggregates, series, stored
from tests.reference import Window, all_windows

S = 1_000_000
_ONE, _ALL = 1, 2**62


@pytest.fixture(autouse=True, params=[_ONE, _ALL], ids=["a series at a time", "all at once"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the audit finds does not depend on how much of the ledger it compares at once."""
    from headwater_appliance import audit as module

    monkeypatch.setattr(module, "_AT_ONCE", request.param)


ISO_10S = "2027-01-15T08:00:00Z"


def judged(run: Run, found: Stored) -> Findings:
    """Close the ledger and audit."""
    return audit(ledger.read(run.close()), found)


def window(found: Stored, level: str, name: str, start: int) -> tuple[Windows, int]:
    """The windows of a level, and the row of one of them."""
    windows = next(w for w in found.levels if w.level.name == level)
    rows = (windows.series == found.names.index(name)) & (windows.start == start)
    return windows, int(np.flatnonzero(rows)[0])


def dropped(found: Stored, level: str, name: str, start: int) -> None:
    """Take a window out of the stores."""
    windows, row = window(found, level, name, start)
    kept = windows.take(np.arange(len(windows)) != row)
    found.levels[found.levels.index(windows)] = kept


def only(findings: Findings) -> Finding:
    assert len(findings.findings) == 1, [str(finding) for finding in findings.findings]
    return findings.findings[0]


def test_a_run_that_kept_the_promise_passes(tmp_path: Path) -> None:
    """All is counted once, an unreadable message is dead: nothing is wrong, and the last line says so in exactly these words."""
    run = Run(tmp_path / "ledger")
    run.junk()
    findings = judged(run, stored(run.readings, [JUNK]))
    assert findings.good
    assert findings.line() == "audit: acknowledged 541, counted 540, dead 1, lost 0, twice 0"
    assert findings.windows == {"10s": 54, "1m": 12, "10m": 6, "1h": 6}


def test_an_empty_run_passes(tmp_path: Path) -> None:
    """Nothing was sent and nothing is stored."""
    findings = judged(Run(tmp_path / "ledger", samples=0), Stored([], []))
    assert findings.good
    assert findings.line() == "audit: acknowledged 0, counted 0, dead 0, lost 0, twice 0"


@pytest.mark.parametrize("what", ["min", "max", "first", "last", "mean"])
@pytest.mark.parametrize("level", ["10s", "1h"])
def test_an_altered_value_of_a_window_is_named(tmp_path: Path, what: str, level: str) -> None:
    """One figure of one window, at any level, altered behind the store's back: series, level, start and figure are named."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    windows, row = window(found, level, series(1, 0), T)
    column = getattr(windows.rows, what)
    before = column[row]
    column[row] += 1e-6
    findings = judged(run, found)
    assert not findings.good
    wrong = only(findings)
    assert (wrong.kind, wrong.series, wrong.level, wrong.start) == ("altered", series(1, 0), level, ISO_10S)
    assert {what} == set(wrong.differences)
    assert wrong.differences[what]["found"] == before + 1e-6
    assert findings.line().endswith("lost 0, twice 0, altered 1")
    assert series(1, 0) in str(wrong)


def test_a_mean_may_differ_in_the_last_bits_only(tmp_path: Path) -> None:
    """The order of merging moves the last bits of a mean, which is no fault; one part in 10^8 is."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    windows, row = window(found, "1m", series(0, 0), T)
    windows.rows.mean[row] *= 1 + 1e-13
    truth = ledger.read(run.close())
    assert audit(truth, found).good
    windows.rows.mean[row] *= 1 + 1e-8
    assert not audit(truth, found).good


def test_r30_an_altered_digest_is_named(tmp_path: Path) -> None:
    """A digest that was written over says that other readings are in the window than were sent."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    windows, row = window(found, "10s", series(2, 1), T + 80 * S)
    windows.rows.digest[row] ^= np.uint64(1)
    findings = judged(run, found)
    wrong = only(findings)
    assert (wrong.kind, wrong.level, wrong.start) == ("altered", "10s", "2027-01-15T08:01:20Z")
    assert set(wrong.differences) == {"digest"}
    assert findings.altered == 1


def test_a_count_too_large_is_twice(tmp_path: Path) -> None:
    """A window that says it has more than was sent counts something twice."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    windows, row = window(found, "10s", series(0, 0), T)
    windows.rows.count[row] += 1
    findings = judged(run, found)
    assert only(findings).kind == "twice"
    assert findings.line() == "audit: acknowledged 540, counted 541, dead 0, lost 0, twice 1"


def test_r30_a_reading_counted_twice_is_named(tmp_path: Path) -> None:
    """The digest tells which reading of the window was counted twice, at each level that shows it; it is one reading."""
    run = Run(tmp_path / "ledger")
    extra = run.readings[7 * 6]
    found = _with_twice(run, extra)
    findings = judged(run, found)
    assert (findings.lost, findings.twice, findings.altered) == (0, 1, 0)
    assert [finding.level for finding in findings.findings] == ["10s", "1m", "10m", "1h"]
    for finding in findings.findings:
        assert [(r["time_us"], r["value"]) for r in finding.readings] == [extra[1:]]


def _with_twice(run: Run, extra: tuple[str, int, float]) -> Stored:
    windows = all_windows(run.readings)
    for name, level, start in windows:
        length = {"10s": 10, "1m": 60, "10m": 600, "1h": 3600}[level] * S
        if name == extra[0] and start == extra[1] // length * length:
            windows[name, level, start].add(extra[1], extra[2])
    return _of_windows(windows)


def _of_windows(windows: dict[tuple[str, str, int], Window]) -> Stored:
    found = stored([("any/any/any", T, 1.0)])  # for the shape
    names = sorted({name for name, _, _ in windows})
    levels = []
    for template in found.levels:
        mine = [(n, s, w) for (n, level, s), w in windows.items() if level == template.level.name]
        index = np.array([names.index(n) for n, _, _ in mine], np.int64)
        starts = np.array([s for _, s, _ in mine], np.int64)
        levels.append(Windows(template.level, index, starts, aggregates([w for _, _, w in mine])))
    return Stored(names, levels)


def test_r30_a_lost_reading_is_named(tmp_path: Path) -> None:
    """The digest tells which acknowledged reading the window lacks."""
    run = Run(tmp_path / "ledger")
    gone = run.readings[100]
    findings = judged(run, stored([reading for reading in run.readings if reading != gone]))
    assert (findings.lost, findings.twice, findings.altered) == (1, 0, 0)
    assert findings.line() == "audit: acknowledged 540, counted 539, dead 0, lost 1, twice 0"
    assert {finding.kind for finding in findings.findings} == {"lost"}
    first = findings.findings[0]
    assert (first.series, [(r["time_us"], r["value"]) for r in first.readings]) == (gone[0], [gone[1:]])


@pytest.mark.parametrize(("level", "lost"), [("10s", 10), ("1m", 60)])
def test_a_missing_window_is_named(tmp_path: Path, level: str, lost: int) -> None:
    """All readings of a window that is not there are lost, at a coarser level too."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    dropped(found, level, series(0, 0), T)
    findings = judged(run, found)
    wrong = only(findings)
    assert (wrong.kind, wrong.level, wrong.start) == ("lost", level, ISO_10S)
    assert "missing" in wrong.text
    assert findings.lost == lost


def test_a_level_without_any_window_is_lost(tmp_path: Path) -> None:
    """The levels that must be there are asked for even if the store knows nothing of them."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    found.levels = [windows for windows in found.levels if windows.level.name != "1h"]
    findings = judged(run, found)
    assert {finding.level for finding in findings.findings} == {"1h"}
    assert findings.lost == 540


def test_r30_values_swapped_between_two_windows_are_named(tmp_path: Path) -> None:
    """Two readings that changed their places leave counts and the coarser levels as they were; both windows are named."""
    run = Run(tmp_path / "ledger")
    name = series(0, 0)
    own = sorted(reading for reading in run.readings if reading[0] == name)
    (_, t1, v1), (_, t2, v2) = own[3], own[13]
    swapped = [r for r in run.readings if r not in (own[3], own[13])] + [(name, t1, v2), (name, t2, v1)]
    findings = judged(run, stored(swapped))
    named = {(f.level, f.start) for f in findings.findings if f.level == "10s"}
    assert named == {("10s", ISO_10S), ("10s", "2027-01-15T08:00:10Z")}
    assert (findings.lost, findings.twice) == (0, 0)
    assert {f.kind for f in findings.findings} == {"altered"}
    assert not findings.good


def test_r30_one_reading_in_the_place_of_another_is_named(tmp_path: Path) -> None:
    """A reading lost and another one counted twice in the same window: the count is right, the digest convicts both."""
    run = Run(tmp_path / "ledger")
    name = series(0, 0)
    own = sorted(reading for reading in run.readings if reading[0] == name)
    windows = all_windows([reading for reading in run.readings if reading != own[2]])
    for (of, level, start), window_ in windows.items():
        if of == name and level == "10s" and start == T:
            window_.add(*own[5][1:])
    findings = judged(run, _of_windows(windows))
    wrong = next(finding for finding in findings.findings if finding.level == "10s")
    assert wrong.kind == "altered"
    assert {(r["time_us"], r["value"]) for r in wrong.readings} == {own[2][1:], own[5][1:]}


def test_a_series_that_nobody_sent_is_named(tmp_path: Path) -> None:
    """What the store holds must have been sent."""
    run = Run(tmp_path / "ledger")
    findings = judged(run, stored([*run.readings, ("north/ghost/flow", T, 1.0)]))
    assert {(f.kind, f.series, f.level) for f in findings.findings} == {
        ("altered", "north/ghost/flow", level) for level in ("10s", "1m", "10m", "1h")
    }
    assert findings.altered == 4


def test_a_window_at_another_time_is_named(tmp_path: Path) -> None:
    """A window that stands under a wrong start is missing in one place and unexplained in the other."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    windows, row = window(found, "10s", series(0, 0), T)
    windows.start[row] += 200 * S
    findings = judged(run, found)
    assert {(f.kind, f.start) for f in findings.findings} == {
        ("lost", ISO_10S),
        ("altered", "2027-01-15T08:03:20Z"),
    }


def test_a_copy_is_the_same_reading(tmp_path: Path) -> None:
    """A timed reading that was sent again as a new message counts once, and is acknowledged if one of them is."""
    run = Run(tmp_path / "ledger")
    before = len(run.readings)
    _, time_us, flow = run.readings[0]
    run.send(0, time_us, [flow, run.readings[1][2]], flags=COPY)
    run.send(1, T + 200 * S, [1.0, 2.0], known=False)
    run.send(1, T + 200 * S, [1.0, 2.0], flags=COPY | RESENT)
    run.readings += [(series(1, 0), T + 200 * S, 1.0), (series(1, 1), T + 200 * S, 2.0)]
    findings = judged(run, stored(run.readings))
    assert findings.good
    assert findings.acknowledged == before + 2
    assert findings.uncertain == 0


def test_one_time_with_two_values_is_two_readings(tmp_path: Path) -> None:
    """Both count (R2), and one of them alone is a loss."""
    run = Run(tmp_path / "ledger", samples=5)
    run.send(0, T, [run.readings[0][2] + 1, run.readings[1][2]])
    assert judged(run, stored(run.readings)).good
    without = [reading for reading in run.readings if reading != run.readings[0]]
    assert audit(ledger.read(run.path), stored(without)).lost == 1


@pytest.mark.parametrize("taken", [0, 1, 7, 30])
def test_r30_uncertain_readings_may_be_counted_or_not(tmp_path: Path, taken: int) -> None:
    """Up to 30 unacknowledged readings of a window are searched for those that the window holds; any number may be."""
    run = Run(tmp_path / "ledger", samples=5)
    unsure = [(series(0, 0), T + 5 * S + n, float(n)) for n in range(30)]
    for _, time_us, value in unsure:
        run.send(0, time_us, [value], known=False)
    counted = [*run.readings, *unsure[::-2][:taken], *unsure[::2][: max(0, taken - 15)]]
    assert len(counted) == len(run.readings) + taken
    findings = judged(run, stored(counted))
    assert findings.good, [str(finding) for finding in findings.findings]
    assert findings.uncertain == 30
    assert findings.line() == f"audit: acknowledged 30, counted {30 + taken}, dead 0, lost 0, twice 0"


def test_r30_too_many_uncertain_readings_are_undecided(tmp_path: Path) -> None:
    """Of more than 30 it cannot be told which are counted: that is said, and is not a pass."""
    run = Run(tmp_path / "ledger", samples=5)
    unsure = [(series(0, 0), T + 5 * S + n, float(n)) for n in range(31)]
    for _, time_us, value in unsure:
        run.send(0, time_us, [value], known=False)
    findings = judged(run, stored([*run.readings, *unsure[:10]]))
    assert only(findings).kind == "undecided"
    assert findings.line().endswith("lost 0, twice 0, undecided 1")
    assert audit(ledger.read(run.path), stored([*run.readings, *unsure])).good, "all of them needs no search"
    assert audit(ledger.read(run.path), stored(run.readings)).good, "none of them neither"


def test_uncertain_readings_do_not_excuse_a_lost_one(tmp_path: Path) -> None:
    """An uncertain reading counted in the place of an acknowledged one is no subset, and is named."""
    run = Run(tmp_path / "ledger", samples=5)
    run.send(0, T + 5 * S, [7.5], known=False)
    counted = [*run.readings[1:], (series(0, 0), T + 5 * S, 7.5)]
    findings = judged(run, stored(counted))
    assert not findings.good
    assert {f.series for f in findings.findings} == {series(0, 0)}


@pytest.mark.parametrize(
    ("dead", "line"),
    [
        ([JUNK, JUNK], "audit: acknowledged 12, counted 10, dead 2, lost 0, twice 0"),
        ([JUNK], "audit: acknowledged 12, counted 10, dead 1, lost 1, twice 0"),
        ([JUNK] * 3, "audit: acknowledged 12, counted 10, dead 3, lost 0, twice 0"),
        ([JUNK] * 4, "audit: acknowledged 12, counted 10, dead 3, lost 0, twice 1"),
        ([JUNK, (JUNK[0], b"cut")], "audit: acknowledged 12, counted 10, dead 1, lost 1, twice 0, altered 1"),
        (
            [JUNK, ("hw/other", JUNK[1])],
            "audit: acknowledged 12, counted 10, dead 1, lost 1, twice 0, altered 1",
        ),
    ],
)
def test_dead_letters_are_matched_by_topic_and_bytes(
    tmp_path: Path, dead: list[tuple[str, bytes]], line: str
) -> None:
    """Of three unreadable messages two are acknowledged: two or three dead letters are right, others are named."""
    run = Run(tmp_path / "ledger", samples=0)
    run.readings = []
    for n in range(10):
        run.send(0, T + n * S, [float(n)])
    run.junk()
    run.junk()
    run.junk(known=False)
    findings = judged(run, stored(run.readings, dead))
    assert findings.line() == line
    assert findings.good == (findings.lost + findings.twice + findings.altered == 0)
    if findings.lost:
        assert JUNK[0] in {finding.topic for finding in findings.findings}


@pytest.mark.parametrize(
    ("reason", "detail", "payload", "dead"),
    [
        ("beyond-horizon", "", b'{"t":%d,"values":{"flow":1.5,"pressure":2.5}}', 2),
        ("not-taken", "pressure: too many series", b'{"t":%d,"values":{"flow":1.5,"pressure":2.5}}', 1),
    ],
)
def test_a_reading_in_the_dead_letters_need_not_be_counted(
    tmp_path: Path, reason: str, detail: str, payload: bytes, dead: int
) -> None:
    """Acknowledged is in a window or dead (R20): the readings that a letter holds, or names, are not missed."""
    run = Run(tmp_path / "ledger")
    run.send(0, T + 300 * S, [1.5, 2.5])
    counted = run.readings[: len(run.readings) - dead]
    found = stored(counted, [(JUNK[0], payload % (T + 300 * S))])
    found.dead = [found.dead[0]._replace(reason=reason, detail=detail)]
    findings = judged(run, found)
    assert findings.good, [str(finding) for finding in findings.findings]
    assert (findings.acknowledged, findings.counted, findings.dead) == (542, 542 - dead, dead)


BARE = series(2, 0)


def _stamped(values: list[float]) -> list[tuple[str, int, float]]:
    """Readings of the device that sends numbers only, stamped by the agent 3 s apart."""
    return [(BARE, T + 7 * S + n * 3 * S, value) for n, value in enumerate(values)]


def _bare_run(path: Path, values: list[float], unsure: int = 0) -> Run:
    """A run in which two devices send times, and one numbers only; the last so many of them are not acknowledged."""
    run = Run(path, samples=20, devices=(0, 1))
    for n, value in enumerate(values):
        run.bare(2, value, known=n < len(values) - unsure)
    return run


def test_r30_readings_without_a_time_are_audited_by_series(tmp_path: Path) -> None:
    """Only the agent knows the windows of readings that it stamped: all windows of a series together must be right."""
    values = [1.5, 1.5, 2.5, -3.0, 1.5, 1.5]
    run = _bare_run(tmp_path / "ledger", values)
    findings = judged(run, stored(run.readings, stamped=_stamped(values)))
    assert findings.good, [str(finding) for finding in findings.findings]
    assert findings.line() == "audit: acknowledged 86, counted 86, dead 0, lost 0, twice 0"


@pytest.mark.parametrize(
    ("counted", "kind", "what"),
    [
        ([1.5, 2.5, -3.0], "lost", {"count", "digest", "mean"}),
        ([1.5, 1.5, 1.5, 2.5, -3.0], "twice", {"count", "digest", "mean"}),
        ([1.5, 1.5, 2.5, -4.0], "altered", {"digest", "min", "mean"}),
        ([], "lost", {"count", "digest"}),
    ],
)
def test_a_wrong_series_without_times_is_named(
    tmp_path: Path, counted: list[float], kind: str, what: set[str]
) -> None:
    """A reading without a time that is lost, counted twice or altered is found by its series, at every level."""
    run = _bare_run(tmp_path / "ledger", [1.5, 1.5, 2.5, -3.0])
    findings = judged(run, stored(run.readings, stamped=_stamped(counted)))
    assert {(f.kind, f.series) for f in findings.findings} == {(kind, BARE)}
    assert [f.level for f in findings.findings] == ["10s", "1m", "10m", "1h"]
    assert set(findings.findings[0].differences) == what
    assert (findings.lost > 0, findings.twice > 0) == (kind == "lost", kind == "twice")


@pytest.mark.parametrize("counted", [0, 3, 8])
def test_uncertain_readings_without_a_time_are_searched_by_series(tmp_path: Path, counted: int) -> None:
    """Of eight unacknowledged numbers, equal ones among them, any may be counted."""
    values = [1.0, 2.0, 5.5, 5.5, 5.5, 6.5, 6.5, 7.5, 8.5, 9.5]
    run = _bare_run(tmp_path / "ledger", values, unsure=8)
    findings = judged(run, stored(run.readings, stamped=_stamped(values[: 2 + counted])))
    assert findings.good, [str(finding) for finding in findings.findings]


def test_too_many_uncertain_readings_without_a_time_are_undecided(tmp_path: Path) -> None:
    """The search ends at 30 for a series as a whole too."""
    values = [float(n) for n in range(33)]
    run = _bare_run(tmp_path / "ledger", values, unsure=31)
    findings = judged(run, stored(run.readings, stamped=_stamped(values[:9])))
    assert (only(findings).kind, only(findings).series) == ("undecided", BARE)


def test_r30_a_coarser_level_that_its_finer_does_not_explain_is_named(tmp_path: Path) -> None:
    """In a series without times the whole may be right while a minute is not what its ten seconds add up to."""
    values = [float(n) for n in range(40)]
    run = _bare_run(tmp_path / "ledger", values)
    found = stored(run.readings, stamped=_stamped(values))
    windows, row = window(found, "1m", BARE, T)
    windows.rows.last[row] += 1
    findings = judged(run, found)
    wrong = only(findings)
    assert (wrong.kind, wrong.series, wrong.level, wrong.start) == ("altered", BARE, "1m", ISO_10S)
    assert set(wrong.differences) == {"last"}
    assert "10s" in wrong.text


def test_windows_that_retention_deleted_are_not_missed(tmp_path: Path) -> None:
    """Before `kept_from` a level is not audited; behind it all of it is, and the other levels as ever."""
    run = Run(tmp_path / "ledger")
    found = stored(run.readings)
    base = found.levels[0]
    found.levels[0] = base.take(base.start >= T + 30 * S)
    found.levels[0].kept_from = T + 30 * S
    truth = ledger.read(run.close())
    findings = audit(truth, found)
    assert findings.good, [str(finding) for finding in findings.findings]
    assert findings.windows["10s"] == 36
    dropped(found, "10s", series(0, 0), T + 30 * S)
    assert audit(truth, found).lost == 10


def test_a_million_readings_take_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit works on columns: a thousand series and a million readings, with a lost one among them."""
    from headwater_appliance import audit as module

    monkeypatch.setattr(module, "_AT_ONCE", 300_000)
    devices, metrics, samples = 200, 5, 1000
    path = tmp_path / "ledger"
    luck = np.random.default_rng(1)
    values = np.round(luck.normal(50, 5, (samples, devices, metrics)), 2)
    Run(path, samples=0).close()
    _write_big_ledger(path, values)
    truth = ledger.read(path)
    assert len(truth.value) == devices * metrics * samples
    found = _big_store(truth)
    found.levels[0].rows.count[5] -= 1
    begun = time.process_time()
    findings = audit(truth, found)
    assert time.process_time() - begun < 10
    assert findings.lost == 1
    assert findings.windows["10s"] == devices * metrics * samples // 10


def _write_big_ledger(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    samples, devices, metrics = values.shape
    rows = np.zeros((samples, devices, metrics), ledger.RECORD)
    rows["kind"], rows["flags"], rows["value"] = ledger.READING, ledger.WRITE_END, values
    rows["message"] = np.arange(samples)[:, None, None]
    rows["device"] = np.arange(devices)[None, :, None]
    rows["metric"] = np.arange(metrics)[None, None, :]
    rows["time"] = T + rows["message"].astype(np.int64) * S + rows["device"]
    known = rows[:, :, 0].copy()
    known["kind"] = ledger.ACKNOWLEDGED
    path.write_bytes(path.read_bytes()[: ledger.HEADER.size] + rows.tobytes() + known.tobytes())
    names = [f'{{"device": {{"index": {d}, "site": "s", "name": "d{d}"}}}}' for d in range(devices)]
    names += [f'{{"metric": {{"index": {m}, "name": "m{m}"}}}}' for m in range(metrics)]
    ledger.lines_path(path).write_text("\n".join(names) + "\n")


def _big_store(truth: ledger.Truth) -> Stored:
    from headwater_appliance.audit_sent import of_truth, windows_of
    from headwater_shared.aggregates import of_readings
    from headwater_shared.parts import tumbling

    names = sorted(truth.series)
    ((_, _, sent),) = of_truth(truth, names)
    levels = []
    for name in ("10s", "1m", "10m", "1h"):
        first, start = windows_of(sent, tumbling(name).length_us)
        rows: Aggregates = of_readings(first, sent.time, sent.value, sent.digest)
        levels.append(Windows(tumbling(name), sent.series[first], start, rows))
    return Stored(names, levels)
