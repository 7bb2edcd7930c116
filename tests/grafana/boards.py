"""The dashboards as the files hold them, taken apart: panels, queries, variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support import ROOT

FOLDER = ROOT / "deploy" / "grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))
INFLUX, PROMETHEUS = "headwater-influx", "headwater-prometheus"
BUILT_IN = {
    "timeFilter", "__interval", "__interval_ms", "__rate_interval", "__from", "__to", "__range_ms", "__range", "__range_s",
    "__url_time_range", "__value", "__data", "__all",
}  # fmt: skip
"""What Grafana fills in by itself."""
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)")

Json = dict[str, Any]


class Query(NamedTuple):
    """One query of a dashboard."""

    board: str
    owner: str
    """The panel's title, or which variable or annotation it is of."""
    text: str
    source: str
    """The data source's uid."""
    panel: Json
    target: Json

    @property
    def name(self) -> str:
        return f"{self.board}: {self.owner} {self.target.get('refId', '')}".strip()


def read() -> dict[str, Json]:
    """Return every dashboard by its uid."""
    boards = [json.loads(path.read_text()) for path in FILES]
    return {board["uid"]: board for board in boards}


def panels(board: Json) -> Iterator[Json]:
    """Return the panels that show something: all but the headings."""
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


def queries(board: Json) -> Iterator[Query]:
    """Return what is asked when the dashboard is opened: of panels, variables and annotations."""
    uid = board["uid"]
    for panel in panels(board):
        for target in panel["targets"]:
            text = target["query"] if "query" in target else target["expr"]
            yield Query(uid, panel["title"], text, target["datasource"]["uid"], panel, target)
    for variable in variables(board).values():
        asked = variable["query"]["query"]
        yield Query(uid, f"variable {variable['name']}", asked, variable["datasource"]["uid"], {}, {})
    for one in board["annotations"]["list"]:
        target = one["target"]
        yield Query(uid, f"annotations {one['name']}", target["query"], one["datasource"]["uid"], {}, target)


def variables(board: Json) -> dict[str, Json]:
    """Return the variables by name, in their order."""
    return {one["name"]: one for one in board["templating"]["list"]}


def named_in(text: str) -> set[str]:
    """Return the names of variables in a text."""
    return {first or second for first, second in _VARIABLE.findall(text)}
