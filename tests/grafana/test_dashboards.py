"""The dashboards as files: made of the code, read by the SDK's own models, and sound. Grafana itself is not here: it cannot be had."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel
from ruamel.yaml import YAML

from headwater_dashboards.__main__ import files
from headwater_dashboards.sources import register
from tests.grafana.boards import (
    BUILT_IN,
    FILES,
    FOLDER,
    INFLUX,
    PROMETHEUS,
    Json,
    named_in,
    panels,
    queries,
    read,
    variables,
)

BOARDS = read()
UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
MOST_COLUMNS = 11
"""Of a table: a phone shows three or four without wiping."""

each_board = pytest.mark.parametrize("uid", sorted(BOARDS))


def test_the_files_are_what_the_code_makes() -> None:
    """`make dashboards` changes nothing: no file is missing, left over or edited by hand."""
    assert {path.name: path.read_text() for path in FILES} == files()


@each_board
def test_the_sdk_reads_a_dashboard_by_its_own_models(uid: str) -> None:
    """Read by the SDK's models and written again, a dashboard is the same; no panel and no query is of a kind that they do not know."""
    register_default_plugins()
    register()
    made = Dashboard.from_json(BOARDS[uid])
    for panel in made.panels or []:
        assert not isinstance(panel, Panel) or panel.options is None or not isinstance(panel.options, dict)
        for target in (isinstance(panel, Panel) and panel.targets) or []:
            assert not isinstance(target, UnknownDataquery)
    written = json.loads(json.dumps(made, cls=JSONEncoder))
    for board in (written, wanted := json.loads(json.dumps(BOARDS[uid]))):
        for one in board["annotations"]["list"]:
            del one["target"]  # of the SDK's own kind it can only be one for Grafana's store
    assert written == wanted


