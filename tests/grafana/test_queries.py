"""Every query of every panel, variable and annotation on a real InfluxDB or Prometheus; what it finds is what the cloud's file and the ledger say."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater_appliance.metrics_page import everything
from headwater_shared import ledger as ledgers
from headwater_shared.metric import Shown
from tests.grafana.asked import ALL, Chosen, interval_ms, text_of
from tests.grafana.boards import INFLUX, PROMETHEUS, Query, panels, queries, read, variables
from tests.grafana.drawn import draw
from tests.grafana.looked import Looked
from tests.grafana.pictures import FOLDER
from tests.grafana.stores import Frame
from tests.support import until

BOARDS = read()
ASKED = [one for board in BOARDS.values() for one in queries(board) if one.source == INFLUX]
DEVICES: tuple[dict[str, Chosen], ...] = (
    {"site": "south", "device": "pump-007"},
    {"site": "east", "device": "pump-010"},
    {"site": "yard", "device": "truck-001"},
)
"""One that was hot and shut, one that shakes at the end, one that is gone."""


def _chosen(query: Query) -> Iterator[dict[str, Chosen]]:
    """Return what is chosen to look at a panel: a dashboard of one device is looked at for each of some."""
    several = DEVICES if "device" in variables(BOARDS[query.board]) else ({},)
    for chosen in several:
        if query.panel.get("repeat") is None:
            yield chosen
        else:
            yield from (
                {**chosen, query.panel["repeat"]: [metric]} for metric in ("temperature", "vibration")
            )


def _found(looked: Looked, query: Query, **chosen: Chosen) -> list[Frame]:
    wanted = {
        name: value for name, value in chosen.items() if value != ["vibration"] or chosen["site"] != "yard"
    }
    return looked.find(query, looked.opened(query.board, **wanted))


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.name)
def test_a_query_finds_rows(looked: Looked, query: Query) -> None:
    """Each query is one that InfluxDB takes, and finds at least a row in the pumps' story, of one of a few devices."""
    found = [frame for chosen in _chosen(query) for frame in _found(looked, query, **chosen)]
    assert found
    if query.panel.get("type") == "table":
        named = {column.replace("time", "Time") for frame in found for column in frame.columns}
        assert all(not frame.tags for frame in found), (
            "Grafana's plugin would mix up the columns of several tags"
        )
        for override in query.panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in named | {"agent", "model"}


def _query(board: str, title: str, ref: str = "A") -> Query:
    (found,) = [
        one
        for one in ASKED
        if (one.board, one.owner) == (board, title) and one.target.get("refId", ref) == ref
    ]
    return found


def _number(looked: Looked, board: str, title: str, **chosen: Chosen) -> object:
    """Return what a panel of one number shows: 0 where it finds nothing, as the panel says then."""
    found = _found(looked, _query(board, title), **chosen)
    if not found:
        return 0
    (frame,) = found
    (value,) = frame.columns[next(name for name in frame.columns if name != "time")]
    return value


def _one(looked: Looked, query: str, *values: object) -> object:
    with closing(sqlite3.connect(f"file:{looked.story.file}?mode=ro", uri=True)) as file:
        return file.execute(query, values).fetchone()[0]


_OF_LEVEL = "FROM window JOIN series ON series.id = series JOIN level ON level.id = level WHERE level.name = '1m' AND count > 0"
_LAST_WORD = "SELECT device, status, max(time_us * 1000000 + seq) FROM device_change WHERE time_us <= ? GROUP BY device"
_WITH_STATUS = f"SELECT count(*) FROM ({_LAST_WORD}) WHERE status = ?"
_OPEN = "state IN ('firing', 'acknowledged')"


def test_the_fleets_numbers_are_those_of_the_clouds_file(looked: Looked) -> None:
    """Live, silent, offline, unusual and late devices are as many as the tables of the cloud's file say."""
    board = "headwater-fleet"
    for title, status in (("Live", "online"), ("Silent", "silent"), ("Offline", "offline")):
        told = _one(looked, _WITH_STATUS, looked.story.end_us, status)
        assert _number(looked, board, title) == told, title
    of_series = "substr(series.name, 1, length(rtrim(series.name, replace(series.name, '/', ''))) - 1)"
    alone = "AND series.name NOT LIKE '%+%'"
    (newest,) = _found(looked, _query(board, "Newest window"))
    assert newest.columns["time"] == [_one(looked, f"SELECT max(start) / 1000 {_OF_LEVEL} {alone}")]
    assert _number(looked, board, "Late") == _one(
        looked, f"SELECT count(DISTINCT {of_series}) {_OF_LEVEL} {alone} AND revision > 0"
    )
    ended = "SELECT id FROM anomaly WHERE phase = 'end'"
    unusual = f"SELECT count(DISTINCT series) FROM anomaly WHERE phase = 'begin' AND id NOT IN ({ended})"
    assert _number(looked, board, "Not as usual") == _one(looked, unusual)


