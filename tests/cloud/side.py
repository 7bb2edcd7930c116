"""The cloud side in a folder, stepped by hand: a real log, the consumer's file, the runner; only the clocks are the test's."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from headwater_cloud.history import History
from headwater_cloud.metric_names import cloud
from headwater_cloud.pipeline import Limits
from headwater_cloud.retention import Keep
from headwater_cloud.runner import Runner
from headwater_cloud.store import Store
from headwater_shared import records, topics
from headwater_shared.bus import Record, Stored
from headwater_shared.clock import SetClock
from headwater_shared.identity import SHARDS
from headwater_shared.records import Have
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import Topic
from tests.cloud.made import S, clock_record
from tests.cloud.notified import LINES, courier_of, deliver

LOG, FILE = "log.db", "cloud.db"

OUTPUTS = (topics.HAVE, topics.ALERTS, topics.ALERT_EVENTS, topics.BY_METRIC, topics.DEAD_LETTERS)

TABLES = ("anomaly", "alert", "progress", "report", "state", '"offset"')
"""What a run leaves that is the same whatever the order of first sight was."""


class HasRows(Protocol):
    """A cloud side whose file can be asked."""

    def rows(self, query: str, *values: object) -> list[Any]: ...


class Side:
    """One process of the cloud side, and what it reads and writes."""

    def __init__(
        self, folder: Path, *, batch: int = 200, limits: Limits | None = None, log: str = LOG
    ) -> None:  # fmt: skip
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.clock = SetClock()
        self.real_s = 0.0
        """The runner's monotonic time."""
        self.batch, self.limits = batch, limits
        self.open(log)

    def open(self, log: str = LOG) -> None:
        """Start a process on the files."""
        self.log = SqliteLog(self.folder / log, wall=lambda: self.clock.wall_us)
        self.store = Store(self.folder / FILE)
        self.runner = Runner(
            self.log, self.store, self.clock, batch=self.batch, limits=self.limits,
            log_identity=self.log.identity, monotonic=lambda: self.real_s,
        )  # fmt: skip
        self.courier = courier_of(self.folder, self.clock)
        self.courier.begin()

    def reopen(self, log: str = LOG) -> None:
        """End the process and start the next one."""
        self.close()
        self.open(log)

    def put(self, *some: Record) -> None:
        """Append records of agents."""
        self.log.append(some)

    def put_clock(self, *shards: int, seconds: float = 0.0) -> None:
        """Let time pass, and append clock records of some shards, or of all that have had input."""
        self.clock.advance(seconds)
        if shards:
            self.put(*(clock_record(shard, self.clock.wall_us) for shard in shards))
        else:
            self.runner.append_clock()

    def run(self) -> None:
        """Step until all is read, committed and told."""
        while self.runner.step():
            deliver(self.courier)
        self.settle()

    def settle(self) -> None:
        """Let what waits for a commit be committed."""
        self.real_s += 60
        self.runner.step()
        deliver(self.courier)

    def take(self, *some: Record) -> None:
        """Append records and take them in."""
        self.put(*some)
        self.run()

    def prune(self, **windows_days: float) -> None:
        """Delete what is no longer kept: parts for 7 days, windows of the levels named (`_10s = 1`) for some days."""
        kept = {level.strip("_"): round(days * 86_400 * S) for level, days in windows_days.items()}
        while self.runner.prune(Keep(kept, 7 * 86_400 * S)):
            pass

    def topic(self, topic: Topic) -> list[Stored]:
        """All that is on the bus of one topic."""
        return self.log.read(topic.name, dict.fromkeys(range(topic.partitions), 0), 100_000)

    def haves(self) -> dict[tuple[str, int, int], list[int]]:
        """What the bus says that the cloud has, as an agent reads it: the last word on each agent, epoch and shard."""
        found = [records.decode(Have, stored.body) for stored in self.topic(topics.HAVE)]
        return {(have.agent, have.epoch, have.shard): have.intervals for have in found}

    def lines(self) -> list[dict[str, Any]]:
        """The notifications that people got."""
        path = self.folder / LINES
        return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def told(self) -> list[str]:
        """Which notifications people got, by the end of their ids, marked where they may be repeats."""
        return [f"{line['state']}{'?' if line.get('possible_repeat') else ''}" for line in self.lines()]

    def reports(self) -> list[tuple[str, str]]:
        """Kind and text of each report, the oldest first."""
        return self.rows("SELECT kind, text FROM report ORDER BY id")

    def rows(self, query: str, *values: object) -> list[Any]:
        """Ask the consumer's file, as it is committed."""
        return rows_of(self.folder, query, *values)

    def count(self, name: str, **labels: str) -> float:
        """A counter or gauge of the metrics."""
        found = self.runner.metrics.registry.get_sample_value(cloud(name).name, labels)
        return found or 0.0

    @contextmanager
    def history(self) -> Iterator[History]:
        """The reading side."""
        history = History(self.folder / FILE)
        yield history
        history.close()

    def drop(self) -> None:
        """Let go of the files without a word: what was not committed is lost."""
        self.courier.close()
        self.log.close()
        self.store.close()

    def close(self) -> None:
        """End as a signal ends it."""
        self.runner.close()
        deliver(self.courier)
        self.drop()


