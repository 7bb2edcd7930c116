"""Pictures of dashboards: each panel drawn from what its own queries find, where the file places it. They are not Grafana's: it cannot be had here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.grafana.asked import ALL, Shown
from tests.grafana.boards import Json, Query
from tests.grafana.stores import Frame

Find = Callable[[Query, Shown], list[Frame]]

_COLOURS = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#b877d9",
    "#5794f2",
    "#96d98d",
    "#ffb357",
    "#ca95e5",
)
_NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "text": "#d8d9da"}
_INK, _PAPER, _PANEL, _LINE, _FAINT = "#d8d9da", "#111217", "#181b1f", "#2c3235", "#8e8e8e"
_WIDE_IN, _ROW_IN = 16.0, 0.36
_MOST_ROWS = 40


def draw(board: Json, shown: Shown, find: Find, path: Path) -> list[str]:
    """Draw a dashboard into a file; return the titles of the panels of which nothing could be drawn."""
    panels = _placed(board, shown)
    rows = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in panels) + 2
    empty = []
    with mpl.rc_context(
        {"font.size": 7, "text.color": _INK, "axes.labelcolor": _INK, "font.family": "DejaVu Sans"}
    ):
        figure = Figure(figsize=(_WIDE_IN, rows * _ROW_IN), facecolor=_PAPER)
        figure.text(0.008, 1 - 0.7 / rows, board["title"], fontsize=13, va="center")
        chosen = "   ".join(
            f"{name}: {'all' if value == ALL else _listed(value)}" for name, value in shown.chosen.items()
        )
        figure.text(0.992, 1 - 0.7 / rows, chosen, fontsize=8, va="center", ha="right", color=_FAINT)
        marks = [] if not board["annotations"]["list"] else _marks(board, shown, find)
        for panel in panels:
            place = panel["gridPos"]
            box = (
                place["x"] / 24,
                1 - (place["y"] + place["h"] + 1.4) / rows,
                place["w"] / 24,
                place["h"] / rows,
            )
            if panel["type"] == "row":
                figure.text(box[0] + 0.008, box[1] + box[3] / 2, panel["title"], fontsize=10, va="center")
            elif not _Panel(figure, panel, box, shown).draw(_found(board, panel, shown, find), marks):
                empty.append(panel["title"])
        figure.savefig(path, dpi=80, facecolor=_PAPER, metadata={"Software": None})
    return empty


def _listed(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _placed(board: Json, shown: Shown) -> list[Json]:
    """Return all panels with their places; a panel that is repeated is there once a value, and what follows lies lower."""
    placed, lower = [], 0
    for panel in board["panels"]:
        name = panel.get("repeat")
        values = shown.chosen[name] if name else None
        if not name or not isinstance(values, list):
            placed.append({**panel, "gridPos": {**panel["gridPos"], "y": panel["gridPos"]["y"] + lower}})
            continue
        place = panel["gridPos"]
        for at, value in enumerate(values):
            y = place["y"] + lower + at // 2 * place["h"]
            grid = {**place, "x": at % 2 * 12, "y": y, "w": 12}
            placed.append({**panel, "title": value, "gridPos": grid, "chosen": {name: [value]}})
        lower += (len(values) - 1) // 2 * place["h"]
    return placed


def _found(board: Json, panel: Json, shown: Shown, find: Find) -> list[tuple[Json, list[Frame]]]:
    of_panel = shown._replace(chosen={**shown.chosen, **panel.get("chosen", {})})
    found = []
    for target in panel["targets"]:
        text = target["query"] if "query" in target else target["expr"]
        query = Query(board["uid"], panel["title"], text, target["datasource"]["uid"], panel, target)
        found.append((target, find(query, of_panel)))
    return found


def _marks(board: Json, shown: Shown, find: Find) -> list[tuple[str, float, float]]:
    """Return colour, begin and end of what is marked in charts, in milliseconds."""
    marks = []
    for one in board["annotations"]["list"]:
        target = one["target"]
        query = Query(board["uid"], one["name"], target["query"], one["datasource"]["uid"], {}, target)
        for frame in find(query, shown):
            ends = frame.columns.get(target["timeEndColumn"].rpartition(".")[2], frame.columns["time"])
            for begin, end in zip(frame.columns["time"], ends, strict=True):
                marks.append((_NAMED[one["iconColor"]], float(str(begin)), float(str(end))))
    return marks


class _Panel:
    """One panel on the page."""

    def __init__(
        self, figure: Figure, panel: Json, box: tuple[float, float, float, float], shown: Shown
    ) -> None:
        x, y, wide, high = box
        self._figure, self._panel, self._box, self._shown = figure, panel, box, shown
        self._defaults = panel["fieldConfig"]["defaults"]
        _, tall = figure.get_size_inches()
        inner = (x + 0.003, y + 0.06 / tall, wide - 0.006, high - 0.12 / tall)
        figure.add_artist(
            Rectangle(
                inner[:2],
                inner[2],
                inner[3],
                transform=figure.transFigure,
                facecolor=_PANEL,
                edgecolor=_LINE,
                lw=0.6,
                zorder=-1,
            )
        )
        figure.text(
            inner[0] + 0.004, y + high - 0.2 / tall, panel["title"], fontsize=8, va="center", weight="bold"
        )
        self._tall = tall

    def draw(self, found: list[tuple[Json, list[Frame]]], marks: Sequence[tuple[str, float, float]]) -> bool:
        """Draw what was found; False: it was nothing."""
        kinds = {
            "stat": self._numbers, "timeseries": self._lines, "table": self._table, "bargauge": self._bars, "state-timeline": self._states,
        }  # fmt: skip
        some = any(frames for _, frames in found)
        if not some and self._panel["type"] != "stat":
            self._say(str(self._defaults.get("noValue", "no data")), 12, _FAINT)
            return False
        axes = self._axes()
        kinds[self._panel["type"]](axes, found)
        if self._panel["type"] == "timeseries":
            self._mark(axes, marks)
        return some

    def _axes(self) -> Axes:
        x, y, wide, high = self._box
        plain = self._panel["type"] in {"stat", "table"}
        left, below = (
            (0.008, 0.12 / self._tall)
            if plain
            else (0.035 if self._panel["type"] == "timeseries" else 0.09, 0.42 / self._tall)
        )
        axes = self._figure.add_axes(
            (x + left, y + below, wide - left - 0.01, high - below - 0.38 / self._tall)
        )
        axes.set_facecolor(_PANEL)
        axes.tick_params(colors=_FAINT, labelsize=6, length=2)
        for side in axes.spines.values():
            side.set_visible(False)
        if plain:
            axes.axis("off")
        else:
            axes.grid(color=_LINE, lw=0.5)
            axes.set_axisbelow(True)
        return axes

    def _say(self, text: str, size: float, colour: str) -> None:
        x, y, wide, high = self._box
        self._figure.text(
            x + wide / 2, y + high * 0.42, text, ha="center", va="center", fontsize=size, color=colour
        )

    def _numbers(self, axes: Axes, found: list[tuple[Json, list[Frame]]]) -> None:
        shown = [
            (_name(target, frame, column), values[-1])
            for target, frames in found
            for frame in frames
            for column, values in frame.columns.items()
            if (column == "time") == ("Time" in self._panel["options"]["reduceOptions"]["fields"])
        ]
        if not shown:
            self._say(self._defaults["noValue"], 20, _NAMED[self._colour(0.0)])
        for at, (name, value) in enumerate(shown):
            at_x = (at + 0.5) / len(shown)
            colour = _NAMED[self._colour(float(str(value)))]
            axes.text(
                at_x,
                0.42,
                self._worded(value),
                ha="center",
                va="center",
                fontsize=18,
                color=colour,
                transform=axes.transAxes,
            )
            if len(shown) > 1:
                axes.text(
                    at_x,
                    0.95,
                    name,
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=_FAINT,
                    transform=axes.transAxes,
                )

    def _worded(self, value: object) -> str:
        for mapping in self._defaults.get("mappings", []):
            if str(value) in mapping["options"]:
                return str(mapping["options"][str(value)]["text"])
        if self._defaults.get("decimals") == 0:
            value = round(float(str(value)))
        return in_unit(value, self._defaults["unit"], self._shown.to_ms)

    def _colour(self, value: float) -> str:
        colour = "text"
        for step in self._defaults["thresholds"]["steps"]:
            if step["value"] is None or value >= step["value"]:
                colour = step["color"]
        return str(colour)

    def _lines(self, axes: Axes, found: list[tuple[Json, list[Frame]]]) -> None:
        bars = self._defaults.get("custom", {}).get("drawStyle") == "bars"
        edges = {one["matcher"]["options"] for one in self._panel["fieldConfig"]["overrides"]}
        base: dict[float, float] = {}
        band: list[tuple[list[float], list[float]]] = []
        number = 0
        for target, frames in found:
            for frame in frames:
                for column, values in frame.columns.items():
                    if column == "time":
                        continue
                    points = [
                        (float(str(at)), float(str(one)))
                        for at, one in zip(frame.columns["time"], values, strict=True)
                        if one is not None
                    ]
                    xs, ys = _dates([at for at, _ in points]), [one for _, one in points]
                    name, colour = _name(target, frame, column), _COLOURS[number % len(_COLOURS)]
                    if column in edges:
                        band.append((xs, ys))
                        continue
                    number += 1
                    if bars:
                        below = [base.get(at, 0.0) for at, _ in points]
                        base |= {at: low + one for (at, one), low in zip(points, below, strict=True)}
                        axes.bar(
                            xs,
                            ys,
                            bottom=below,
                            width=(self._shown.to_ms - self._shown.from_ms) / 8.64e7 / 150,
                            color=colour,
                            label=name,
                        )
                    else:
                        axes.plot(
                            xs, ys, color=colour, lw=0.9, label=name, marker="." if len(xs) < 3 else "", ms=4
                        )
        if len(band) == 2:
            axes.fill_between(
                band[0][0], band[0][1], band[1][1], color=_NAMED["blue"], alpha=0.22, lw=0, label="expected"
            )
        if self._defaults.get("min") == 0:
            axes.set_ylim(bottom=0)
        _with_dates(axes, self._shown)
        axes.yaxis.set_major_formatter(
            lambda value, _: in_unit(value, self._defaults["unit"], self._shown.to_ms)
        )
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="upper left", bbox_to_anchor=(0, -0.11), ncols=max(3, int(self._box[2] * 14)), fontsize=6, frameon=False, labelcolor=_INK,
                handlelength=1.2, borderaxespad=0,
            )  # fmt: skip

    def _mark(self, axes: Axes, marks: Sequence[tuple[str, float, float]]) -> None:
        for colour, begin, end in marks:
            if begin <= self._shown.to_ms and max(begin, end) >= self._shown.from_ms:
                first, last = _dates([begin, end])
                axes.axvspan(first, last, color=colour, alpha=0.12, lw=0)
                axes.axvline(first, color=colour, lw=0.8, ls="--")

    def _table(self, axes: Axes, found: list[tuple[Json, list[Frame]]]) -> None:
        styles = {
            one["matcher"]["options"]: {each["id"]: each["value"] for each in one["properties"]}
            for one in self._panel["fieldConfig"]["overrides"]
        }
        frames = [frame for _, some in found for frame in some]
        columns = [
            name for name in frames[0].columns if not styles.get(_title(name), {}).get("custom.hidden")
        ]
        if "Value #A" in styles:  # rows of several queries, put together by their labels
            columns, rows = _merged(found, columns)
        else:
            rows = [
                row
                for frame in frames
                for row in zip(*(frame.columns[name] for name in columns), strict=True)
            ]
        most = min(_MOST_ROWS, int(self._box[3] * self._tall / 0.19) - 4)
        rows = sorted(rows, key=lambda row: str(row[0]), reverse=True)[:most]
        texts = [
            [
                in_unit(cell, str(styles.get(_title(name), {}).get("unit", "string")), self._shown.to_ms)
                for name, cell in zip(columns, row, strict=True)
            ]
            for row in rows
        ]
        heads = [str(styles.get(_title(name), {}).get("displayName", _title(name))) for name in columns]
        wide = [
            max(len(head), *(min(len(row[at]), 60) for row in texts)) + 2 for at, head in enumerate(heads)
        ]
        left = 0.0
        for at, head in enumerate(heads):
            axes.text(left, 1.0, head, fontsize=6.5, color=_NAMED["blue"], va="top", transform=axes.transAxes)
            for down, row in enumerate(texts, 1):
                colour = _of_word(row[at]) if "mappings" in styles.get(_title(columns[at]), {}) else _INK
                text = row[at] if len(row[at]) <= 60 else row[at][:58] + ".."
                axes.text(
                    left,
                    1 - down / (most + 1),
                    text,
                    fontsize=6.5,
                    va="top",
                    color=colour,
                    transform=axes.transAxes,
                )
            left += wide[at] / max(sum(wide), 120)

    def _bars(self, axes: Axes, found: list[tuple[Json, list[Frame]]]) -> None:
        values = [
            (_name(target, frame, column), sum(float(str(one)) for one in some if one is not None))
            for target, frames in found
            for frame in frames
            for column, some in frame.columns.items()
            if column != "time"
        ]
        values.sort(key=lambda one: one[1])
        axes.barh(
            [name for name, _ in values], [value for _, value in values], color=_NAMED["blue"], height=0.6
        )
        for at, (_, value) in enumerate(values):
            axes.text(value, at, f" {value:g}", va="center", fontsize=7)

    def _states(self, axes: Axes, found: list[tuple[Json, list[Frame]]]) -> None:
        words = self._defaults["mappings"][0]["options"]
        for _, frames in found:
            for frame in frames:
                values = next(some for column, some in frame.columns.items() if column != "time")
                times = [*(float(str(at)) for at in frame.columns["time"]), float(self._shown.to_ms)]
                for begin, end, value in zip(times, times[1:], values, strict=False):
                    first, last = _dates([max(begin, self._shown.from_ms), end])
                    of = words[str(value)]
                    axes.barh(0, last - first, left=first, color=_NAMED[of["color"]], height=0.8)
                    if last - first > (self._shown.to_ms - self._shown.from_ms) / 8.64e7 / 20:
                        axes.text((first + last) / 2, 0, of["text"], ha="center", va="center", color=_PAPER)
        axes.set_yticks([])
        _with_dates(axes, self._shown)


def _with_dates(axes: Axes, shown: Shown) -> None:
    axes.xaxis_date()
    axes.set_xlim(*_dates([shown.from_ms, shown.to_ms]))
    form = ConciseDateFormatter(axes.xaxis.get_major_locator(), show_offset=False)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(form)


def _merged(
    found: list[tuple[Json, list[Frame]]], columns: list[str]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    labels = [name for name in columns if name not in {"time", "Value"}]
    by_labels: dict[tuple[Any, ...], dict[str, object]] = {}
    for target, frames in found:
        for frame in frames:
            for at in range(len(frame.columns["Value"])):
                key = tuple(frame.columns[name][at] for name in labels)
                by_labels.setdefault(key, {})[f"Value #{target['refId']}"] = frame.columns["Value"][at]
    values = sorted({name for row in by_labels.values() for name in row})
    return [*labels, *values], [(*key, *(row.get(name) for name in values)) for key, row in by_labels.items()]


def _title(column: str) -> str:
    return "Time" if column == "time" else column


def _name(target: Json, frame: Frame, column: str) -> str:
    """Return what Grafana calls a line: by the alias of InfluxQL, or the legend of PromQL, which is in the frame's name."""
    alias = str(target.get("alias", ""))
    if "expr" in target:
        return frame.name
    for tag, value in frame.tags.items():
        alias = alias.replace(f"$tag_{tag}", value)
    return alias.replace("$col", column) or column


