"""Panels of the few kinds that the dashboards use: each has a title, a sentence that says what it is, a unit, and a size.

A page is 24 columns wide; a phone shows the panels below each other in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    FieldTextAlignment,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TableCellHeight,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

from headwater_dashboards.sources import Made

GREEN, YELLOW, RED, GREY = "green", "orange", "red", "text"

Steps = Mapping[float | None, str]
"""From which value on which colour; None: from the lowest on."""

PLAIN: Steps = {None: GREY}
NONE_IS_GOOD: Steps = {None: GREEN, 1: RED}
NONE_IS_BETTER: Steps = {None: GREEN, 1: YELLOW}

STATUS = ValueMap(
    {
        "2": ValueMappingResult("online", GREEN, index=0),
        "1": ValueMappingResult("silent", YELLOW, index=1),
        "0": ValueMappingResult("offline", RED, index=2),
    }
)
"""Of `devices.code`."""


class Column(NamedTuple):
    """How a column of a table is shown."""

    unit: str = ""
    link: str = ""
    """Where a click leads; `says` is what the link is called."""
    says: str = ""
    width: int = 0
    named: str = ""
    """Its heading, where that is not the field's name."""
    coloured: bool = False
    """Severities, states and status have a colour."""
    hidden: bool = False
    long: bool = False
    """A sentence: it goes on in the next line."""


_EDGE = [
    DynamicConfigValue("custom.lineWidth", 0),
    DynamicConfigValue("custom.fillOpacity", 20),
    DynamicConfigValue("custom.showPoints", "never"),
    DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "blue"}),
]

_COLOURS = ValueMap(
    {
        word: ValueMappingResult(word, colour, index=at)
        for at, (word, colour) in enumerate(
            {
                "critical": RED, "warning": YELLOW, "info": "blue", "firing": RED, "acknowledged": YELLOW, "resolved": GREEN,
                "online": GREEN, "silent": YELLOW, "offline": RED, "done": GREEN, "refused": RED, "expired": RED,
            }.items()
        )
    }
)  # fmt: skip


def number(
    title: str,
    says: str,
    source: DataSourceRef,
    *asked: Made,
    unit: str,
    steps: Steps = PLAIN,
    none: str = "0",
    width: int = 4,
    words: ValueMap | None = None,
    calc: str = "lastNotNull",
    decimals: int | None = None,
    spark: bool = False,
    field: str = "",
) -> Panel:
    """One number, or a few; `none`: what stands there when a query finds nothing, `words`: what stands for a number, `field`: of a table's row."""
    panel = stat.Panel().title(title).description(says).datasource(source).span(width).height(4)
    panel.targets(list(asked)).unit(unit).no_value(none).thresholds(_steps(steps)).color_mode(
        BigValueColorMode.VALUE
    )
    panel.reduce_options(common.ReduceDataOptions().calcs([calc]).fields(field))
    panel.graph_mode(BigValueGraphMode.AREA if spark else BigValueGraphMode.NONE)
    if words is not None:
        panel.mappings([words])
    if decimals is not None:
        panel.decimals(decimals)
    return panel.build()


def over_time(
    title: str,
    says: str,
    source: DataSourceRef,
    *asked: Made,
    unit: str,
    width: int = 12,
    height: int = 8,
    stacked_bars: bool = False,
    interval: str = "",
    from_zero: bool = True,
    steps: Steps | None = None,
    band: tuple[str, str] | None = None,
) -> Panel:
    """Lines over time, or bars on each other; `band`: names of the lines that are its upper and its lower edge."""
    panel = timeseries.Panel().title(title).description(says).datasource(source).span(width).height(height)
    panel.targets(list(asked)).unit(unit).line_width(1).show_points(VisibilityMode.AUTO).fill_opacity(5)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    if stacked_bars:
        panel.draw_style(GraphDrawStyle.BARS).fill_opacity(80).stacking(
            common.StackingConfig().mode(StackingMode.NORMAL)
        )
    if interval:
        panel.interval(interval)
    if from_zero:
        panel.min(0)
    if steps is not None:
        panel.thresholds(_steps(steps))
    if band is not None:
        upper, lower = band
        panel.override_by_name(upper, [*_EDGE, DynamicConfigValue("custom.fillBelowTo", lower)])
        panel.override_by_name(lower, _EDGE)
    return panel.build()


def listed(
    title: str,
    says: str,
    source: DataSourceRef,
    *asked: Made,
    columns: Mapping[str, Column],
    width: int = 24,
    height: int = 9,
    newest_first: str = "Time",
    none: str = "none",
    merged: bool = False,
) -> Panel:
    """A table; columns that are not named in `columns` are shown as they are. `merged`: rows of several queries with equal labels are one."""
    panel = table.Panel().title(title).description(says).datasource(source).span(width).height(height)
    panel.targets(list(asked)).unit("string").no_value(none).cell_height(TableCellHeight.SM).align(
        FieldTextAlignment.AUTO
    )
    if merged:
        panel.with_transformation(DataTransformerConfig("merge", options={}))
    if newest_first:
        panel.sort_by([common.TableSortByFieldState().display_name(newest_first).desc(True)])
    for name, column in columns.items():
        panel.override_by_name(name, _shown(column))
    return panel.build()


def bars(
    title: str, says: str, source: DataSourceRef, *asked: Made, unit: str, width: int = 8, height: int = 8
) -> Panel:
    """A bar for each of a few names, with its number."""
    panel = bargauge.Panel().title(title).description(says).datasource(source).span(width).height(height)
    panel.targets(list(asked)).unit(unit).no_value("none").min(0).orientation(VizOrientation.HORIZONTAL)
    panel.thresholds(_steps({None: "blue"})).reduce_options(common.ReduceDataOptions().calcs(["sum"]))
    return panel.build()


def states(
    title: str,
    says: str,
    source: DataSourceRef,
    *asked: Made,
    words: ValueMap,
    width: int = 24,
    height: int = 4,
) -> Panel:
    """What something was, when: a bar of colours a name."""
    panel = statetimeline.Panel().title(title).description(says).datasource(source).span(width).height(height)
    panel.targets(list(asked)).unit("none").mappings([words]).thresholds(_steps(PLAIN))
    return (
        panel.show_value(VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
        .line_width(0)
        .fill_opacity(70)
        .build()
    )


def _shown(column: Column) -> list[DynamicConfigValue]:
    shown: dict[str, object] = {}
    if column.named:
        shown["displayName"] = column.named
    if column.unit:
        shown["unit"] = column.unit
    if column.width:
        shown["custom.width"] = column.width
    if column.link:
        shown["links"] = [
            {"title": column.says, "url": column.link, "targetBlank": not column.link.startswith("/")}
        ]
    if column.coloured:
        shown |= {"mappings": [_COLOURS], "custom.cellOptions": {"type": "color-text"}}
    if column.hidden:
        shown["custom.hidden"] = True
    if column.long:
        shown["custom.cellOptions"] = {"type": "auto", "wrapText": True}
    return [DynamicConfigValue(name, value) for name, value in shown.items()]


def _steps(steps: Steps) -> ThresholdsConfig:
    made = [Threshold(value, colour) for value, colour in steps.items()]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)
