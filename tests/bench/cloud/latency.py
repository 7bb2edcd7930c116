"""`cloud-latency`: a window closed by a real agent to its row in the store; a reading sent to its alert; 1,000 readings/s, one worker.

A window is closed when the agent's commit has its frame, and stored when the file says that the frame's record is worked into it.
Both are looked for every few milliseconds, which is part of what is measured.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from headwater_shared import records
from headwater_shared.alert_records import Alert
from headwater_shared.bus import Record
from headwater_shared.errors import StateError
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.records import ALERT
from headwater_shared.sqlite_file import read_only
from headwater_shared.topics import ALERT_EVENTS, IN
from tests.bench.cloud.alarms import Alarms
from tests.bench.cloud.live import Live
from tests.bench.cloud.measured import running
from tests.bench.results import Result
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until
from tests.system.box import EDGE, WORKER, Box
from tests.system.kafka_box import kafka_box

SECONDS = 60.0
_LOOK_S = 0.01
_BY_HAND = 200

At = tuple[int, int]
"""Shard and seq, or shard and offset."""


def run(folder: Path) -> Iterator[Result]:
    """Load the agent for a minute, with an alarm now and then; and send records through the same Kafka by hand."""
    with running(folder) as server:
        topics = MadeTopics(server)
        with kafka_box(folder / "box", topics) as here:
            worker = WORKER.format(1)
            for part in (EDGE, worker):
                here.start(part)
            for part in (EDGE, worker):
                here.ready(part)
            alerts, windows = _loaded(here, topics)
        by_hand = sorted(_by_hand(server))
    windows.sort()
    alerts.sort()
    yield Result(
        "cloud-latency",
        max(_p(windows, 0.99), _p(alerts, 0.99)),
        "s, the larger p99 of both",
        _p(by_hand, 0.99),
        "p99 of a record through the same Kafka by hand: produced, waited for, consumed",
        "agent and store with full sync, exactly-once",
        {
            "window closed to stored, p50 s": _p(windows, 0.5),
            "window closed to stored, p99 s": _p(windows, 0.99),
            "reading sent to alert, p50 s": _p(alerts, 0.5),
            "reading sent to alert, p99 s": _p(alerts, 0.99),
            "by hand, p50 s": _p(by_hand, 0.5),
            "frames": len(windows),
            "alerts": len(alerts),
        },
    )


def _p(delays: list[float], part: float) -> float:
    return delays[min(len(delays) - 1, int(len(delays) * part))]


def _loaded(here: Box, topics: MadeTopics) -> tuple[list[float], list[float]]:
    """Return the delays of alerts and of windows, seconds."""
    watch = _Watch([lambda: _closed(here, closed), lambda: _stored(here, stored)])
    closed: dict[At, float] = {}
    stored: list[tuple[float, dict[int, int]]] = []
    live, alarms = Live(here.port), Alarms(here.port)
    heard = _Heard(topics)
    live.start()
    until(
        lambda: sum(_next(here).values()),
        120,
        "the worker has its shards, and the first windows are through",
    )
    watch.start()
    alarms.start()
    threading.Event().wait(SECONDS)
    sent = alarms.stop()
    live.stop()
    until(lambda: {*sent} <= heard.at.keys(), 20, "the last alert is out")
    offsets = _offsets(topics)
    last = {at: offset for at, offset in offsets.items() if at in closed}
    until(
        lambda: all(_reached(stored, at, offset) for at, offset in last.items()),
        20,
        "the last window is stored",
    )
    watch.stop()
    heard.stop()
    found = [_reached(stored, at, offset) - closed[at] for at, offset in last.items()]
    return [heard.at[stamp] - began for stamp, began in sent.items()], found


def _closed(here: Box, closed: dict[At, float]) -> None:
    with closing(read_only(here.data / "edge.db")) as reader:
        for shard, seq in reader.execute("SELECT shard, seq FROM outbox WHERE kind = 'frame'"):
            closed.setdefault((shard, seq), time.monotonic())


def _stored(here: Box, stored: list[tuple[float, dict[int, int]]]) -> None:
    found = _next(here)
    if not stored or stored[-1][1] != found:
        stored.append((time.monotonic(), found))


def _next(here: Box) -> dict[int, int]:
    """How far each shard's input is worked into the file, which may not be there yet."""
    with suppress(StateError, sqlite3.OperationalError), closing(read_only(here.data / "cloud.db")) as reader:
        return dict(reader.execute('SELECT partition, next FROM "offset"').fetchall())
    return {}


def _reached(stored: list[tuple[float, dict[int, int]]], at: At, offset: int) -> float:
    """When a record was worked into the file; 0 if it is not yet."""
    return next((moment for moment, next_of in stored if next_of.get(at[0], 0) > offset), 0.0)


def _offsets(topics: MadeTopics) -> dict[At, int]:
    """The offset of each frame on the bus."""
    bus = KafkaBus(topics.client, topics.prefix)
    offsets, out = dict.fromkeys(range(SHARDS), 0), dict[At, int]()
    ends = bus.ends(IN.name)
    while any(offsets[shard] < end for shard, end in ends.items()):
        for one in bus.read(IN.name, offsets, 1_000):
            offsets[one.partition] = one.offset + 1
            identity = records.identity_of(one.headers.get("ce_id", ""))
            if identity and records.kind_of(one.headers) == records.FRAME:
                out.setdefault((one.partition, identity[3]), one.offset)
    bus.close()
    return out


class _Watch:
    """Calls functions every few milliseconds, each in a thread of its own."""

    def __init__(self, looks: list[Callable[[], None]]) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(look,), daemon=True) for look in looks]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, look: Callable[[], None]) -> None:
        while not self._over.wait(_LOOK_S):
            look()


class _Heard(_Watch):
    """When each change of an alert was seen on the bus, by the time of the reading that led to it."""

    def __init__(self, topics: MadeTopics) -> None:
        super().__init__([self._look])
        self.at: dict[int, float] = {}
        self._bus = KafkaBus(topics.client, topics.prefix)
        self._offsets = dict.fromkeys(range(ALERT_EVENTS.partitions), 0)
        self.start()

    def _look(self) -> None:
        for one in self._bus.read(ALERT_EVENTS.name, self._offsets, 100):
            self._offsets[one.partition] = one.offset + 1
            if records.kind_of(one.headers) == ALERT:
                self.at.setdefault(records.decode(Alert, one.body).time_us, time.monotonic())


def _by_hand(server: KafkaServer) -> Iterator[float]:
    topics = MadeTopics(server)
    bus, reader = KafkaBus(topics.client, topics.prefix), KafkaBus(topics.client, topics.prefix)
    offset = 0
    for n in range(_BY_HAND):
        began = time.monotonic()
        bus.append([Record(IN.name, 0, "by-hand", {"n": str(n)}, bytes(200))])
        while not (found := reader.read(IN.name, {0: offset}, 10)):
            pass
        offset = found[-1].offset + 1
        yield time.monotonic() - began
    bus.close()
    reader.close()
    topics.delete()
