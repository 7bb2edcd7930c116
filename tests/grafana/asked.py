"""Queries as Grafana sends them: its macros and a dashboard's variables filled in, as its plugins for InfluxDB and Prometheus do.

Grafana cannot be had here. What it does is read from its source: `pkg/tsdb/influxdb/models/query.go` and the front end's
`interpolateQueryExpr` for InfluxQL (a variable of several values is a group of escaped ones, one of one value is escaped inside a
regular expression, all is `allValue` as it is); `$__rate_interval` is at least four scrapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from tests.grafana.boards import INFLUX, Json, Query, variables

POINTS = 1000
"""Of a chart: as many as it is pixels wide."""
SCRAPE_MS = 15_000
_NICE_S = (
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1200,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    86_400,
)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")

Chosen = str | list[str]
"""Of a variable: one value, or several; `ALL` is all."""
ALL = ["$__all"]


class Shown(NamedTuple):
    """What a person looks at: a time, and what was chosen of each variable."""

    from_ms: int
    to_ms: int
    chosen: Mapping[str, Chosen]


def opened(
    board: Json, from_ms: int, to_ms: int, ask: Callable[[str, str], list[str]], **wanted: Chosen
) -> Shown:
    """Open a dashboard: each variable in turn asks for its values, and takes the wanted one, the one of the file, or the first.

    Args:
        board: the dashboard.
        from_ms, to_ms: the time that is shown.
        ask: gives what a query of a data source (its uid) finds, as texts.
        wanted: what a person chooses, by the variable's name.
    """
    shown = Shown(from_ms, to_ms, {})
    for name, one in variables(board).items():
        values = list(
            _values(
                one,
                ask(
                    filled_in(one["query"]["query"], one["datasource"]["uid"], board, shown),
                    one["datasource"]["uid"],
                ),
            )
        )
        assert values, name
        chosen = wanted.get(name) or _current(one) or values[0]
        if chosen != ALL and not set([chosen] if isinstance(chosen, str) else chosen) <= set(values):
            assert name not in wanted, (name, chosen, values)
            chosen = values[0]
        shown = shown._replace(chosen={**shown.chosen, name: chosen})
    return shown


def _values(variable: Json, found: Iterable[str]) -> Iterable[str]:
    pattern = variable.get("regex", "").strip("/")
    for value in found:
        matched = re.search(pattern, value)
        if matched:
            yield matched[1] if matched.groups() else value


def _current(variable: Json) -> Chosen | None:
    chosen: Chosen | None = variable.get("current", {}).get("value")
    return chosen


def interval_ms(shown: Shown, panel: Json) -> int:
    """Return the length of `$__interval`: the time a pixel, rounded, and at least what the panel says."""
    least = filled_in(panel.get("interval") or "10s", INFLUX, None, shown)
    wide_s = (shown.to_ms - shown.from_ms) / 1000 / POINTS
    nice = next((one for one in _NICE_S if one >= wide_s), _NICE_S[-1])
    return 1000 * max(nice, int(least[:-1]) * _UNITS_S[least[-1]])


def text_of(query: Query, board: Json, shown: Shown) -> str:
    """Return a query as the data source is asked it."""
    return filled_in(query.text, query.source, board, shown, interval_ms(shown, query.panel))


def filled_in(text: str, source: str, board: Json | None, shown: Shown, step_ms: int = 10_000) -> str:
    """Fill in macros and variables; what nobody knows stays, and the store says what it thinks of it."""
    rate_ms = max(step_ms + SCRAPE_MS, 4 * SCRAPE_MS)
    wide_ms = shown.to_ms - shown.from_ms
    macros = {
        "timeFilter": f"time >= {shown.from_ms}ms and time <= {shown.to_ms}ms",
        "__interval": f"{step_ms // 1000}s", "__interval_ms": str(step_ms), "__rate_interval": f"{rate_ms // 1000}s",
        "__from": str(shown.from_ms), "__to": str(shown.to_ms), "__range_ms": str(wide_ms), "__range_s": str(wide_ms // 1000),
        "__range": f"{wide_ms // 1000}s",
    }  # fmt: skip
    own = variables(board) if board else {}

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name in macros:
            return macros[name]
        if name not in shown.chosen:
            return found[0]
        return _interpolated(shown.chosen[name], own.get(name, {}), name, text, influx=source == INFLUX)

    return _VARIABLE.sub(value, text)


def _interpolated(chosen: Chosen, variable: Json, name: str, text: str, *, influx: bool) -> str:
    if chosen == ALL:
        return str(variable["allValue"])
    if isinstance(chosen, list):
        escaped = [_escaped(one, influx=influx) for one in chosen]
        return escaped[0] if len(escaped) == 1 and not influx else f"({'|'.join(escaped)})"
    in_regex = re.search(rf"/\^?[^/]*\${name}\b[^/]*\$?/", text) is not None
    number_first = re.match(r"\s*[0-9.]", chosen) is not None  # parseFloat takes it for a number
    return _escaped(chosen, influx=True) if in_regex and not number_first else chosen


def _escaped(value: str, *, influx: bool) -> str:
    once = re.sub(r"[\\^$*+?.()|[\]{}/]", r"\\\g<0>", value)
    return once if influx else once.replace("\\", "\\\\")