def rows_of(folder: Path, query: str, *values: object) -> list[Any]:
    """Ask the consumer's file of a folder, as it is committed."""
    reader = sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)
    try:
        return reader.execute(query, values).fetchall()
    finally:
        reader.close()


def all_of(side: Side) -> dict[str, list[Any]]:
    """Every row that a run leaves, in words instead of numbers."""
    return {table: side.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3" if table != '"offset"' else "SELECT * FROM " + table) for table in TABLES} | {
        "window": windows_of(side), "part": parts_of(side),
    }  # fmt: skip


_NAMED = (
    "SELECT s.name, l.name, x.start, o.agent, o.epoch, x.tick, x.revision, x.flags, x.count, x.digest, x.mean, x.m2,"
    " x.min, x.max, x.first, x.first_time, x.last, x.last_time, x.sketch{more} FROM {table} x"
    " JOIN series s ON s.id = x.series JOIN level l ON l.id = x.level JOIN opener o ON o.id = x.opener{where}"
    " ORDER BY 1, 2, 3, 4, 5, 6"
)


def alerts_of(side: HasRows) -> list[Any]:
    """What alerts are, without when that was found and what was done last: that depends on the cut into batches."""
    return side.rows(
        "SELECT id, rule, subject, state, severity, text, episode_us, time_us, value, site, device, incident, fired_us, end_us, evidence,"
        " agents, acked, muted FROM alert WHERE state <> 'withdrawn' ORDER BY id"
    )


def windows_of(side: HasRows) -> list[Any]:
    """All windows, each column to the last bit, by names."""
    return side.rows(_NAMED.format(table="window", more=", x.parts", where=""))


def parts_of(side: Side) -> list[Any]:
    """The parts that stand beside windows of several parts, and those of windows that were taken away."""
    where = (
        " LEFT JOIN window w ON w.level = x.level AND w.start = x.start AND w.series = x.series"
        " WHERE w.parts IS NULL OR w.parts > 1"
    )
    return side.rows(_NAMED.format(table="part", more="", where=where))


def on_bus(side: Side) -> dict[str, list[tuple[Any, ...]]]:
    """All outputs that the bus holds, each as it is."""
    return {
        topic.name: [
            (s.partition, s.key, sorted(s.headers.items()), s.body) for s in side.topic(topic)
        ]
        for topic in OUTPUTS
    }  # fmt: skip


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory, where there is one: a sync costs nothing there, and no test cuts the power of the machine."""
    memory = "/dev/shm"  # noqa: S108 - mkdtemp makes a folder there that is ours alone
    with tempfile.TemporaryDirectory(
        prefix="headwater-test-", dir=memory if os.access(memory, os.W_OK) else None
    ) as made:
        yield Path(made)


def copied(folder: Path, to: Path) -> Path:
    """Copy the files as they lie on the disk: what a kill would leave."""
    to.mkdir()
    for path in sorted(folder.iterdir()):  # a file goes before its log, which is only appended to meanwhile
        if not path.name.endswith(("-shm", ".lock")):
            shutil.copyfile(path, to / path.name)
    return to


def every_partition() -> dict[int, int]:
    return dict.fromkeys(range(SHARDS), 0)
