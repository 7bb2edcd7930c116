"""`cloud-kill`: one of two workers is killed under load and started again at once, as a supervisor does; how long its shards stand still.

Output is what the file that both share says of a shard: its input is worked into the rows, durably. The time is split at what can be
seen from outside: the new process is there with all that it imports, it holds its shards again, its first checkpoint is through.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from headwater_shared.bus import Record
from headwater_shared.errors import StateError
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.sqlite_file import read_only
from tests.bench.agents import Process
from tests.bench.cloud.frames import Site, rounds, spread
from tests.bench.cloud.measured import running
from tests.bench.results import Result
from tests.kafka import MadeTopics
from tests.support import until
from tests.system.box import WORKER, Box
from tests.system.kafka_box import kafka_box

KILLS = 6
ROWS = 20
_EVERY_S = 0.5
WORKERS = (WORKER.format(1), WORKER.format(2))


class Took(NamedTuple):
    """Seconds from the kill."""

    ready: float
    """The process says where its health is served: Python, imports, the bus."""
    shards: float
    """It holds shards."""
    output: float
    """All of the shards that it had go on."""
    cpu: tuple[float, float, float]
    """CPU seconds of the new process at these moments: what of the time is its own work."""


def run(folder: Path) -> Iterator[Result]:
    """Kill them in turn; beside it a worker that is ended by SIGTERM and started again."""
    with running(folder) as server:
        topics = MadeTopics(server)
        with kafka_box(folder / "box", topics) as here:
            load = _Load(topics, spread(1, ROWS))
            load.start()
            for part in WORKERS:
                here.start(part)
            until(
                lambda: len(_next(here)) == SHARDS and all(_shards(here, part) for part in WORKERS),
                120,
                "all get on",
            )
            kills = [_again(here, WORKERS[n % 2], gently=False) for n in range(KILLS)]
            gentle = [_again(here, WORKERS[n % 2], gently=True) for n in range(2)]
            load.stop()
    worst = max(kills, key=lambda took: took.output)
    yield Result(
        "cloud-kill",
        worst.output,
        "s from kill -9 to the next output of all its shards, the worst of them",
        min(took.output for took in gentle),
        "SIGTERM instead of the kill: it ends well, and is started again",
        "exactly-once, static membership, state directory kept",
        {
            "kills": len(kills),
            "median s": sorted(took.output for took in kills)[len(kills) // 2],
            "of the worst: the new process ready, s": worst.ready,
            "of the worst: shards held, s": worst.shards,
            "of the worst: CPU of the new process until ready, until shards, until output, s": list(
                worst.cpu
            ),
            "rows/s": load.rate,
        },
    )


def _again(here: Box, part: str, *, gently: bool) -> Took:
    """End a worker, start it at once, and watch."""
    had = _shards(here, part)
    before = _next(here)
    began = time.monotonic()
    (here.end if gently else here.kill)(part)
    here.start(part)
    until(lambda: _place(here, part).get("pid") == here.running[part].pid, 60, f"{part} is ready")
    new = Process(here.running[part].pid, 0, here.folder)
    ready, cpu = time.monotonic() - began, new.cpu_s()
    until(lambda: _shards(here, part), 60, f"{part} holds shards")
    shards, cpu_then = time.monotonic() - began, new.cpu_s()

    def all_on() -> bool:
        now = _next(here)
        return all(now.get(shard, 0) > before.get(shard, 0) + 1 for shard in had)

    until(all_on, 60, "its shards go on")
    return Took(ready, shards, time.monotonic() - began, (cpu, cpu_then, new.cpu_s()))


def _place(here: Box, part: str) -> dict[str, Any]:
    """What a worker says of itself; perhaps an earlier one of its slot."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((here.data / f"{part}.json").read_bytes())
        return found
    return {}


def _shards(here: Box, part: str) -> list[int]:
    with suppress(OSError, ValueError, KeyError):
        port = _place(here, part)["health"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            found: list[int] = json.loads(answer.read())["shards"]
            return found
    return []


def _next(here: Box) -> dict[int, int]:
    """How far each shard's input is worked into the file."""
    with suppress(StateError, sqlite3.OperationalError), closing(read_only(here.data / "cloud.db")) as reader:
        return dict(reader.execute('SELECT partition, next FROM "offset"').fetchall())
    return {}  # it is not there yet


class _Load(threading.Thread):
    """A frame of each shard every half second, made before."""

    def __init__(self, topics: MadeTopics, sites: list[Site]) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._bus = KafkaBus(topics.client, topics.prefix)
        self._rounds: list[list[Record]] = []
        rows = 0
        for made in rounds(sites):
            self._rounds.append([record for record in made.records if record.key != "clock"])
            rows += made.rows
            if len(self._rounds) == 400:
                break
        self.rate = rows / len(self._rounds) / _EVERY_S

    def run(self) -> None:
        for each in self._rounds:
            if self._over.wait(_EVERY_S):
                return
            self._bus.append(each)

    def stop(self) -> None:
        self._over.set()
        self.join()
        self._bus.close()
