"""The cloud side as an engine runs it, in one process and without Kafka: shards over pieces of state, rows into the shared file.

What is real: the operators, `ShardRun`, the pieces' bytes, the sink. What stands in: a dictionary a shard for the engine's
state, which is as of the last checkpoint again after a kill, as Kafka's is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Literal

from headwater_cloud.effects import Mark
from headwater_cloud.held import Newest
from headwater_cloud.names import Names
from headwater_cloud.outputs import Why
from headwater_cloud.pipeline import Limits
from headwater_cloud.retention import Keep
from headwater_cloud.rule_records import cut
from headwater_cloud.shard_run import SecondRun, ShardRun
from headwater_cloud.shared_store import SharedStore
from headwater_cloud.sink import At, Batch
from headwater_shared.bus import Record
from headwater_shared.clock import SetClock
from headwater_shared.errors import TryAgain
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN, SECOND
from tests.cloud.made import DAY, clock_record
from tests.cloud.notified import courier_of, deliver
from tests.cloud.side import FILE, LOG, every_partition, rows_of

_CHECKPOINTS = count()
Death = Literal["", "before", "after"]
"""When a worker dies: not, or after the sink and before the commit of its checkpoint, or after that, before its effects are settled."""
LARGEST = 256_000
"""Bytes of a piece (R24)."""


class Kept(dict[str, bytes]):
    """The pieces of one shard."""

    def set(self, name: str, body: bytes) -> None:
        assert len(body) < LARGEST, name
        self[name] = body

    def delete(self, name: str) -> None:
        self.pop(name, None)


class PieceSide:
    """A worker that holds every shard, in a folder; `take` and `kill` by hand."""

    def __init__(
        self, folder: Path, batch: int = 200, limits: Limits | None = None, log: str = LOG, *, second: bool = False
    ) -> None:  # fmt: skip
        """`second`: works on second stages, too, and what shards and they put out is on the log then."""
        folder.mkdir(exist_ok=True)
        self.folder, self.batch, self._limits = folder, batch, limits or Limits()
        self.clock = SetClock()
        self.log = SqliteLog(folder / log, wall=lambda: self.clock.wall_us)
        self.offsets = every_partition()
        self.second: dict[str, dict[int, int]] = {
            topic.name: dict.fromkeys(range(topic.partitions), 0) for topic in SECOND if second
        }
        self.pieces: dict[int | At, Kept] = {}
        """By shard; by topic and partition of a second stage."""
        self.records: list[Record] = []
        self.counts: Counter[str] = Counter()
        self.names: Names
        self.sink: SharedStore
        self._mark: Mark
        self._runs: dict[int, ShardRun]
        self._seconds: dict[At, SecondRun]
        self._known: dict[int, dict[int, Why]] = {}
        self._start()

    def put(self, *some: Record) -> None:
        self.log.append(some)

    def put_clock(self, shard: int, seconds: float) -> None:
        """Let time pass, and append a clock record."""
        self.clock.advance(seconds)
        self.put(clock_record(shard, self.clock.wall_us))

    def rows_in_memory(self) -> int:
        """How many parts are in memory."""
        return sum(run.held.rows_in_memory() for run in self._runs.values())

    def work(self) -> list[Batch]:
        """Run the operators over what came, up to a batch, and no more."""
        self._mark = Mark(f"{next(_CHECKPOINTS)}", self.sink.identity)
        read = self.log.read(IN.name, self.offsets, self.batch)
        batches = []
        for shard in sorted({stored.partition for stored in read}):
            some = [stored for stored in read if stored.partition == shard]
            run = self._runs.get(shard)
            if run is None:
                kept = self.pieces.setdefault(shard, Kept())
                run = ShardRun(shard, kept, self.names, self._newest, 7 * DAY)
                if run.effects is not None:
                    self.sink.settle([run.effects], again=True)
                self._known[shard] = self.sink.decided((IN.name, shard))
                self._runs[shard] = run
            for part in cut(some):
                out = run.take(
                    part, lambda shown_us: shown_us, self._limits, self._known[shard], mark=self._mark
                )
                batches.append(Batch((IN.name, shard), part[-1].offset + 1, run.shard.clock_us, out))
        return batches + [batch for topic in self.second for batch in self._second_stage(topic)]

    def _second_stage(self, topic: str) -> Iterator[Batch]:
        read = self.log.read(topic, self.second[topic], self.batch)
        for partition in sorted({stored.partition for stored in read}):
            some, at = [stored for stored in read if stored.partition == partition], (topic, partition)
            run = self._seconds.get(at)
            if run is None:
                kept = self.pieces.setdefault(at, Kept())
                run = self._seconds[at] = SecondRun(kept, self.names, self._newest, 7 * DAY)
            out = run.take(some)
            yield Batch(at, some[-1].offset + 1, run.clock_us, out)

    def step(self, *, dies: Death = "") -> int:
        """Work on what came, up to a batch, and commit, if it does not die before.

        Raises:
            TryAgain: the sink takes nothing now; the next call begins where this one did.
        """
        before = {shard: Kept(pieces) for shard, pieces in self.pieces.items()}
        batches = self.work()
        try:
            self.sink.write(batches, self.names)
        except TryAgain:
            self.pieces, self._runs, self._seconds = before, {}, {}
            raise
        if dies == "before":
            self.pieces = before
            self.kill()
            return len(batches)
        for one in batches:
            offsets = self.second.get(one.at[0], self.offsets)
            offsets[one.at[1]] = one.offset
            if self.second:
                self.log.append([sent for sent in one.out.records if sent.topic in {IN.name, *self.second}])
            self.records += one.out.records
            self.counts += one.out.counts
        if dies == "after":
            self.kill()
            return len(batches)
        found = [run.effects for run in self._runs.values() if run.effects is not None]
        self.sink.settle([one for one in found if one.mark == self._mark])
        return len(batches)

    def rows(self, query: str, *values: object) -> list[Any]:
        """Ask the shared file, as it is committed."""
        return rows_of(self.folder, query, *values)

    def run(self) -> None:
        while self.step():
            deliver(self.courier)

    def take(self, *some: Record) -> None:
        self.put(*some)
        self.run()

    def hand_over(self, to: PieceSide) -> None:
        """Let another process have the shards, as a rebalance does; this one stays."""
        to.pieces, to.offsets = self.pieces, self.offsets
        self._runs, self._seconds = {}, {}

    def kill(self) -> None:
        """End the process and start the next one."""
        self.courier.close()
        self.sink.close()
        self._start()

    def close(self) -> None:
        self.courier.close()
        self.sink.close()
        self.log.close()

    def _start(self) -> None:
        self._runs, self._seconds = {}, {}
        self.names = Names()
        self._newest = Newest(self.names)
        keep = Keep({}, 7 * DAY, None)
        self.sink = SharedStore(self.folder / FILE, keep)
        self.courier = courier_of(self.folder, self.clock)
        self.courier.begin()
