"""What a process shows of the shards that it works on and of the cloud's file, as it is when it is asked."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headwater_cloud.alert_rows import OPEN
from headwater_cloud.metric_names import cloud
from headwater_cloud.shard import Shard
from headwater_cloud.store import APPLICATION, VERSION
from headwater_shared import tracing
from headwater_shared.clock import Clock, wall_of
from headwater_shared.errors import HeadwaterError
from headwater_shared.metric import shown
from headwater_shared.sqlite_file import open_reader

_SEVERITIES = ("info", "warning", "critical")


class ShardMetrics(Collector):
    """Read from another thread than the one that works: each number by itself.

    Args:
        file: the cloud's file.
        shards: the state of the shards that this process works on.
        clock: Headwater's.
        health: what `/health` says.
    """

    def __init__(
        self,
        file: Path,
        shards: Callable[[], Mapping[int, Shard]],
        clock: Clock,
        health: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._file, self._shards, self._clock, self._health = file, shards, clock, health

    def collect(self) -> Iterator[Metric]:
        """Make the families."""
        shards = list(self._shards().values())
        health = self._health()
        yield shown(cloud("build_info"), [((_version(),), 1)])
        yield shown(cloud("shards"), len(shards))
        yield shown(
            cloud("spans_total"), [((became,), n) for became, n in tracing.counts()._asdict().items()]
        )
        yield shown(cloud("troubles"), len(health["reasons"]))
        yield shown(cloud("last_turn_seconds"), health["last_turn_s"])
        yield shown(cloud("clock_lag_seconds"), self._behind_s([shard.clock_us for shard in shards]))
        complete = [
            progress.complete_us
            for shard in shards
            for progress in list(shard.agents.values())
            if not progress.silent
        ]
        yield shown(cloud("complete_lag_seconds"), self._behind_s(complete))
        yield shown(cloud("alerts_open"), _open(shards))
        yield from self._of_file({shard.number for shard in shards})

    def _behind_s(self, times_us: list[int]) -> float:
        """How far the earliest of these times, 0 for none, is behind the clock: by the machine's time."""
        earliest = min((time_us for time_us in times_us if time_us), default=0)
        if not earliest:
            return 0.0
        now_us = self._clock.now().wall_us
        return max(0, wall_of(self._clock, now_us) - wall_of(self._clock, earliest)) / 1e6

    def _of_file(self, held: set[int]) -> Iterator[Metric]:
        names = (self._file, self._file.with_name(self._file.name + "-wal"))
        yield shown(cloud("file_bytes"), sum(name.stat().st_size for name in names if name.exists()))
        disk = os.statvfs(self._file.parent)
        yield shown(cloud("disk_free_bytes"), disk.f_bavail * disk.f_frsize)
        states = Counter(self._silent(held))
        yield shown(cloud("agents"), [((name,), states[name == "silent"]) for name in ("heard", "silent")])

    def _silent(self, held: set[int]) -> list[bool]:
        """Tell of each agent whether it is silent on all its shards; of several processes the one that holds the first of them tells."""
        if not self._file.exists():
            return []
        try:
            reader = open_reader(self._file, application=APPLICATION, version=VERSION)
            try:
                rows = reader.execute(
                    "SELECT min(shard), min(silent) FROM progress GROUP BY agent"
                ).fetchall()
            finally:
                reader.close()
        except (sqlite3.Error, HeadwaterError):
            return []
        return [bool(silent) for shard, silent in rows if shard in held]


def _version() -> str:
    try:
        return version("headwater")
    except PackageNotFoundError:
        return "unknown"


def _open(shards: list[Shard]) -> list[tuple[tuple[str], float]]:
    found = Counter(
        row.severity
        for shard in shards
        for key in list(shard.alerts.keys.values())
        for row in list(key.rows.values())
        if row.state in OPEN
    )
    return [((severity,), found[severity]) for severity in _SEVERITIES]
