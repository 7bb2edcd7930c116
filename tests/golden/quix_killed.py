"""Quix Streams plays a trace on a real Kafka, in a process of its own, which is killed on the way; with second stages."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from headwater_shared.bus import Bus
from headwater_shared.topics import IN, Topic
from tests.cloud.side import FILE, rows_of
from tests.golden import on_kafka, outcome
from tests.golden.outcome import Outcome
from tests.golden.trace import Trace
from tests.kafka import KafkaServer, MadeTopics
from tests.support import ROOT, until

_STARTS = 5
"""Of a worker that ends by itself: whoever looks after it starts it again."""


def play(trace: Trace, folder: Path, kafka: KafkaServer, *, kills: int = 0) -> Outcome:
    """Take in a trace; in the midst of each of its first acts the worker is killed, and the next one goes on."""
    topics = MadeTopics(kafka)
    bus = on_kafka.opened(topics)
    worker = Worker(topics, folder)
    try:
        on_kafka.keep_times(topics)
        for number, act in enumerate(trace.acts):
            half = len(act) // 2 if number < kills else len(act)
            on_kafka.append(topics, act[:half])
            if number < kills:
                worker.has_taken(bus)
                on_kafka.append(topics, act[half:])
                worker.kill()
                worker = Worker(topics, folder)
            worker.has_taken(bus)
        patient = trace.outcome.gaps is not None
        return outcome.read(
            folder / FILE, lambda topic: on_kafka.topic(bus, topic), patient=patient, keeps_parts=False
        )
    finally:
        worker.kill()
        bus.close()
        topics.delete()


class Worker:
    """The process."""

    def __init__(self, topics: MadeTopics, folder: Path) -> None:
        self._topics, self._folder = topics, folder
        self._log = folder / "worker.log"
        self._starts = 0
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        self._starts += 1
        words = [self._topics.server.address, self._topics.prefix, str(self._folder)]
        with self._log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.golden.quix_worker", *words], cwd=ROOT, stdout=out, stderr=out
            )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def has_taken(self, bus: Bus) -> None:
        """Wait until all that is on the bus is committed, and what came of it too."""
        for topic in on_kafka.ALL_STAGES:
            wanted = on_kafka.ends(bus, topic)
            if wanted:
                self._has_written(topic, wanted)
                self._has_committed(topic, wanted)

    def _has_written(self, topic: Topic, wanted: Mapping[int, int]) -> None:
        query = (
            'SELECT partition, next FROM "offset"'
            if topic == IN
            else f"SELECT partition, next FROM second WHERE topic = '{topic.name}'"
        )

        def written() -> bool:
            if self._process.poll() is not None and self._starts < _STARTS:
                self._process = self._started()  # Quix made its own topics, and did not see them yet
            try:
                return _within(wanted, dict(rows_of(self._folder, query)))
            except sqlite3.OperationalError:  # it is being made
                return False

        until(written, 60, f"the worker has taken {topic.name}")

    def _has_committed(self, topic: Topic, wanted: Mapping[int, int]) -> None:
        until(lambda: on_kafka.committed(self._topics, topic, wanted), 60, f"{topic.name} is committed")


def _within(wanted: Mapping[int, int], done: Mapping[int, int]) -> bool:
    return all(offset <= done.get(partition, 0) for partition, offset in wanted.items())
