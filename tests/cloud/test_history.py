"""The reading side: windows, quantiles, alerts, by series, level and time; as tables, CSV and JSON."""

from __future__ import annotations

import csv
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headwater_cloud import query
from headwater_cloud.cli import app
from headwater_cloud.history import History
from headwater_cloud.quantiles import quantiles
from headwater_cloud.store import Store
from headwater_shared import sketch
from headwater_shared.errors import Refused, StateError, StateNewer
from headwater_shared.parts import counted_sketches
from headwater_shared.sketch import RELATIVE_ERROR, buckets_of
from tests.cloud.made import SHARD, T0, TEMP, Agent, S, row
from tests.cloud.side import FILE, Side
from tests.system.box import command

FLOW, OTHER = "s1/d1/flow", "s2/Pump 1/temp"

values = st.lists(
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5).map(float), max_size=20
)


@given(st.lists(values, max_size=6), st.floats(0, 1))
def test_quantiles_of_many_sketches_are_those_of_each(rows: list[list[float]], q: float) -> None:
    """The same as one by one; NaN where there is nothing; within the stated error of the value of that rank."""
    of_row = np.repeat(np.arange(len(rows)), [len(one) for one in rows]).astype(np.int64)
    flat = np.array([value for one in rows for value in one])
    sketches = counted_sketches(of_row, buckets_of(flat), len(rows))
    found = quantiles(sketches, q)
    begin = [0, *sketches.end.tolist()]
    for n, one in enumerate(rows):
        at = slice(begin[n], begin[n + 1])
        alone = sketch.quantile(sketches.bucket[at], sketches.count[at], q)
        assert found[n] == alone or (math.isnan(found[n]) and not one)
        if one:
            true = sorted(one)[min(len(one) - 1, max(0, math.ceil(q * len(one)) - 1))]
            if abs(true) >= 2.3e-308:  # below, numbers share buckets
                assert abs(found[n] - true) <= RELATIVE_ERROR * abs(true)


@pytest.fixture
def stored(side: Side) -> Side:
    """Five windows of 10 s and one of a minute of one series, and some of two others."""
    agent = Agent()
    for n in range(5):
        readings = [20.0 + n + k / 10 for k in range(n + 1)]
        side.take(
            agent.frame(
                row(10 * n, *readings, opened=("a1", 1, n)),
                row(10 * n, 7.0, series=FLOW, opened=("a1", 1, n)),
            )
        )
    side.take(agent.frame(row(0, *[20.0 + n for n in range(15)], level="1m")))
    side.take(agent.frame(row(21, 99.0, opened=("a1", 1, 70)), row(20, 1.5, series=OTHER)))
    side.take(
        agent.anomaly("begin", 3, 91.0), agent.anomaly("end", 9, begin=3), agent.anomaly("begin", 30, 92.5)
    )
    side.take(agent.heartbeat(40))
    return side


@pytest.fixture
def history(stored: Side) -> Iterator[History]:
    with stored.history() as opened:
        yield opened


def starts(found: object) -> list[float]:
    return [(start - T0) / S for start in found.start.tolist()]  # type: ignore[attr-defined]


def test_windows_of_a_series_come_oldest_first_within_bounds(history: History) -> None:
    """From a start on, before another, or the last so many; nothing of what is not there."""
    assert starts(history.windows(TEMP, "10s")) == [0, 10, 20, 30, 40]
    assert starts(history.windows(TEMP, "10s", T0 + 10 * S, T0 + 30 * S)) == [10, 20]
    assert starts(history.windows(TEMP, "10s", T0 + 10 * S + 1)) == [20, 30, 40]
    assert starts(history.windows(TEMP, "10s", last=2)) == [30, 40]
    assert starts(history.windows(TEMP, "10s", to_us=T0 + 30 * S, last=2)) == [10, 20]
    assert starts(history.windows(OTHER, "10s", last=3)) == [20]
    assert starts(history.windows(TEMP, "1m")) == [0]
    for series, level in (("s9/x/y", "10s"), (TEMP, "2h"), (OTHER, "1m")):
        nothing = history.windows(series, level)
        assert (len(nothing), len(nothing.p50), nothing.aggregates.count.tolist()) == (0, 0, [])