def test_the_numbers_of_findings_are_those_of_the_clouds_file(looked: Looked) -> None:
    """Open, critical, unacknowledged, incidents: as many as there are."""
    board = "headwater-findings"
    for title, where in (
        ("Critical", f"{_OPEN} AND severity = 'critical'"),
        ("Nobody has it", "state = 'firing'"),
        ("Open alerts", _OPEN),
        ("Alerts in this time", "state <> 'pending'"),
    ):
        assert _number(looked, board, title) == _one(looked, f"SELECT count(*) FROM alert WHERE {where}"), (
            title
        )
    assert _number(looked, board, "Open incidents") == _one(
        looked, "SELECT count(*) FROM incident WHERE open > 0"
    )


def test_the_readings_of_a_device_are_counted_once(looked: Looked) -> None:
    """What the panel says was counted is what the ledger says was sent, each once: copies and resends are in it once."""
    truth = ledgers.read(looked.story.ledger)
    for chosen in DEVICES[:2]:
        mine = {
            at
            for at, name in enumerate(truth.series)
            if name.startswith(f"{chosen['site']}/{chosen['device']}/")
        }
        sent = {
            one
            for one in zip(truth.series_of.tolist(), truth.time.tolist(), truth.value.tolist(), strict=True)
            if one[0] in mine
        }
        assert _number(looked, "headwater-device", "Readings", **chosen) == len(sent)


def test_rates_add_up_to_what_was_counted(looked: Looked) -> None:
    """The bars of readings a second, each times its length, are all readings: none falls between two of them."""
    query = _query("headwater-fleet", "Readings a second")
    shown = looked.opened("headwater-fleet")
    seconds = interval_ms(shown, query.panel) / 1000
    found = looked.store.ask(text_of(query, BOARDS[query.board], shown))
    total = sum(float(str(rate)) * seconds for frame in found for rate in frame.columns["readings"] if rate)
    assert {frame.tags["site"] for frame in found} == {"north", "east", "south", "west", "yard"}
    assert total == pytest.approx(
        _one(looked, f"SELECT sum(count) {_OF_LEVEL} AND series.name NOT LIKE '%+%'"), rel=1e-9
    )


def test_a_chart_shows_the_windows(looked: Looked) -> None:
    """Mean, lowest and highest of each point are those of its readings, weighted by their counts: points of several windows."""
    query = _query("headwater-device", "$metric")
    shown = looked.opened("headwater-device", **DEVICES[0], metric=["temperature"])
    shown = shown._replace(from_ms=shown.to_ms - 5 * 86_400_000)
    (frame,) = looked.find(query, shown)
    wide_us = interval_ms(shown, query.panel) * 1000
    assert wide_us > 5 * 60_000_000
    of = "AND series.name = 'south/pump-007/temperature' AND start >= ? AND start < ?"
    stored = f"SELECT sum(mean * count) / sum(count), min(min), max(max) {_OF_LEVEL} {of}"
    assert len(frame.columns["time"]) > 5
    with closing(sqlite3.connect(looked.story.file)) as file:
        for at, *found in zip(
            *(frame.columns[name] for name in ("time", "mean", "lowest", "highest")), strict=True
        ):
            begin_us = int(str(at)) * 1000
            row = file.execute(stored, (begin_us, begin_us + wide_us)).fetchone()
            assert found == pytest.approx(row, rel=1e-9)


def test_the_expected_band_holds_what_is_usual_and_not_what_is_not(looked: Looked) -> None:
    """Nearly all points of a quiet metric lie in the band; where the pump gets hot at once, the mean is beyond its upper edge as it was before."""
    shown, band = _query("headwater-device", "$metric"), _query("headwater-device", "$metric", "B")
    for metric, hot in (("flow", False), ("temperature", True)):
        (seen,) = _found(looked, shown, **DEVICES[0], metric=[metric])
        (expected,) = _found(looked, band, **DEVICES[0], metric=[metric])
        means = dict(zip(seen.columns["time"], seen.columns["mean"], strict=True))
        edges = {
            at: (low, high)
            for at, high, low in zip(
                *(expected.columns[name] for name in ("time", "expected, at most", "expected, at least")),
                strict=True,
            )
            if low is not None
        }
        both = [at for at in means if at in edges]
        outside = [
            at
            for at in both
            if not float(str(edges[at][0])) <= float(str(means[at])) <= float(str(edges[at][1]))
        ]
        assert len(both) > 20
        assert bool(outside) == hot, (metric, len(both), outside)
        assert len(outside) < len(both) / 5


