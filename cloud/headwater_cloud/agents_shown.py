"""What agents tell of themselves, as `/metrics` shows it: written by hand, for a thousand agents have tens of thousands of values.

Most agents tell the same metrics with the same labels, so a frame is written by one format of all its values.

The table is asked at each scrape, and only for shards that this process holds: so each agent is shown by one process, also
after a shard changed hands, and a restart knows what was told before.
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import msgspec

from headwater_cloud.metric_names import OF_AGENTS
from headwater_cloud.store import APPLICATION, VERSION
from headwater_shared.agent_metrics import TOLD
from headwater_shared.agent_status import known
from headwater_shared.errors import HeadwaterError
from headwater_shared.logs import get_logger
from headwater_shared.metric import Shown
from headwater_shared.sqlite_file import open_reader
from headwater_shared.sqlite_log import wall_us

log = get_logger()

SHOWN_US = 3_600_000_000
"""What is older is no longer shown, but how old it is."""

_FAMILIES = (*OF_AGENTS.values(), *TOLD.values())
_AT = {metric.name: number for number, metric in enumerate(_FAMILIES)}
_AGE, _OFFSET = 0, 1
_MOST_SHAPES = 1_000

Lines = list[str]
"""Of one agent, family by family; empty where it tells nothing."""
_NONE = [""] * len(_FAMILIES)


class AgentsShown:
    """The text of one process; safe from any thread.

    Args:
        file: the cloud's file.
        shards: those that this process holds.
        real_us: the machine's clock, as the bus's.
    """

    def __init__(
        self, file: Path, shards: Callable[[], Collection[int]], real_us: Callable[[], int] = wall_us
    ) -> None:
        self._file, self._shards, self._real_us = file, shards, real_us
        self._of: dict[str, tuple[int, str, Lines]] = {}
        """By agent: when it was heard, what its age is written behind, and its lines."""
        self._shapes: dict[bytes, _Shape] = {}
        """By names and labels of a frame's values, which are the same in most frames."""
        self._lock = Lock()

    def text(self, openmetrics: bool) -> str:
        """Return all families in Prometheus' text format, or in OpenMetrics; none if the file cannot be read now."""
        with self._lock:
            try:
                some = self._read()
            except (sqlite3.Error, HeadwaterError) as error:
                log.warning("agents are not shown", error=str(error))
                return ""
            found = []
            for metric, lines in zip(_FAMILIES, zip(*some, strict=True), strict=False):
                if any(lines):
                    found += [_head(metric, openmetrics=openmetrics), *lines]
            return "".join(found)

    def _read(self) -> list[Lines]:
        if not self._file.exists():
            return []
        reader = open_reader(self._file, application=APPLICATION, version=VERSION)
        try:
            held = set(self._shards())
            rows = reader.execute(
                "SELECT agent, shard, site, heard_us, offset_us, shape, numbers FROM agent_status ORDER BY agent"
            ).fetchall()
        finally:
            reader.close()
        now_us, shown, old = self._real_us(), [], self._of
        self._of = {}
        for agent, shard, site, heard_us, *told in rows:
            if shard not in held:
                continue
            known = old.get(agent)
            if known is None or known[0] != heard_us:
                known = heard_us, *self._lines(f'{{agent="{_escaped(agent)}",site="{_escaped(site)}"', *told)
            self._of[agent] = known
            age_us = max(0, now_us - heard_us)
            lines = known[2] if age_us <= SHOWN_US else _NONE.copy()
            lines[_AGE] = f"{known[1]}{age_us / 1e6}\n"
            shown.append(lines)
        return shown

    def _lines(self, who: str, offset_us: int, packed: bytes, numbers: bytes) -> tuple[str, Lines]:
        shape = self._shapes.get(packed)
        if shape is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            shape = self._shapes[packed] = _shape(packed)
        values = struct.unpack(f"<{len(numbers) // 8}d", numbers)
        text = (shape.template % tuple([values[at] for at in shape.order])).replace(_WHO, who)
        offset = f"{_FAMILIES[_OFFSET].name}{who}}} {offset_us / 1e6}\n"
        lines = ["", offset, *text.split(_NEXT)]
        return f"{_FAMILIES[_AGE].name}{who}}} ", lines


class _Shape(NamedTuple):
    """How the frames of one sort of agent are written: their values in this order, then who it is."""

    order: list[int]
    """Of the values: those that are known, family by family."""
    template: str
    """Of all families, also of those that it does not tell."""


_WHO, _NEXT = "\x01", "\x00"
"""Where the agent stands in a template, and what parts families: no name has control characters, and labels lose theirs."""
_CONTROL = re.compile(r"[\x00-\x1f]")


def _shape(packed: bytes) -> _Shape:
    found: dict[int, list[tuple[int, str]]] = {}
    for at, (name, labels) in enumerate(zip(*msgspec.msgpack.decode(packed), strict=True)):
        word = known(name, labels)
        if word is not None:
            metric, values = word
            pairs = zip(metric.labels[2:], values, strict=True)
            more = "".join(f',{label}="{_escaped(_CONTROL.sub("", text))}"' for label, text in pairs)
            line = f"{metric.name}{_WHO}{more}}} ".replace("%", "%%") + "%r\n"
            found.setdefault(_AT[metric.name], []).append((at, line))
    families = [found.get(number, []) for number in range(len(OF_AGENTS), len(_FAMILIES))]
    return _Shape(
        [at for some in families for at, _ in some],
        _NEXT.join("".join(line for _, line in some) for some in families),
    )


def _head(metric: Shown, *, openmetrics: bool) -> str:
    name = metric.family if openmetrics else metric.name
    text = metric.text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {metric.kind}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