def test_a_window_is_shown_with_all_of_its_columns(history: History) -> None:
    """Count, extremes, first and last by time, mean and M2 merged from its parts; quantiles never beyond what was seen."""
    third = history.windows(TEMP, "10s", T0 + 20 * S, T0 + 30 * S)
    of = third.aggregates
    assert (of.count[0], third.parts[0]) == (4, 2)
    assert (of.min[0], of.max[0], of.first[0], of.last[0]) == (22.0, 99.0, 22.0, 99.0)
    assert (of.first_time[0], of.last_time[0]) == (T0 + 20 * S, T0 + 21 * S)
    seen = [22.0, 22.1, 22.2, 99.0]
    assert of.mean[0] == pytest.approx(np.mean(seen))
    assert of.m2[0] == pytest.approx(np.var(seen) * 4)
    assert third.p50[0] == pytest.approx(22.1, rel=RELATIVE_ERROR)
    assert third.p95[0] == third.p99[0] == pytest.approx(99.0, rel=RELATIVE_ERROR)
    assert third.p99[0] <= 99.0


def test_all_windows_of_a_level(history: History) -> None:
    """As columns, series by number; within bounds; none of a level that is not there."""
    found = history.level("10s")
    rows = sorted(
        (found.names[s], start) for s, start in zip(found.series.tolist(), starts(found), strict=True)
    )
    assert rows == sorted(
        [(TEMP, 10.0 * n) for n in range(5)] + [(FLOW, 10.0 * n) for n in range(5)] + [(OTHER, 20.0)]
    )
    assert found.aggregates.count.sum() == 15 + 1 + 5 + 1
    assert len(history.level("10s", T0 + 10 * S, T0 + 30 * S)) == 5
    assert len(history.level("2h")) == 0
    assert history.count_windows() == 12


def test_series_and_levels_are_listed(history: History) -> None:
    """By patterns in which `*` stands for any text; levels from the finest on."""
    assert history.levels() == ["10s", "1m"]
    assert history.series() == [FLOW, TEMP, OTHER]
    assert history.series("*/temp") == [TEMP, OTHER]
    assert history.series("s?/d1/*") == [FLOW, TEMP]
    assert history.series("S1/*") == []


def test_alerts_anomalies_reports_and_progress_are_listed(stored: Side, history: History) -> None:
    """The newest first; firing only; the last so many."""
    assert [(a.state, (a.episode_us - T0) / S) for a in history.alerts()] == [("firing", 30), ("resolved", 3)]
    assert [a.value for a in history.alerts(firing_only=True)] == [92.5]
    assert len(history.alerts(last=1)) == 1
    found = history.anomalies()
    assert [(a.phase, (a.time_us - T0) / S) for a in found] == [("begin", 30), ("end", 9), ("begin", 3)]
    assert json.loads(found[0].samples) == [[T0 + 30 * S], [92.5]]
    assert history.anomalies(FLOW) == []
    assert len(history.anomalies("*/temp", last=2)) == 2
    (progress,) = history.progress()
    assert (progress.agent, progress.shard, progress.silent, progress.waiting) == ("a1", SHARD, False, 0)
    twin = Agent(tick=9)
    stored.take(twin.frame(row(0, 5.0)))
    assert [report.kind for report in history.reports(last=5)] == ["another-body"]


def test_a_reader_sees_each_commit_and_never_half_of_one(stored: Side, history: History) -> None:
    """It is open while the writer commits, and cannot write itself."""
    before = history.count_windows()
    stored.put(Agent("a2").frame(row(100, 1.0, opened=("a2", 1, 1)), row(110, 1.0, opened=("a2", 1, 2))))
    stored.runner._take()
    assert history.count_windows() == before
    stored.settle()
    assert history.count_windows() == before + 2
    with pytest.raises(Exception, match="readonly"):
        history._connection.execute("DELETE FROM window")


def test_a_file_that_is_not_there_or_newer_says_what_to_do(folder: Path) -> None:
    """Nothing is made or changed by looking."""
    with pytest.raises(StateError) as missing:
        History(folder / FILE)
    assert "headwater up" in missing.value.hint
    assert list(folder.iterdir()) == []
    store = Store(folder / FILE)
    store.connection.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    store.close()
    with pytest.raises(StateNewer):
        History(folder / FILE)


def lines(history: History, form: query.Format, pattern: str = TEMP, level: str = "10s", last: int | None = 2) -> list[str]:  # fmt: skip
    return list(query.shown(query.WINDOW, query.windows(history, pattern, level, last=last), form))


def test_windows_as_a_table(history: History) -> None:
    """Aligned, six digits, times as short as they are exact."""
    first, second, third = lines(history, "table")
    assert first.split() == list(query.WINDOW)
    assert second.split()[:7] == [TEMP, "2027-01-15T08:00:30Z", "4", "23.15", "23", "23.3", "23"]
    assert first.index("start") == second.index("2027") == third.index("2027")


