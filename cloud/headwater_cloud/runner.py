"""The local runner of size S: feeds the operators from the bus, and keeps state, offsets and outputs in one file (R27).

Tests call `step` by hand; the loop around it is in `__main__`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from headwater_cloud import clock_records, notify, pipeline, retention
from headwater_cloud.book import Book, Maintenance
from headwater_cloud.lookup import Lookup
from headwater_cloud.metrics import Metrics
from headwater_cloud.outputs import Why
from headwater_cloud.pipeline import Limits, Output
from headwater_cloud.poison import NOT_OF_A_RECORD, note, text_of
from headwater_cloud.publish import Publisher
from headwater_cloud.registry_copies import RegistryCopies
from headwater_cloud.retention import Keep
from headwater_cloud.rule_records import up_to_rules
from headwater_cloud.rules_copies import RulesCopies
from headwater_cloud.second_state import SecondState
from headwater_cloud.shard import Shard
from headwater_cloud.store import Store
from headwater_cloud.traced import Laps
from headwater_cloud.write import write, write_outputs, write_second
from headwater_shared.bus import Bus, Stored
from headwater_shared.clock import Clock, wall_of
from headwater_shared.crash import reached
from headwater_shared.identity import SHARDS
from headwater_shared.logs import get_logger
from headwater_shared.spread import Spread
from headwater_shared.topics import IN, SECOND

log = get_logger()

GROUP = "cloud"
_MAY_WAIT_S = 2.0
"""Seconds of real time that clocks and heartbeats alone wait for a commit: they are on the bus."""


class Runner:
    """One consumer of all shards. Not for several threads; `close` ends it, a kill at any point loses nothing.

    `told` is called after a commit that has something to tell people: the courier does the telling.
    """

    def __init__(
        self,
        bus: Bus,
        store: Store,
        clock: Clock,
        *,
        batch: int = 200,
        limits: Limits | None = None,
        log_identity: str = "",
        registry_file: Path | None = None,
        spread: Sequence[Spread] = (),
        book: Book | None = None,
        maintenance: Callable[[], tuple[Maintenance, ...]] = tuple,
        monotonic: Callable[[], float] = time.monotonic,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self.metrics = Metrics()
        self._bus, self._store, self._clock, self._told = bus, store, clock, told
        self._batch, self._limits, self._monotonic = batch, limits or Limits(), monotonic
        reached("cloud.opened")
        self._names = store.load_names()
        self._shards = store.load_shards()
        if log_identity:
            self._take_up(log_identity)
            reached("cloud.taken-up")
        self._offsets = dict.fromkeys(range(SHARDS), 0) | store.load_offsets()
        self._committed = dict(self._offsets)
        self._second = {
            topic.name: dict.fromkeys(range(topic.partitions), 0) | store.load_second(topic.name)
            for topic in SECOND
        }
        """Offsets of the second stages' topics, as they are committed."""
        self._second_state = SecondState(store.connection)
        self._lookup = Lookup(store.connection)
        self._publisher = Publisher(bus, store.load_outputs())
        self._registry = RegistryCopies(bus, registry_file, spread)
        self.rules = RulesCopies(bus, clock, book or Book(), maintenance)
        reached("cloud.loaded")
        self._output: Output | None = None
        self._laps = Laps()
        self._commit_at = 0.0
        self._poison: dict[tuple[int, int], str] = {}
        """By partition and offset, how a record broke the operators."""
        self._careful: dict[int, int] = {}
        """By partition, up to where records are taken one by one, for one of them is poison."""

    def shards(self) -> dict[int, Shard]:
        """Return the state of all shards that had input; to look at only."""
        return self._shards

    def follow(self, batch: int, limits: Limits) -> None:
        """Go by other settings from the next step on."""
        self._batch, self._limits = batch, limits

    def step(self) -> int:
        """Read a batch, take it in, commit, publish. Returns how many records were read.

        Raises:
            TryAgain: something does not answer; the next call goes on where this one stopped.
            StartAgain: the process must end, and start from the file.
        """
        self._publish()
        read = 0
        if self._output is None or self._output.can_wait:
            read = self._take()
        if self._output is not None and not (self._output.can_wait and self._monotonic() < self._commit_at):
            self._commit()
            self._publish()
        read += sum(self._take_second(topic) for topic in self._second)
        return read

    def append_clock(self) -> None:
        """Append the clock records: a second apart, by real time."""
        reached("cloud.clock.before")
        clock_records.append(self._bus, self._clock)
        reached("cloud.clock.after")

    def look_at_registry(self) -> None:
        """Copy what the registry has and the shards have not, if it is time to look."""
        self._registry.look(self._shards, range(SHARDS), self._monotonic())

    def look_at_rules(self) -> None:
        """Put the rules of the settings into the shards that go by others."""
        self.rules.look(self._shards, range(SHARDS), self._monotonic())

    def prune(self, keep: Keep) -> int:
        """Delete a chunk of what is no longer kept. Returns how many rows; 0 when nothing is left to delete."""
        if self._output is not None and not self._output.can_wait:
            return 0  # it was merged with rows that must stay until it is written
        now_us = max((shard.clock_us for shard in self._shards.values()), default=0)
        deleted = retention.prune(self._store, self._names, self._lookup, now_us, keep)
        if deleted:
            reached("cloud.pruned")
            retention.shrink(self._store.connection)
        return deleted

    def read_for_good(self) -> None:
        """Tell the bus what it need no longer keep for us."""
        # Also of what nothing is committed yet: a group that is not registered holds nothing back.
        self._bus.read_up_to(GROUP, IN.name, self._committed)
        for topic, offsets in self._second.items():
            self._bus.read_up_to(GROUP, topic, offsets)
        reached("cloud.registered")

    def lag(self) -> int:
        """Records of the input that are on the bus and not yet read.

        Not those of second stages: they are our own, in transactions on Kafka, whose marks would be counted as unread for ever.
        """
        ends = self._bus.ends(IN.name)
        return sum(max(0, ends.get(partition, 0) - offset) for partition, offset in self._offsets.items())

    def close(self) -> None:
        """Commit what waits. The store and the bus are their owner's to close."""
        if self._output is not None:
            self._commit()
        self._publish()
        for topic in self._second:
            while self._take_second(topic):
                pass

    def _take_up(self, log_identity: str) -> None:
        """Note which log is read. One that is another than before, or went back, is read from its beginning.

        Agents hear in it what is had, in the same commit: a kill must not part the two.
        """
        known, ends = self._store.log_identity(), self._bus.ends(IN.name)
        went_back = any(offset > ends.get(p, 0) for p, offset in self._store.load_offsets().items())
        if known == log_identity and not went_back:
            return
        anew = went_back or known is not None
        with self._store.transaction() as connection:
            self._store.note_log(log_identity, anew=anew)
            if anew:
                write_outputs(connection, pipeline.all_haves(self._shards), self._store.producer)
        if anew:
            log.warning(
                "the log went back, or is another one: it is read from its beginning, nothing counts twice"
            )

    def _take(self) -> int:
        batch = up_to_rules(self._bus.read(IN.name, self._offsets, 1 if self._careful else self._batch))
        if not batch:
            return 0
        at = (batch[0].partition, batch[0].offset)
        known = {at[1]: Why("poison", self._poison[at])} if at in self._poison else None
        self._laps.read()
        try:
            out = pipeline.run(
                self._shards, self._names, self._lookup, batch,
                lambda shown_us: wall_of(self._clock, shown_us), self._limits, known,
            )  # fmt: skip
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:
            if known:
                raise  # not by what it holds
            self._go_back(batch, error)
            return len(batch)
        for stored in batch:
            self._offsets[stored.partition] = stored.offset + 1
        if self._careful:
            self._careful = {p: end for p, end in self._careful.items() if self._offsets[p] < end}
        if self._output is None:
            self._commit_at = self._monotonic() + _MAY_WAIT_S
        else:
            out.after(self._output)
        self._output = out
        self._laps.ran()
        reached("cloud.consume")
        self.metrics.records.inc(len(batch))
        self.metrics.count(out.counts)
        return len(batch)

    def _go_back(self, batch: Sequence[Stored], error: Exception) -> None:
        """A record broke the operators: memory, which it may have changed half, is made anew, and what it came with is taken one by one."""
        if len(batch) == 1:
            note(error, batch[0])
            self._poison[batch[0].partition, batch[0].offset] = text_of(error)
        else:
            log.error("the operators failed: record by record", error=text_of(error))
        for stored in batch:
            self._careful[stored.partition] = max(self._careful.get(stored.partition, 0), stored.offset + 1)
        self._names, self._shards = self._store.load_names(), self._store.load_shards()
        self._lookup = Lookup(self._store.connection)
        self._offsets, self._output = dict(self._committed), None

    def _take_second(self, topic: str) -> int:
        """Read a batch of rollups, take it in and commit; after an error the same is read again."""
        batch = self._bus.read(topic, self._second[topic], self._batch)
        for some, out in self._outputs_of(batch) if batch else ():
            reached("cloud.second")
            moved = {stored.partition: stored.offset + 1 for stored in some}
            try:
                self._write(out, {}, {topic: moved})
            except BaseException:
                self._second_state.clear()  # it went ahead
                raise
            self._second[topic].update(moved)
            self._publish()
            self.metrics.records.inc(len(some))
            self.metrics.count(out.counts)
        return len(batch)

    def _outputs_of(self, batch: Sequence[Stored]) -> Iterator[tuple[Sequence[Stored], Output]]:
        """Run the second stage over a batch: at once, or where a record breaks it one by one, each when the one before is written."""
        try:
            out = self._compared(batch)
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a record does
            log.error("the second stage failed: record by record", error=text_of(error))
        else:
            yield batch, out
            return
        for stored in batch:
            try:
                out = self._compared([stored])
            except NOT_OF_A_RECORD:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a record does
                note(error, stored)
                out = pipeline.poisoned(text_of(error), stored)
            yield [stored], out

    def _compared(self, batch: Sequence[Stored]) -> Output:
        try:
            out = pipeline.run_second(self._names, self._lookup, batch, self._second_state.cohorts)
        except BaseException:
            self._second_state.clear()  # what failed may have changed it half
            raise
        out.second = self._second_state.taken()
        return out

    def _commit(self) -> None:
        """Write the output; on a full disk it stays, and the same is tried again."""
        out = self._output
        assert out is not None
        moved = {p: offset for p, offset in self._offsets.items() if offset != self._committed[p]}
        self._laps.commits()
        self._write(out, moved, {})
        self._laps.committed([out])
        self.metrics.committed(
            [(wall_of(self._clock, made_us), of) for made_us, of in out.made], wall_of(self._clock, self._clock.now().wall_us)
        )  # fmt: skip
        self._output = None
        self._committed.update(moved)
        notify.report(out.reports, self.metrics)
        for notification in out.notifications:
            self.metrics.alerts.labels(notification.state).inc()
        if out.notifications:
            notify.say(out.notifications)
            self._told()

    def _write(self, out: Output, moved: dict[int, int], second: dict[str, dict[int, int]]) -> None:
        """Commit what a batch changed, with how far its topics are read."""
        with self.metrics.commit_seconds.time(), self._store.transaction() as connection:
            reached("cloud.commit.begun")
            connection.execute("DELETE FROM output WHERE id <= ?", (self._publisher.published,))
            outputs = write(connection, out, self._names, moved, self._store.producer)
            write_second(connection, second)
            reached("cloud.commit.before")
            reached("cloud.commit.during")
        reached("cloud.commit.after")
        self._names.written()
        if out.merged is not None:
            self._lookup.wrote(out.merged)
        self._publisher.committed(outputs)
        self.metrics.commits.inc()

    def _publish(self) -> None:
        self._publisher.publish()
        self.metrics.outputs.set(len(self._publisher))
