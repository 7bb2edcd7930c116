"""Processes that say what they do: started, listened to, and ended by their pids."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.bench.cloud.worker import Wanted
from tests.kafka import KafkaServer
from tests.support import until


class Mark(NamedTuple):
    """What a process had done at a moment."""

    rows: int
    windows: int
    cpu: float
    at: float


class Measured:
    """A process, and what it said so far."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        self.marks: list[Mark] = []
        self.shards = 0
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "shards" in said:
                self.shards = said["shards"]
            else:
                self.marks.append(Mark(said["rows"], said.get("windows", 0), said["cpu"], said["at"]))

    @property
    def rows(self) -> int:
        return self.marks[-1].rows if self.marks else 0

    def wait_for(self, rows: int, seconds: float = 300) -> None:
        """Wait until it has done so many rows."""
        until(lambda: self._runs() and self.rows >= rows, seconds, f"{rows} rows")

    def _runs(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return True

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it, after its last checkpoint."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        self._listening.join(10)

    def cost(self) -> tuple[float, int]:
        """Return the CPU seconds from the mark at a third of the rows to the last one, and the rows between them: until then names
        are new.
        """
        last = self.marks[-1]
        first = next(mark for mark in self.marks if mark.rows >= last.rows / 3)
        return last.cpu - first.cpu, last.rows - first.rows


@contextmanager
def running(folder: Path) -> Iterator[KafkaServer]:
    """Run a Kafka of the bench's own."""
    server = KafkaServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def worker(folder: Path, wanted: Wanted) -> Iterator[Measured]:
    """Run a worker, and end it."""
    folder.mkdir(parents=True, exist_ok=True)
    said = msgspec.json.encode(wanted).decode()
    found = Measured([sys.executable, "-m", "tests.bench.cloud.worker", said], folder / f"{wanted.slot}.log")
    try:
        yield found
    finally:
        found.end()


@contextmanager
def per_row(folder: Path, servers: str, topic: str, group: str) -> Iterator[Measured]:
    """Run the plain program, and end it."""
    folder.mkdir(parents=True, exist_ok=True)
    words = (servers, topic, group, str(folder / "state"))
    found = Measured([sys.executable, "-m", "tests.bench.cloud.per_row", *words], folder / "per-row.log")
    try:
        yield found
    finally:
        found.end()