def _of_word(word: str) -> str:
    colours = {
        "critical": "red", "firing": "red", "offline": "red", "expired": "red", "refused": "red", "warning": "orange", "silent": "orange",
        "acknowledged": "orange", "open": "orange", "info": "blue", "resolved": "green", "online": "green", "done": "green",
    }  # fmt: skip
    return _NAMED[colours.get(word, "text")]


def _dates(times_ms: Sequence[float]) -> list[float]:
    return [float(date2num(datetime.fromtimestamp(at / 1000, UTC))) for at in times_ms]  # type: ignore[no-untyped-call]


def in_unit(value: object, unit: str, now_ms: int) -> str:
    """Write a value as people read it; not all that Grafana knows, but the units of our panels."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool) or unit == "bool_yes_no":
        return "Yes" if value else "No"
    number = float(str(value))
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(number / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if unit == "dateTimeFromNow":
        return f"{_duration((now_ms - number) / 1000)} ago"
    if unit in {"s", "dtdurations"}:
        return _duration(number)
    if unit == "percentunit":
        return f"{number:.0%}"
    if unit in {"bytes", "Bps"}:
        size, at = number, 0
        while abs(size) >= 1024 and at < 4:
            size, at = size / 1024, at + 1
        return f"{size:.3g} {['B', 'KiB', 'MiB', 'GiB', 'TiB'][at]}{'/s' if unit == 'Bps' else ''}"
    ends = {"rps": " rd/s", "rowsps": " rows/s", "opm": "/min"}
    return (
        f"{number:,.4g}{ends.get(unit, '')}" if abs(number) < 10_000 else f"{number:,.0f}{ends.get(unit, '')}"
    )


def _duration(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}"
    return "0 s" if seconds == 0 else f"{seconds * 1000:.3g} ms"