@each_board
def test_panels_lie_beside_each_other(uid: str) -> None:
    """Ids are there once, no panel lies on another or off the page, and none is left of a gap that a phone would show."""
    board = BOARDS[uid]
    assert [
        number for number, seen in Counter(one["id"] for one in board["panels"]).items() if seen > 1
    ] == []
    places = [one["gridPos"] for one in board["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)
    assert places == sorted(places, key=lambda place: (place["y"], place["x"]))


@each_board
def test_every_panel_says_what_it_is(uid: str) -> None:
    """Title, a sentence that describes it, a unit that Grafana knows, words for nothing where it is one number, and a data source."""
    board = BOARDS[uid]
    assert board["description"]
    assert [title for title, seen in Counter(one["title"] for one in panels(board)).items() if seen > 1] == []
    for panel in panels(board):
        assert panel["title"]
        assert re.fullmatch(r"[A-Z].{20,}[.]", panel["description"]), panel["title"]
        shown = panel["fieldConfig"]["defaults"]
        assert shown["unit"] in UNITS, panel["title"]
        assert panel["type"] != "stat" or shown["noValue"], panel["title"]
        assert [one["refId"] for one in panel["targets"]] == list("ABCDE")[: len(panel["targets"])]
        assert {one["datasource"]["uid"] for one in panel["targets"]} == {panel["datasource"]["uid"]}
        for override in panel["fieldConfig"]["overrides"]:
            for one in override["properties"]:
                assert one["id"] != "unit" or one["value"] in UNITS, panel["title"]


@each_board
def test_a_phone_shows_first_what_counts(uid: str) -> None:
    """The first line is of numbers, six of them, without a heading before it; tables have few columns, and the first tell most."""
    board = BOARDS[uid]
    assert [one["type"] for one in board["panels"][:6]] == ["stat"] * 6
    for query in queries(board):
        if query.panel.get("type") == "table" and query.source == INFLUX:
            assert len(_columns(query.text)) <= MOST_COLUMNS, query.name


def _columns(query: str) -> list[str]:
    """Return the names of the columns that a query of rows selects."""
    selected = query.removeprefix("SELECT ").partition(" FROM ")[0]
    return ["Time", *(re.findall(r'"(\w+)"', part)[-1] for part in selected.split(","))]


@each_board
def test_links_lead_to_dashboards_that_are_there(uid: str) -> None:
    """A link names a dashboard of ours, variables that it has, and columns that the table has; columns that are styled are there."""
    board = BOARDS[uid]
    assert [(link["type"], link["tags"]) for link in board["links"]] == [("dashboards", ["headwater"])]
    assert board["tags"] == ["headwater"]
    for panel in panels(board):
        asked = [one["query"] for one in panel["targets"] if one.get("resultFormat") == "table"]
        columns = {column for query in asked for column in _columns(query)}
        for override in panel["fieldConfig"]["overrides"]:
            for link in _links(override):
                led = re.fullmatch(r"/d/([\w-]+)\?(.*)", link)
                assert led or link == "${__value.raw}", link
                if led:
                    assert set(re.findall(r"var-(\w+)=", led[2])) <= set(variables(BOARDS[led[1]])), link
                assert named_in(link) <= BUILT_IN | set(variables(board)), link
                assert set(re.findall(r"__data\.fields\.(\w+)", link)) <= columns, (panel["title"], link)
            if panel["type"] == "table" and panel["datasource"]["uid"] == INFLUX:
                name = override["matcher"]["options"]
                assert name in columns or name in _UNUSED, (panel["title"], name)


_UNUSED = {"agent", "model"}
"""Columns of devices that not every table of devices has."""


def _links(override: Json) -> list[str]:
    return [link["url"] for one in override["properties"] if one["id"] == "links" for link in one["value"]]


@each_board
def test_variables_are_there_and_used(uid: str) -> None:
    """A query names only variables that the dashboard has, or Grafana; and none is chosen for nothing."""
    board = BOARDS[uid]
    own = set(variables(board))
    used = set()
    for query in queries(board):
        assert named_in(query.text) <= own | BUILT_IN, query.name
        used |= named_in(query.text)
    assert own <= used | (
        {"level"} if "var-site" in json.dumps(board) else set()
    )  # which is handed on in links
    for name, variable in variables(board).items():
        assert variable["label"], name
        assert variable["description"], name


def test_every_query_of_windows_leaves_the_empty_ones_out() -> None:
    """A window of count 0 was taken back; stores keep it, so each query of windows asks for more."""
    asked = [one for uid in BOARDS for one in queries(BOARDS[uid]) if '"windows"' in one.text]
    assert asked
    for one in asked:
        selects = one.text.count('.."windows"')
        assert one.text.count('"count" > 0') == selects, one.name


def _provisioned(path: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((FOLDER / "provisioning" / path).read_text())
    assert found["apiVersion"] == 1
    return found


_SOURCE_KEYS = {
    "name", "uid", "type", "access", "url", "user", "isDefault", "editable", "jsonData", "secureJsonData",
}  # fmt: skip


@pytest.mark.parametrize("influx", ["datasources/influx.yml", "influx-1/influx.yml"])
def test_the_data_sources_have_the_uids_that_are_asked(influx: str) -> None:
    """With either file of InfluxDB each uid of a dashboard is provisioned once; no password stands in a file; one is the default."""
    sources = [
        one for path in (influx, "datasources/prometheus.yml") for one in _provisioned(path)["datasources"]
    ]
    assert [one["uid"] for one in sources] == [INFLUX, PROMETHEUS]
    asked = {one.source for board in BOARDS.values() for one in queries(board)}
    assert asked == {INFLUX, PROMETHEUS}
    assert [one.get("isDefault", False) for one in sources] == [True, False]
    for one in sources:
        assert set(one) <= _SOURCE_KEYS
        assert one["access"] == "proxy"
        assert re.fullmatch(r"\$\{HEADWATER_[A-Z]+_URL\}", one["url"])
        for secret in one.get("secureJsonData", {}).values():
            assert re.fullmatch(r"(Token )?(\$\{[A-Z_]+\}|\$__file\{/run/tokens/grafana\})", secret)


def test_the_dashboards_are_provisioned_into_a_folder() -> None:
    """One provider of files, into the folder Headwater; what is edited in Grafana does not stay."""
    (provider,) = _provisioned("dashboards/headwater.yml")["providers"]
    assert provider["type"] == "file"
    assert (provider["folder"], provider["folderUid"]) == ("Headwater", "headwater")
    assert not provider["allowUiUpdates"]
    assert {board["editable"] for board in BOARDS.values()} == {False}
    assert len(BOARDS) == len(FILES)
