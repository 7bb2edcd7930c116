"""`wire-bytes`: bytes a row of `hw-in` in Kafka's own log, of a real agent at 1,000 readings/s, and what each column takes of them.

The columns' shares are those of the same batches with one column only, compressed by themselves; what a column costs beside others
may be a bit less.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwater_edge import words
from headwater_shared import frame, records
from headwater_shared.aggregates import COLUMNS
from headwater_shared.bus import Record, Stored
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.parts import Parts
from headwater_shared.topics import IN
from tests.bench.agents import agent
from tests.bench.cloud.live import Live
from tests.bench.cloud.measured import running
from tests.bench.results import Result
from tests.kafka import KafkaServer, MadeTopics

SECONDS = 130.0
"""Two full minutes, and what of them is late."""
_PART = ("series", "level", "start", "epoch", "tick", "revision", "flags")
_AT_ONCE_MS = 300
"""Records of a shard that came within this are taken for one batch."""


def run(folder: Path) -> Iterator[Result]:
    """Run the agent, then put the columns of its frames one by one on partitions of their own."""
    with running(folder) as server:
        topics = MadeTopics(server)
        _agent(folder / "agent", topics)
        found = _read(topics)
        wire = _logged(server, topics.prefix + IN.name)
        by_column = _by_column(server, found)
    frames = [frame.decode(one.body) for one in found if records.kind_of(one.headers) == records.FRAME]
    rows = sum(len(one.parts) for one in frames)
    plain = sum(len(one.body) for one in found)
    share = {name: size / rows for name, size in sorted(by_column.items(), key=lambda item: -item[1])}
    yield Result(
        "wire-bytes",
        wire / rows,
        "bytes a row in Kafka's log",
        plain / rows,
        "the same records uncompressed, without headers",
        "zstd as the producer compresses, a batch a shard and append",
        {
            "rows": rows,
            "rows a frame": rows / len(frames),
            "rows a batch": rows / len(_batches(found)),
            **{f"{name}, bytes a row": size for name, size in share.items()},
        },
    )


def _agent(folder: Path, topics: MadeTopics) -> None:
    with agent(folder, f'[kafka]\nprefix = "{topics.prefix}"', topics.server.address) as ours:
        live = Live(ours.port)
        live.start()
        threading.Event().wait(SECONDS)
        live.stop()
        words.say(ours.folder / "edge.sock", "flush")


def _read(topics: MadeTopics) -> list[Stored]:
    bus = KafkaBus(topics.client, topics.prefix)
    offsets, out = dict.fromkeys(range(SHARDS), 0), list[Stored]()
    ends = bus.ends(IN.name)
    while any(offsets[shard] < end for shard, end in ends.items()):
        for stored in bus.read(IN.name, offsets, 1_000):
            offsets[stored.partition] = stored.offset + 1
            out.append(stored)
    bus.close()
    return out


def _logged(server: KafkaServer, topic: str) -> int:
    """The size of a topic's log on the broker's disk."""
    return sum(file.stat().st_size for file in server.folder.glob(f"data/{topic}-*/*.log"))


def _batches(found: list[Stored]) -> list[list[Stored]]:
    out: list[list[Stored]] = []
    for one in sorted(found, key=lambda stored: (stored.partition, stored.offset)):
        last = out[-1][-1] if out else None
        if last and last.partition == one.partition and one.time_us - last.time_us < _AT_ONCE_MS * 1000:
            out[-1].append(one)
        else:
            out.append([one])
    return out


def _by_column(server: KafkaServer, found: list[Stored]) -> dict[str, int]:
    """Sizes in the log by column, of the same batches."""
    columns = [
        "names",
        *_PART,
        *COLUMNS,
        "sketch ends",
        "sketch buckets",
        "sketch counts",
        "headers, heartbeats",
    ]
    topics = MadeTopics(server)
    bus = KafkaBus(topics.client, topics.prefix)
    for batch in _batches(found):
        out = []
        for one in batch:
            parts = None
            if records.kind_of(one.headers) == records.FRAME:
                parts = frame.decode(one.body).parts
            for number, name in enumerate(columns[:-1]):
                if parts is not None:
                    out.append(Record(IN.name, number, "", {}, _bytes_of(parts, name)))
            body = b"" if parts is not None else one.body
            out.append(Record(IN.name, len(columns) - 1, one.key, one.headers, body))
        bus.append(out)
    bus.close()
    logs = [server.folder / "data" / f"{topics.prefix}{IN.name}-{n}" for n in range(len(columns))]
    return {
        name: sum(file.stat().st_size for file in log.glob("*.log"))
        for name, log in zip(columns, logs, strict=True)
    }


def _bytes_of(parts: Parts, name: str) -> bytes:
    if name == "names":
        return b"".join(bytes((len(one),)) + one.encode() for one in parts.names)
    sketches = {"ends": "end", "buckets": "bucket", "counts": "count"}
    place: Any = parts
    if name in COLUMNS:
        place = parts.aggregates
    elif name.startswith("sketch "):
        place, name = parts.sketches, sketches[name.removeprefix("sketch ")]
    column: bytes = getattr(place, name).tobytes()
    return column