def test_tables_have_a_row_for_each(looked: Looked) -> None:
    """Alerts, their changes, anomalies, commands and devices: as many rows as the cloud's file has of them."""
    for board, title, count in (
        ("headwater-findings", "Alerts", "SELECT count(*) FROM alert"),
        ("headwater-findings", "Anomalies", "SELECT count(*) FROM anomaly WHERE phase = 'begin'"),
        ("headwater-fleet", "Alerts that are open", f"SELECT count(*) FROM alert WHERE {_OPEN}"),
        ("headwater-fleet", "Devices and where they are", "SELECT count(*) FROM device"),
    ):
        (frame,) = _found(looked, _query(board, title))
        assert len(frame.columns["time"]) == _one(looked, count), title
    (frame,) = _found(looked, _query("headwater-fleet", "Not heard"))
    unheard = f"SELECT count(*) FROM ({_LAST_WORD}) WHERE status <> 'online'"
    assert len(frame.columns["time"]) == _one(looked, unheard, looked.story.end_us)
    (frame,) = _found(looked, _query("headwater-findings", "What became of alerts"))
    changed = "SELECT count(*) FROM alert_event WHERE changed_us <= ?"
    assert len(frame.columns["time"]) == _one(looked, changed, looked.story.end_us)
    (frame,) = _found(looked, _query("headwater-device", "Commands"), **DEVICES[0])
    told = "SELECT count(*) FROM (SELECT DISTINCT id, status FROM command WHERE device = 'south/pump-007')"
    assert len(frame.columns["time"]) == _one(looked, told)


def test_bars_and_charts_of_findings_count_them(looked: Looked) -> None:
    """By rule, by site and over time the counts are those of the cloud's file, and each adds up to all."""
    for what, table, where in (("Alerts", "alert", "true"), ("Anomalies", "anomaly", "phase = 'begin'")):
        total = _one(looked, f"SELECT count(*) FROM {table} WHERE {where}")
        for tag in ("rule", "site"):
            found = _found(looked, _query("headwater-findings", f"{what} by {tag}"))
            assert sum(int(str(frame.columns["count"][0])) for frame in found) == total
            assert len({frame.tags[tag] for frame in found}) == len(found)
        found = _found(looked, _query("headwater-findings", f"{what} began"))
        assert (
            sum(int(str(count)) for frame in found for count in frame.columns[what.lower()] if count) == total
        )


def test_annotations_are_what_grafana_reads(looked: Looked) -> None:
    """Marks have the columns that Grafana's plugin looks for, and none of them is empty, for it leaves such rows out."""
    for one in BOARDS["headwater-device"]["annotations"]["list"]:
        target, query = one["target"], _query("headwater-device", f"annotations {one['name']}", "Anno")
        for frame in (frame for chosen in DEVICES for frame in _found(looked, query, **chosen)):
            columns = [f"{frame.name}.{column}" for column in frame.columns if column != "time"]
            assert [column for column in columns if target["textColumn"] in column] == [
                f"{frame.name}.{target['textColumn']}"
            ]
            assert [column for column in columns if target["tagsColumn"] in column] == [
                f"{frame.name}.{target['tagsColumn']}"
            ]
            assert target["timeEndColumn"] in {"", *columns}
            assert None not in [value for column in frame.columns.values() for value in column]


