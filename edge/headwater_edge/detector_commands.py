"""`headwater-edge detectors`: what the detectors of a running agent have learnt of each series, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from headwater_edge import words
from headwater_edge.options import SettingsFile, data_folder
from headwater_edge.places import SOCKET

_COSTS = ("rule", "detector", "series", "bytes a series", "us a window")
_SERIES = ("rule", "series", "windows", "latest", "degree", "last alarm")


def detectors(
    series: Annotated[
        str, typer.Argument(help="site/device/metric, or site/device; * and ? match any text, quote them.")
    ] = "*",
    settings: SettingsFile = None,
    most: Annotated[int, typer.Option(min=1, help="So many series at most.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")] = False,
) -> None:
    """Show detectors: what each has learnt of each series, how rare its latest score was, its last alarm, memory and time that it takes."""
    answer = words.say(data_folder(settings) / SOCKET, "detectors", series=series, most=most)
    if as_json:
        print(msgspec.json.encode(answer).decode())
        return
    if not answer["detectors"]:
        print("no detectors: write an [[edge.detect]] into the settings, see docs/detection.md")
        return
    _table(_COSTS, [
        (one["rule"], one["detector"], one["rows"], f"{one['bytes_a_row']:,}", one["us_a_window"] or one["gone"] or "-")
        for one in answer["detectors"]
    ])  # fmt: skip
    print()
    _table(_SERIES, [_line(one) for one in answer["series"]])
    for one in answer["set_aside"]:
        left = f"tried again after {one['windows_left']} windows"
        print(f"set aside: {one['detector']} for {one['series']}: {one['why']}; {left}")


def _line(one: dict[str, Any]) -> tuple[Any, ...]:
    latest = [
        f"{name} {rarity:.1f}" for name, rarity in sorted(one["rarity"].items(), key=lambda each: -each[1])
    ]
    if one["warm_up"]:
        latest.append(f"warming up: {', '.join(one['warm_up'])}" if latest else "warming up")
    alarm = "now" if one["alarm"] else _time(one["last_alarm_us"]) if one["last_alarm_us"] else "none"
    return one["rule"], one["series"], one["windows"], ", ".join(latest), one["degree"], alarm


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    written = [[str(each) for each in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *written, strict=True)]
    for row in (head, *written):
        print("  ".join(map(str.ljust, row, widths)).rstrip())
