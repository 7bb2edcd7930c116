"""The runner of sizes M and L: Quix Streams, exactly-once, several processes in a consumer group.

Quix hands over records one by one; they are only collected. At each checkpoint the operators run once over what came, a
shard after the other: rows go to the sink, outputs and state into Kafka's transaction, which ends with the offsets; then
effects that waited in the sink are settled. So what is in memory follows what is committed: after any failure the process
ends, and the next one starts from the state. A sink that cannot take rows now makes Quix read the same records again later;
memory is dropped then, for it went ahead.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any

from headwater_cloud import notify, pipeline
from headwater_cloud.effects import Effects, Mark
from headwater_cloud.held import Newest
from headwater_cloud.metrics import Metrics
from headwater_cloud.names import Names
from headwater_cloud.outputs import Why
from headwater_cloud.pipeline import Limits, Output
from headwater_cloud.poison import NOT_OF_A_RECORD, note, text_of
from headwater_cloud.quix_engine import Engine, application
from headwater_cloud.quix_imports import lean
from headwater_cloud.quix_pieces import QuixPieces
from headwater_cloud.quix_start import hasten
from headwater_cloud.rule_records import cut
from headwater_cloud.shard import Shard
from headwater_cloud.shard_run import SecondRun, ShardRun
from headwater_cloud.sink import At, Batch, Sink
from headwater_cloud.traced import Laps
from headwater_shared.bus import Record, Stored
from headwater_shared.crash import reached
from headwater_shared.errors import StartAgain, TryAgain
from headwater_shared.health import Pulse
from headwater_shared.logs import get_logger
from headwater_shared.sqlite_log import wall_us
from headwater_shared.topics import IN, SECOND

with lean():
    from quixstreams.models.topics.exceptions import (
        CreateTopicFailure,
        CreateTopicTimeout,
        TopicNotFoundError,
    )
    from quixstreams.sinks.base import BaseSink, SinkBackpressureError

log = get_logger()

_AWAY = "this worker was away for too long: it starts again from the state"
_LOOKS, _LOOK_S = 50, 0.2
"""How often the changelog is looked for that Quix has made."""
_RETRY_S = 1.0
"""How long a sink is left in peace that could not take rows."""


class QuixRunner(BaseSink):
    """One process of the group. `run` is its life; `stop` ends it after the current checkpoint."""

    def __init__(
        self, client: Mapping[str, str | int], prefix: str, engine: Engine, sink: Sink,
        wall_of: Callable[[int], int], limits: Limits, keep_us: int,
    ) -> None:  # fmt: skip
        super().__init__(on_client_connect_success=lambda: None)
        self.metrics = Metrics()
        self._prefix, self._sink = prefix, sink
        self._wall_of, self._limits, self._keep_us = wall_of, limits, keep_us
        self._names = Names()
        self._newest = Newest(self._names)
        self._runs: dict[At, tuple[object, ShardRun | SecondRun]] = {}
        self._arrived: dict[At, tuple[object, list[Stored]]] = {}
        """With the partition's store at that time."""
        self._known: dict[At, dict[int, Why]] = {}
        """Dead letters of who had the partition before."""
        self._offsets: dict[At, int] = {}
        self._open: Callable[[], None] = _nothing
        """What is to be said of the open checkpoint once it is committed."""
        self._open_effects: list[Effects] = []
        self._committed: list[Effects] = []
        """Those of checkpoints that are committed, and not yet in the sink."""
        self._working = Lock()
        self.pulse = Pulse()
        self.began = False
        """Whether a checkpoint came: Quix has its partitions."""
        self._app = application(client, engine)
        self._begin = hasten(self._app, client)
        self._streams = {topic.name: self._follow(prefix + topic.name) for topic in (IN, *SECOND)}
        # Each time round: where no shard of ours has input there are no checkpoints.
        self._app._dataframe_registry.register_periodic_task(self.pulse.beat)  # noqa: SLF001 - the engine is pinned to the patch
        self._context = self._app._processing_context  # noqa: SLF001
        self._stores = self._app._state_manager  # noqa: SLF001
        self._stopped_early = False
        self._hear_early_stops()
        self._hear_commits()

    def _hear_early_stops(self) -> None:
        """Let a stop or a signal count that comes while Quix starts: once it has started it would have forgotten it."""
        tracker: Any = self._app._run_tracker  # noqa: SLF001
        started = tracker.set_as_running

        def set_as_running() -> None:
            started()
            if self._app._stop_event.is_set():  # noqa: SLF001
                self._stopped_early = True
                tracker.stop()

        tracker.set_as_running = set_as_running

    def _hear_commits(self) -> None:
        """Let the effects of a checkpoint count as soon as Kafka has committed it; Quix tells nobody."""
        producer: Any = self._context.producer
        commit = producer.commit_transaction

        def commit_transaction(*what: Any, **more: Any) -> None:
            commit(*what, **more)
            reached("quix.committed")
            self._committed += self._open_effects
            self._open_effects = []
            self._open()
            self._open = _nothing
            try:
                self._settle()
            except TryAgain as error:
                log.warning("the sink takes nothing now", error=error)  # the next checkpoint begins with it

        producer.commit_transaction = commit_transaction

    def _settle(self) -> None:
        self._sink.settle(self._committed)
        self._committed = []

    def _follow(self, name: str) -> str:
        """Collect all records of a topic; return the name that Quix has for its stream."""
        topic = self._app.topic(name, value_deserializer="bytes", key_deserializer="bytes")
        frames = self._app.dataframe(topic)
        for left in reversed(range(_LOOKS)):
            try:
                frames.register_store()
                break
            except (CreateTopicFailure, CreateTopicTimeout, TopicNotFoundError):
                # Just made, perhaps by another worker: the broker says so a moment later.
                if not left:
                    raise
                time.sleep(_LOOK_S)
        frames.sink(self)
        stream: str = frames.stream_id
        return stream

    def run(self) -> None:
        """Work until `stop`. Raises whatever ended it: start again from the state."""
        try:
            self._begin()
            self._app.run()
        except Exception:
            if not self._stopped_early:
                raise
            log.info("it was ended before it began")  # and what fails by that leaves nothing behind

    def stop(self) -> None:
        """End after the current checkpoint. May be called by a signal."""
        self._app.stop()

    @property
    def last_turn_s(self) -> float:
        """Seconds since the engine's loop last went round; 0 while it reads state from the changelog, which may take its time."""
        return 0.0 if self._stores.recovery_required else self.pulse.last_turn_s

    def shards(self) -> list[int]:
        """Which shards this process holds now."""
        return sorted(self._stores.get_store(self._streams[IN.name]).partitions)

    def held(self) -> dict[int, Shard]:
        """Return the state of the shards that this process holds, as far as it was read."""
        stores = self._stores.get_store(self._streams[IN.name]).partitions
        return {
            number: run.shard
            for (_, number), (store, run) in list(self._runs.items())
            if isinstance(run, ShardRun) and stores.get(number) is store
        }

    def offsets(self) -> dict[int, int]:
        """How far each shard that this process holds has been worked on, since it was taken over."""
        known = self._offsets
        return {shard: known[IN.name, shard] for shard in self.shards() if (IN.name, shard) in known}

    def add(
        self, value: Any, key: Any, timestamp: int, headers: Any, topic: str, partition: int, offset: int
    ) -> None:
        """Collect a record; Quix's interface."""
        named = {name: body.decode(errors="replace") for name, body in headers or ()}
        text = key.decode(errors="replace") if key else ""
        plain = topic.removeprefix(self._prefix)
        at = (plain, partition)
        if at not in self._arrived:
            self._arrived[at] = self._store_of(at), []
        self._arrived[at][1].append(
            Stored(plain, partition, offset, timestamp * 1000, text, named, value or b"")
        )

    def flush(self) -> None:
        """Work on what came since the last checkpoint; Quix's interface, called first of all when a checkpoint is committed.

        Where partitions are taken away Quix calls it in a thread, which it leaves alone with its work after a minute.
        """
        if not self._working.acquire(blocking=False):
            raise StartAgain("a checkpoint that was given up is still worked on", hint=_AWAY)
        try:
            self._work(self._context.checkpoint)
        finally:
            self._working.release()

    def _work(self, checkpoint: object) -> None:
        self.began = True
        self._open, self._open_effects = _nothing, []  # of a checkpoint that was given up
        arrived, self._arrived = self._arrived, {}
        for at, (store, _) in arrived.items():
            if store is not self._store_of(at):
                raise StartAgain(
                    f"partition {at[1]} of {at[0]} was another worker's meanwhile",
                    hint=_AWAY,
                )
        laps = Laps()
        laps.read()
        mark = Mark(secrets.token_hex(8), self._sink.identity)
        try:
            self._settle()
            batches = [batch for at in sorted(arrived) for batch in self._take(at, arrived[at][1], mark)]
            laps.ran()
            reached("quix.taken")
            laps.commits()
            with self.metrics.commit_seconds.time():
                self._sink.write(batches, self._names)
            reached("quix.written")
        except TryAgain as error:
            log.warning("the sink takes nothing now", error=error)
            self._runs.clear()
            raise SinkBackpressureError(_RETRY_S) from error
        if self._context.checkpoint is not checkpoint:
            raise StartAgain("this checkpoint was given up meanwhile", hint=_AWAY)
        for batch in batches:
            for record in batch.out.records:
                self._produce(record)
        read = sum(len(some) for _, some in arrived.values())
        self._open = partial(self._say, [batch.out for batch in batches], laps, read)
        self._open_effects = [found for at in sorted(arrived) if (found := self._effects_of(at, mark))]
        reached("quix.produced")

    def _say(self, outs: Sequence[Output], laps: Laps, read: int) -> None:
        """Count and log what is committed."""
        now_us = wall_us()
        laps.committed(outs)
        for out in outs:
            self.metrics.count(out.counts)
            self.metrics.committed([(self._wall_of(made_us), of) for made_us, of in out.made], now_us)
            notify.report(out.reports, self.metrics)
        self.metrics.records.inc(read)
        self.metrics.commits.inc()

    def _effects_of(self, at: At, mark: Mark) -> Effects | None:
        run = self._runs[at][1]
        found = run.effects if isinstance(run, ShardRun) else None
        return found if found is not None and found.mark == mark else None

    def _take(self, at: At, some: Sequence[Stored], mark: Mark) -> list[Batch]:
        """Run the operators over what came for a partition, up to new rules and from them on."""
        return [batch for part in cut(some) for batch in self._take_part(at, part, mark)]

    def _take_part(self, at: At, some: Sequence[Stored], mark: Mark) -> list[Batch]:
        """Run the operators over what came for a partition; a record that breaks them becomes a dead letter, alone."""
        try:
            return [self._taken(at, some, mark)]
        except NOT_OF_A_RECORD:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a record does
            log.error(
                "the operators failed: record by record", topic=at[0], partition=at[1], error=text_of(error)
            )
        self._runs.pop(at, None)  # what failed may have changed it half
        found = []
        for stored in some:
            try:
                found.append(self._taken(at, [stored], mark))
            except NOT_OF_A_RECORD:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a record does
                note(error, stored)
                self._runs.pop(at, None)
                found.append(self._taken(at, [stored], mark, text_of(error)))
        return found

    def _taken(self, at: At, some: Sequence[Stored], mark: Mark, poison: str = "") -> Batch:
        run = self._run_of(at, mark)
        known = self._known[at]
        if isinstance(run, ShardRun):
            known = known | {some[0].offset: Why("poison", poison)} if poison else known
            out = run.take(some, self._wall_of, self._limits, known, mark=mark)
        elif poison:
            out = pipeline.poisoned(poison, some[0])
        else:
            out = run.take(some, known)
        self._offsets[at] = some[-1].offset + 1
        return Batch(at, some[-1].offset + 1, run.clock_us, out)

    def _run_of(self, at: At, mark: Mark) -> ShardRun | SecondRun:
        """The partition as it stands at the start of this batch; read from its state if it was assigned since."""
        topic, number = at
        stream, store = self._streams[topic], self._store_of(at)
        known = self._runs.get(at)
        if known is None or known[0] is not store:
            pieces = QuixPieces(lambda: self._context.checkpoint.get_store_transaction(stream, number))
            common = (pieces, self._names, self._newest, self._keep_us)
            known = store, ShardRun(number, *common) if topic == IN.name else SecondRun(*common)
            left = known[1].effects if isinstance(known[1], ShardRun) else None
            # Those of this very checkpoint are there where a record broke the operators in it.
            if left is not None and left.mark != mark:
                self._sink.settle([left], again=True)
            self._runs[at] = known
            self._known[at] = dict(self._sink.decided(at))
        return known[1]

    def _store_of(self, at: At) -> object:
        """The store of a partition: another one each time that it is assigned, None while it is not."""
        return self._stores.get_store(self._streams[at[0]]).partitions.get(at[1])

    def _produce(self, record: Record) -> None:
        self._context.producer.produce(
            topic=self._prefix + record.topic,
            value=record.body,
            key=record.key,
            headers=[(name, text.encode()) for name, text in record.headers.items()],
            partition=record.partition,
        )


def _nothing() -> None:
    pass
