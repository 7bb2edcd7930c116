"""`cloud-state`: a million series over all shards, a few windows each, in one worker: memory, state, and how long it takes to come back.

It comes back with its state directory, and without it, from the changelog: from the start of the process to the first checkpoint that
has input of every shard.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from headwater_shared.bus import Record
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from tests.bench.agents import Process
from tests.bench.cloud.frames import Made, rounds, spread
from tests.bench.cloud.measured import Measured, running, worker
from tests.bench.cloud.worker import Wanted
from tests.bench.results import Result
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until

SERIES = 1_000_000
WINDOWS = 3
AGENTS = 4
"""Of each site: frames of 4,000 rows."""
_BATCH = 16


def run(folder: Path, series: int = SERIES) -> Iterator[Result]:
    """Fill a worker's state; then start it again, with what it has and with nothing, and give it one more round."""
    with running(folder) as server:
        topics = MadeTopics(server)
        bus = KafkaBus(topics.client, topics.prefix)
        sites = spread(AGENTS, round(series / SHARDS / AGENTS * 7 / 6))
        count = sum(len(site.series) for site in sites)
        made = rounds(sites)
        wanted = Wanted(
            {name: str(value) for name, value in topics.client.items()}, topics.prefix, str(folder / "state")
        )
        with worker(folder / "first", wanted) as first:
            until(lambda: first.shards == SHARDS, 120, "it holds all shards")
            empty = _rss_mb(first)
            _give(bus, first, made, WINDOWS)
            full = _rss_mb(first)
        state, log = _size(folder / "state"), _changelog(server, topics)
        kept = _comes_back(folder / "kept", wanted, bus, next(made))
        again = _size(folder / "state")
        shutil.rmtree(folder / "state")
        anew = _comes_back(folder / "anew", wanted, bus, next(made))
        bus.close()
    yield Result(
        "cloud-state",
        (full - empty) * 2**20 / count,
        "bytes of memory a series",
        empty * 2**20 / count,
        "the same worker before its first row, spread over the series",
        "exactly-once; RocksDB and its caches included",
        {
            "series": count,
            "windows": count * WINDOWS,
            "memory, MB": full,
            "memory before, MB": empty,
            "state on disk, bytes a window": state / count / WINDOWS,
            "changelog, bytes a window": log / count / WINDOWS,
            "back with its state, s": kept,
            "back from the changelog, s": anew,
            "state on disk after that, MB": again / 2**20,
        },
    )


def _give(bus: KafkaBus, to: Measured, made: Iterator[Made], windows: int) -> None:
    rows = to.rows
    for _ in range(windows):
        each = next(made)
        _append(bus, each.records)
        rows += each.rows
        to.wait_for(rows, 600)


def _comes_back(folder: Path, wanted: Wanted, bus: KafkaBus, made: Made) -> float:
    """Give it one row of each shard, and time it."""
    some: dict[int, Record] = {}
    for record in made.records:
        some.setdefault(record.partition, record)
    began = time.monotonic()
    with worker(folder, wanted) as back:
        _append(bus, list(some.values()))
        back.wait_for(made.rows // AGENTS - SHARDS, 600)
        return time.monotonic() - began


def _append(bus: KafkaBus, some: list[Record]) -> None:
    for at in range(0, len(some), _BATCH):
        bus.append(some[at : at + _BATCH])


def _rss_mb(of: Measured) -> float:
    return Process(of.process.pid, 0, Path()).rss_mb()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _changelog(server: KafkaServer, topics: MadeTopics) -> int:
    return sum(file.stat().st_size for file in server.folder.glob(f"data/changelog__{topics.prefix}*/*.log"))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    for result in run(place, int(sys.argv[2])):
        print(result)
