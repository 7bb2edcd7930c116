"""`cloud-rows` and `cloud-two`: CPU a row of workers of the Quix runner with merge, rollups and registry, on a real Kafka.

The topic is full before a worker begins; what is measured lies between a checkpoint at a third of the rows, when it knows
the names, and its last.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from headwater_shared import frame
from headwater_shared.bus import Record
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.records import FRAME, kind_of
from tests.bench.cloud.frames import registry, rounds, sites_of
from tests.bench.cloud.measured import Measured, per_row, running, worker
from tests.bench.cloud.worker import Wanted
from tests.bench.results import Result
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until

ROWS = {100: 200_000, 1_000: 1_500_000, 5_000: 2_000_000}
"""How many rows, by rows a frame."""
PLAIN_ROWS = 40_000
SITES, AGENTS = 32, 1
_PARTITIONS = 8
_BATCH = 64
_QUIET_S = 2.0


def rows(folder: Path) -> Iterator[Result]:
    """One worker over frames of three sizes, one with the SQLite sink, and the plain program."""
    with running(folder) as server:
        found = {size: one(server, folder / str(size), size) for size in ROWS}
        stored = one(server, folder / "sqlite", 1_000, str(folder / "windows.db"))
        plain = _plain(server, folder / "plain")
    yield Result(
        "cloud-rows",
        1e6 / found[1_000],
        "rows/s a core at 1,000 rows a frame",
        1e6 / plain,
        "the merge as a per-row Quix program: a JSON message a row, sdf.apply(stateful=True), exactly-once",
        "exactly-once, one broker, acks=all; the sink counts",
        {
            "CPU, us a row": found[1_000],
            "CPU, us a row, per-row program": plain,
            "times the per-row program": plain / found[1_000],
            "rows/s a core at 100 rows a frame": 1e6 / found[100],
            "rows/s a core at 5,000 rows a frame": 1e6 / found[5_000],
            "rows/s a core at 1,000 rows a frame, with the SQLite sink": 1e6 / stored,
        },
    )


def two(folder: Path) -> Iterator[Result]:
    """The same input for a group of one process and a group of two."""
    with running(folder) as server:
        alone = _group(server, folder / "one", 1)
        both = _group(server, folder / "two", 2)
    yield Result(
        "cloud-two",
        both / alone,
        "CPU a row of two processes, times that of one",
        1.0,
        "one process, the same input",
        "exactly-once, one broker, acks=all; the sink counts",
        {"CPU, us a row, one": alone, "CPU, us a row, two": both},
    )


def one(server: KafkaServer, folder: Path, size: int, file: str = "") -> float:
    """Return the microseconds of CPU a row of one worker."""
    topics = MadeTopics(server)
    made = fill(topics, size, ROWS[size])
    wanted = Wanted(
        {name: str(value) for name, value in topics.client.items()},
        topics.prefix,
        str(folder / "state"),
        file,
    )
    with worker(folder, wanted) as measured:
        measured.wait_for(made)
        _until_quiet([measured])
    topics.delete()
    seconds, done = measured.cost()
    return seconds / done * 1e6


def fill(topics: MadeTopics, size: int, count: int) -> int:
    """Put so many rows and a bit more on `hw-in`, with the registry before them; return how many."""
    sites = sites_of(SITES, AGENTS, size)
    bus = KafkaBus(topics.client, topics.prefix)
    _append(bus, registry(sites))
    made = 0
    for each in rounds(sites):
        _append(bus, each.records)
        made += each.rows
        if made >= count:
            break
    bus.close()
    return made


def _group(server: KafkaServer, folder: Path, processes: int) -> float:
    """Let all join before there is input, stop them while the topic is filled, and let them go on."""
    topics = MadeTopics(server)
    with ExitStack() as all_of_them:
        found = [
            all_of_them.enter_context(
                worker(
                    folder,
                    Wanted(
                        {name: str(value) for name, value in topics.client.items()},
                        topics.prefix,
                        str(folder / f"state-{slot}"),
                        slot=slot,
                        session_s=120.0,
                    ),
                )
            )
            for slot in range(1, processes + 1)
        ]
        until(lambda: sum(each.shards for each in found) == SHARDS, 60, "all shards are held")
        until(lambda: all(each.shards for each in found), 60, "each holds some")
        for each in found:
            each.send(signal.SIGSTOP)
        made = fill(topics, 1_000, ROWS[1_000])
        for each in found:
            each.send(signal.SIGCONT)
        until(lambda: sum(each.rows for each in found) >= made, 300, "all rows are done")
        _until_quiet(found)
    topics.delete()
    costs = [each.cost() for each in found]
    return sum(seconds for seconds, _ in costs) / sum(done for _, done in costs) * 1e6


def _plain(server: KafkaServer, folder: Path) -> float:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": server.servers})
    admin.create_topics([NewTopic("plain-rows", _PARTITIONS, 1)])["plain-rows"].result(30)
    producer = Producer({"bootstrap.servers": server.servers, "linger.ms": 20, "compression.type": "zstd"})
    made = 0
    for each in rounds(sites_of(SITES, AGENTS, 1_000)):
        for row in _as_json(each.records):
            producer.produce("plain-rows", row[1], row[0])
            made += 1
            if made % 10_000 == 0:
                producer.flush()
        if made >= PLAIN_ROWS:
            break
    producer.flush()
    with per_row(folder, server.servers, "plain-rows", "plain") as measured:
        measured.wait_for(PLAIN_ROWS // 1_000 * 1_000)
    seconds, done = measured.cost()
    return seconds / done * 1e6


def _as_json(some: list[Record]) -> Iterator[tuple[bytes, bytes]]:
    """The parts of frames as messages: the series as the key, a row as the value."""
    for record in some:
        if kind_of(record.headers) == FRAME:
            parts = frame.decode(record.body).parts
            a = parts.aggregates
            columns = (parts.series, parts.level, parts.start, a.count, a.mean, a.m2, a.min, a.max)
            for series, level, start, count, mean, m2, low, high in zip(
                *(column.tolist() for column in columns), strict=True
            ):
                name = parts.names[series]
                row = {"series": name, "level": parts.levels[level], "start": start, "count": count,
                       "mean": mean, "m2": m2, "min": low, "max": high}  # fmt: skip
                yield name.encode(), msgspec.json.encode(row)


def _append(bus: KafkaBus, some: list[Record]) -> None:
    for at in range(0, len(some), _BATCH):
        bus.append(some[at : at + _BATCH])


def _until_quiet(found: list[Measured]) -> None:
    """Wait until the rollups are done, too: nobody had anything to say for a while."""

    def quiet() -> bool:
        last = max(each.marks[-1].at for each in found if each.marks)
        return time.monotonic() - last > _QUIET_S

    until(quiet, 120, "the rollups are done")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    with running(place) as kafka:
        for each_size in map(int, sys.argv[2:]):
            print(each_size, one(kafka, place / str(each_size), each_size))
