"""A dashboard from its parts: numbers its panels, places them, and links it with the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink, Row
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard, prometheus
from grafana_foundation_sdk.models.dashboard import (
    AnnotationContainer,
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    Panel,
    VariableModel,
)

from headwater_dashboards.annotations import Marks
from headwater_dashboards.sources import InfluxQuery

TAG = "headwater"
"""Of all of them: the menu of each lists those that have it."""
WIDTH = 24


class Section(NamedTuple):
    """Panels below a line with a heading; the first has none."""

    title: str
    panels: Sequence[Panel]


def page(
    uid: str,
    title: str,
    says: str,
    variables: Sequence[VariableModel],
    sections: Sequence[Section],
    marks: Sequence[Marks] = (),
    *,
    shown: str = "now-6h",
    refresh: str = "30s",
) -> dashboard.Dashboard:
    """Make a dashboard; `shown`: the time that it begins with, `marks`: what is drawn into its charts.

    Raises:
        ValueError: a line of panels is wider than the page.
    """
    made = Dashboard(title).uid(uid).description(says).tags([TAG]).timezone("browser").readonly()
    made.time(shown, "now").refresh(refresh).tooltip(DashboardCursorSync.CROSSHAIR)
    menu = DashboardLink("Headwater").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    made.link(menu.keep_time(True).include_vars(True))
    built = made.build()
    built.panels = _placed(sections)
    built.templating = dashboard.DashboardDashboardTemplating(list(variables))
    built.annotations = AnnotationContainer(list(marks))
    return built


def _placed(sections: Sequence[Section]) -> list[Panel | dashboard.RowPanel]:
    placed: list[Panel | dashboard.RowPanel] = []
    y = 0
    for section in sections:
        if section.title:
            row = Row(section.title).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=y)).build()
            placed.append(row)
            y += 1
        x = tallest = 0
        for panel in section.panels:
            size = panel.grid_pos
            assert size is not None
            if x + size.w > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            size.x, size.y = x, y
            x, tallest = x + size.w, max(tallest, size.h)
            placed.append(panel)
        y += tallest
    for number, one in enumerate(placed, 1):
        one.id_val = number
        for letter, target in zip(
            ascii_uppercase, (isinstance(one, Panel) and one.targets) or [], strict=False
        ):
            assert isinstance(target, InfluxQuery | prometheus.Dataquery)
            target.ref_id = letter
    return placed


def text(made: dashboard.Dashboard) -> str:
    """Write it as the file has it."""
    plain: Any = json.loads(json.dumps(made, cls=JSONEncoder))
    return json.dumps(plain, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
