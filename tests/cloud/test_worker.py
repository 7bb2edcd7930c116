"""What a worker does beside its shards: if that cannot go on, the process ends, and starts again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from headwater_cloud import worker
from headwater_cloud.book import Book
from headwater_cloud.metrics import Metrics
from headwater_cloud.registry_copies import RegistryCopies
from headwater_cloud.rules_copies import RulesCopies
from headwater_cloud.shard import Shard
from headwater_shared.bus import Stored
from headwater_shared.clock import SetClock
from headwater_shared.errors import BusReplaced
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import REGISTRY
from tests.cloud.notified import courier_of


class Runner:
    """Holds no shard; knows whether it was stopped."""

    def __init__(self) -> None:
        self.metrics, self.stopped = Metrics(), Event()

    def shards(self) -> list[int]:
        return []

    def held(self) -> dict[int, Shard]:
        return {}

    def offsets(self) -> dict[int, int]:
        return {}

    def stop(self) -> None:
        self.stopped.set()


class Replaced(SqliteLog):
    """The log, whose registry was made anew, as Kafka's bus says it."""

    def read(self, topic: str, offsets: object, limit: int) -> list[Stored]:
        assert topic == REGISTRY.name
        raise BusReplaced("the registry ends before it was read to")


@pytest.mark.covers("R24")
def test_r24_a_worker_whose_clock_thread_fails_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shard would have a clock again, so no window would close and no alert would end, and nobody would see it."""
    monkeypatch.setattr(worker, "_CLOCK_S", 0.01)
    bus, clock, runner = Replaced(folder / "log.db"), SetClock(), Runner()
    rules = worker._Rules(RulesCopies(bus, clock, Book()), None, None)
    with closing(courier_of(folder, clock)) as courier:
        beside = worker._Beside(bus, clock, runner, RegistryCopies(bus), rules, courier)
        beside.start()
        assert runner.stopped.wait(30)
        beside.end()
        with pytest.raises(BusReplaced):
            beside.well()