def test_windows_as_csv_and_json_keep_every_digit(history: History) -> None:
    """Both read back to the same numbers; names that hold a comma or a quote are quoted."""
    rows = list(csv.DictReader(lines(history, "csv")))
    objects = [json.loads(line) for line in lines(history, "json")]
    found = history.windows(TEMP, "10s", last=2)
    assert (
        [float(one["mean"]) for one in rows]
        == [one["mean"] for one in objects]
        == found.aggregates.mean.tolist()
    )
    assert [int(one["count"]) for one in rows] == [one["count"] for one in objects] == [4, 5]
    assert [one["start"] for one in rows] == [one["start"] for one in objects]
    (header, line) = query.shown(("a", "b"), iter([('x,"y"', 0.1)]), "csv")
    assert (header, line) == ("a,b", '"x,""y""",0.1')


def test_several_series_come_one_after_the_other(history: History) -> None:
    """In the order of their names, each oldest first, and `last` is of each."""
    found = [json.loads(line) for line in lines(history, "json", "*")]
    assert [(one["series"], one["count"]) for one in found] == [
        (FLOW, 1), (FLOW, 1), (TEMP, 4), (TEMP, 5), (OTHER, 1),
    ]  # fmt: skip


def test_what_is_not_there_is_refused_with_a_hint(history: History) -> None:
    """An unknown level names the known ones; a pattern that matches nothing says how to look."""
    with pytest.raises(Refused) as level:
        lines(history, "table", level="2h")
    assert level.value.hint == "levels: 10s, 1m"
    with pytest.raises(Refused, match="no series matches 's9"):
        lines(history, "table", "s9/*")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:00:00Z", 0),
        ("2027-01-15T08:00:00", 0),
        ("2027-01-15T10:00:00.5+02:00", 0.5),
        ("2027-01-15", -8 * 3600),
    ],
)
def test_times_of_a_command_line(text: str, seconds: float) -> None:
    """ISO 8601; UTC where no zone is named."""
    assert query.time_us(text) == T0 + seconds * S


def test_a_time_that_is_none_is_refused() -> None:
    """With an example of one that is."""
    with pytest.raises(Refused, match="'yesterday' is no time"):
        query.time_us("yesterday")


def test_times_are_written_as_short_as_they_are_exact() -> None:
    """Whole seconds without a fraction; what no calendar has as a number."""
    assert [query.iso(us) for us in (T0, T0 + 1, 2**62)] == [
        "2027-01-15T08:00:00Z", "2027-01-15T08:00:00.000001Z", f"{2**62} us",
    ]  # fmt: skip


def settings(side: Side) -> str:
    path = side.folder / "headwater.toml"
    path.write_text(f'[common]\ndata = "{side.folder}"\n')
    return str(path)


def asked(*words: str) -> list[str]:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_the_commands_show_what_is_asked_for(stored: Side) -> None:
    """`query` with level, bounds and format; `alerts` with firing and last."""
    file = ("--settings", settings(stored))
    bounds = ("--from", "2027-01-15T08:00:10Z", "--to", "2027-01-15T08:00:40Z")
    found = asked("query", TEMP, *file, *bounds, "--format", "csv")
    assert [line.split(",")[1:3] for line in found[1:]] == [
        ["2027-01-15T08:00:10Z", "2"], ["2027-01-15T08:00:20Z", "4"], ["2027-01-15T08:00:30Z", "4"],
    ]  # fmt: skip
    (minute,) = asked("query", TEMP, *file, "--level", "1m", "--format", "json")
    assert json.loads(minute)["count"] == 15
    assert len(asked("query", "*", *file, "--last", "1")) == 4
    (header, firing) = asked("alerts", *file, "--firing")
    assert header.split() == list(query.ALERT)
    assert firing.split()[:4] == ["firing", "critical", TEMP, "too-hot"]
    (newest,) = asked("alerts", *file, "--last", "1", "--format", "json")
    assert json.loads(newest)["since"] == "2027-01-15T08:00:30Z"


def test_the_command_says_in_two_lines_what_is_wrong(stored: Side) -> None:
    """A real process: message and hint, no traceback, exit code 1."""
    done = subprocess.run(
        [command("headwater-cloud"), "query", TEMP, "--settings", settings(stored), "--level", "2h"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["headwater-cloud: there are no 2h windows", "  hint: levels: 10s, 1m"]