def test_last_night_can_be_looked_at(looked: Looked) -> None:
    """What a dashboard shows of a time that is over is how it was then: no device had fallen silent before it did."""
    shown = looked.opened("headwater-fleet")._replace(to_ms=looked.story.began_us // 1000 + 600_000)
    found = looked.store.ask(text_of(_query("headwater-fleet", "Silent"), BOARDS["headwater-fleet"], shown))
    assert found == []


def test_a_choice_of_sites_is_a_choice_everywhere(looked: Looked) -> None:
    """With two sites chosen, no panel of the fleet shows a row of another one."""
    for panel in panels(BOARDS["headwater-fleet"]):
        if panel["datasource"]["uid"] != INFLUX:
            continue
        for frame in _found(looked, _query("headwater-fleet", panel["title"]), site=["south", "east"]):
            sites = {frame.tags["site"]} if "site" in frame.tags else set(frame.columns.get("site", ()))
            assert sites <= {"south", "east"}, panel["title"]


def test_all_is_all(looked: Looked) -> None:
    """Of a variable with all chosen a query leaves nothing out, not even what has no such tag."""
    shown = looked.opened("headwater-findings")
    assert shown.chosen["site"] == shown.chosen["rule"] == ALL
    assert shown.chosen["level"] == "1m"
    text = text_of(_query("headwater-findings", "Open alerts"), BOARDS["headwater-findings"], shown)
    assert re.findall(r"/\^(.*?)\$/", text) == [".*", ".*"]


def test_a_dashboard_can_be_drawn(looked: Looked, tmp_path: Path) -> None:
    """The pictures of docs/dashboards.md are made of what the queries find: of the fleet no panel is empty."""
    shown = looked.opened("headwater-fleet")
    assert draw(BOARDS["headwater-fleet"], shown, looked.find, tmp_path / "fleet.png") == []
    assert (tmp_path / "fleet.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in FOLDER.glob("dashboard-*.png")} == {
        f"{uid.replace('headwater', 'dashboard')}.png" for uid in BOARDS
    }


SHOWN = everything()
PROMQL = [one for board in BOARDS.values() for one in queries(board) if one.source == PROMETHEUS]


def _metric(name: str) -> Shown:
    return SHOWN[name] if name in SHOWN else SHOWN[name.removesuffix("_bucket")]


@pytest.mark.parametrize("query", PROMQL, ids=lambda query: query.name)
def test_a_query_names_metrics_and_labels_that_there_are(query: Query) -> None:
    """Each metric is in the registry of metrics, a counter is asked for its rate or increase, a histogram for its buckets; labels are theirs."""
    named = re.findall(r"headwater_\w+", query.text)
    assert named
    for name in named:
        kind = _metric(name).kind
        grows = re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[", query.text) is not None
        assert grows == (kind in {"counter", "histogram"}), name
        assert name.endswith("_bucket") == (kind == "histogram"), name
    labels = {label for name in named for label in _metric(name).labels} | {"instance", "job"}
    asked = {
        *re.findall(r"\{(\w+)=", query.text),
        *(one for some in re.findall(r" by \(([\w, ]+)\)", query.text) for one in some.split(", ")),
        *re.findall(r"\{\{(\w+)\}\}", query.target.get("legendFormat", "")),
    }
    assert asked <= labels | ({"le"} if "_bucket" in query.text else set())


@pytest.mark.parametrize("query", PROMQL, ids=lambda query: query.name)
def test_a_query_finds_series(looked: Looked, query: Query) -> None:
    """Each is one that Prometheus takes, and finds a series in the pumps' story."""
    if query.owner.startswith("variable"):
        assert looked.opened(query.board).chosen["agent"] == ALL
        return
    found = looked.find(query, looked.opened(query.board))
    assert found
    if query.panel["type"] == "table":
        styled = {override["matcher"]["options"] for override in query.panel["fieldConfig"]["overrides"]}
        assert styled <= {"Time", *found[0].columns, *(f"Value #{letter}" for letter in "ABCDE")}


def test_the_numbers_of_the_pipeline_are_those_of_the_story(looked: Looked) -> None:
    """Nothing waits any more, nobody is missing; what the agent says it counted is what was sent, and the store took at least what it has."""

    def last(text: str) -> float:
        query = Query("headwater-pipeline", "", text, PROMETHEUS, {}, {"instant": True, "legendFormat": ""})
        (frame,) = looked.find(query, looked.opened("headwater-pipeline"))
        return float(str(frame.columns["Value"][0]))

    truths = [ledgers.read(looked.story.ledger.with_name(name)) for name in ("ledger", "guests", "late")]
    sent = [
        (truth.series[number], *more)
        for truth in truths
        for number, *more in zip(
            truth.series_of.tolist(), truth.time.tolist(), truth.value.tolist(), strict=True
        )
    ]
    until(
        lambda: last("sum(headwater_agent_readings_counted_total)") == len(set(sent)),
        20,
        "the agent has told",
    )
    waits = {one.owner: one.text.replace("$agent", ".*") for one in PROMQL}
    for title in (
        "Agents not heard",
        "Waits on agents",
        "Waits on the bus",
    ):  # that pumps left is told after they did
        until(lambda text=waits[title]: last(text) == 0, 30, title)  # type: ignore[misc]
    stored = sum(int(str(value)) for value in _counts(looked))
    assert last("sum(headwater_sink_points_total)") >= stored
    until(lambda: last("max(headwater_sink_changes_behind)") == 0, 30, "the store has that, too")


def _counts(looked: Looked) -> list[object]:
    """Return how many windows each level has in the store, those of count 0 too."""
    levels = ("1m", "10m", "1h")
    return [
        looked.store.ask(f'SELECT count("count") FROM "headwater_{level}".."windows"')[0].columns["count"][0]
        for level in levels
    ]
