"""The Quix runner on a real Kafka where it goes wrong: a sink that takes nothing, a record that breaks it, partitions that were lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from confluent_kafka import Producer

from headwater_cloud import merge, pipeline, quix_runner
from headwater_cloud.effects import Effects
from headwater_cloud.merge import Merged
from headwater_cloud.names import Names
from headwater_cloud.outputs import revived
from headwater_cloud.pipeline import Limits
from headwater_cloud.quix_engine import Engine
from headwater_cloud.quix_imports import lean
from headwater_cloud.quix_runner import QuixRunner
from headwater_cloud.retention import Keep
from headwater_cloud.shard_run import ShardRun
from headwater_cloud.shared_store import SharedStore
from headwater_cloud.sink import Batch
from headwater_shared import avro, records
from headwater_shared.bus import Record, Stored
from headwater_shared.errors import StartAgain, TryAgain
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.topics import BY_METRIC, DEAD_LETTERS, HAVE, IN, Topic
from tests.cloud.made import DAY, SHARD, T0, Agent, row
from tests.cloud.side import FILE, rows_of
from tests.kafka import MadeTopics
from tests.support import ROOT, until

with lean():
    from quixstreams.internal_producer import InternalProducer


class Refusing(SharedStore):
    """The real file, which takes nothing for so many times as it is told, or takes long."""

    refuses = refuses_to_settle = 0

    def __init__(self, path: Path, keep: Keep) -> None:
        super().__init__(path, keep)
        self.begun, self.goes_on = Event(), Event()
        self.goes_on.set()

    def write(self, batches: Sequence[Batch], names: Names) -> None:
        if batches and self.refuses:
            self.refuses -= 1
            raise TryAgain("not now")
        if batches:
            self.begun.set()
            self.goes_on.wait(60)
        super().write(batches, names)

    def settle(self, found: Sequence[Effects], *, again: bool = False) -> None:
        if found and self.refuses_to_settle:
            self.refuses_to_settle -= 1
            raise TryAgain("not now")
        super().settle(found, again=again)


@dataclass
class Worker:
    """A runner in a folder, in this process."""

    folder: Path
    topics: MadeTopics
    bus: KafkaBus
    commit_s: float = 0.05
    commit_every: int = 500
    store: Refusing = field(init=False)
    runner: QuixRunner = field(init=False)

    def __post_init__(self) -> None:
        keep = Keep({}, 7 * DAY, None)
        self.store = Refusing(self.folder / FILE, keep)
        engine = Engine(
            f"{self.topics.prefix}cloud", 1, str(self.folder / "state"), self.commit_s, self.commit_every
        )
        self.runner = QuixRunner(
            self.topics.client, self.topics.prefix, engine, self.store, lambda us: us, Limits(), keep.parts_us
        )

    def run(self, story: Callable[[], None]) -> None:
        """Run it as long as a story takes."""
        failed: list[BaseException] = []

        def told() -> None:
            try:
                story()
            except BaseException as error:  # noqa: BLE001 - raised below
                failed.append(error)
            self.runner.stop()

        thread = Thread(target=told)
        thread.start()
        self.runner.run()
        thread.join()
        if failed:
            raise failed[0]

    def put(self, *some: Record) -> None:
        self.bus.append(some)

    def topic(self, which: Topic) -> list[Stored]:
        return self.bus.read(which.name, dict.fromkeys(range(which.partitions), 0), 1000)

    def counts(self) -> list[int]:
        return counts_of(self.folder)

    def haves(self) -> list[list[int]]:
        """What the cloud says that it has, each time that it said so."""
        return [records.decode(records.Have, stored.body).intervals for stored in self.topic(HAVE)]


def counts_of(folder: Path) -> list[int]:
    """Counts of the windows of 10 s in a worker's file; none while it is being made."""
    if not (folder / FILE).exists():
        return []
    try:
        rows = rows_of(folder, "SELECT count FROM window WHERE shard >= 0 ORDER BY start, series")
    except sqlite3.OperationalError:
        return []
    return [count for (count,) in rows]


@pytest.fixture
def worker(folder: Path, kafka_topics: MadeTopics) -> Iterator[Worker]:
    bus = KafkaBus(kafka_topics.client, kafka_topics.prefix)
    made = Worker(folder, kafka_topics, bus)
    yield made
    made.store.close()
    bus.close()


@pytest.mark.covers("R27")
def test_r27_what_went_ahead_of_a_sink_that_takes_nothing_is_dropped(worker: Worker) -> None:
    """Records that were worked on are read again once it takes rows, by a memory that does not know them: they count, and their agent hears of it, once."""
    agent = Agent()

    def story() -> None:
        worker.put(agent.frame(row(1, 1.0, 2.0)))
        until(lambda: worker.counts() == [2], 120, "the first frame counts")
        worker.store.refuses = 1
        worker.put(
            agent.frame(row(2, 3.0, opened=("a1", 1, 2))), agent.frame(row(11, 4.0, opened=("a1", 1, 3)))
        )
        until(lambda: worker.counts() == [3, 1], 120, "what was refused counts")
        until(lambda: [1, 3] in worker.haves(), 120, "the agent hears of it")

    worker.run(story)
    assert worker.store.refuses == 0
    assert len(worker.haves()) == len({tuple(have) for have in worker.haves()})


@pytest.mark.covers("R24")
def test_r24_effects_that_the_sink_does_not_take_count_later(worker: Worker) -> None:
    """Kafka has the checkpoint of an alert, and its sink takes nothing for a while: the alert counts later, before anything else is worked on."""
    agent = Agent()

    def story() -> None:
        worker.store.refuses_to_settle = 2
        worker.put(agent.anomaly("begin", 1.0))
        until(lambda: worker.store.refuses_to_settle == 1, 120, "its commit is through")
        assert rows_of(worker.folder, "SELECT count(*) FROM alert") == [(0,)]
        worker.put(agent.frame(row(1, 1.0)))
        until(lambda: worker.counts() == [1], 120, "what comes then counts")
        assert rows_of(worker.folder, "SELECT state FROM alert") == [("firing",)]
        worker.put(agent.anomaly("end", 2.0, begin=1.0))
        until(lambda: rows_of(worker.folder, "SELECT state FROM alert") == [("resolved",)], 120, "it ends")

    worker.run(story)
    assert worker.store.refuses_to_settle == 0
    assert rows_of(worker.folder, "SELECT n, state FROM alert_event ORDER BY n") == [
        (1, "firing"),
        (2, "resolved"),
    ]


@pytest.mark.covers("R24")
@pytest.mark.parametrize("commits", [False, True])
def test_r24_effects_are_those_of_what_kafka_has(
    folder: Path, kafka_topics: MadeTopics, monkeypatch: pytest.MonkeyPatch, *, commits: bool
) -> None:
    """A worker dies before Kafka's commit of an alert, or after it and before that counts. The next one reads what came later in the same checkpoint,
    by which the episode began earlier: it goes by the first alert if Kafka has it, and else it is the only one that was ever made.
    """
    bus, agent = KafkaBus(kafka_topics.client, kafka_topics.prefix), Agent()
    worker = Worker(folder, kafka_topics, bus)
    worker.put(agent.anomaly("begin", 10.0))
    producer = worker.runner._context.producer
    commit = InternalProducer.commit_transaction

    def dies(*what: Any, **more: Any) -> None:
        if commits:
            commit(producer, *what, **more)
        raise StartAgain("it dies")

    monkeypatch.setattr(producer, "commit_transaction", dies)
    with pytest.raises(StartAgain, match="it dies"):
        worker.runner.run()
    worker.store.close()
    assert rows_of(folder, "SELECT count(*) FROM alert") == [(0,)]
    worker.put(agent.anomaly("begin", 5.0))
    again = Worker(folder, kafka_topics, bus, commit_s=60, commit_every=1 if commits else 2)

    def story() -> None:
        begun = T0 + 5_000_000
        until(lambda: (begun,) in rows_of(folder, "SELECT episode_us FROM alert"), 120, "the alert is there")

    again.run(story)
    again.store.close()
    states = rows_of(folder, "SELECT state FROM alert ORDER BY episode_us")
    assert states == [("firing",), ("withdrawn",)][: 1 + commits]
    events = rows_of(
        folder, "SELECT e.what FROM alert_event e JOIN alert a ON a.id = e.alert ORDER BY a.episode_us, e.n"
    )
    assert events == [("firing",), ("firing",), ("withdrawn",)][: 1 + 2 * commits]
    bus.close()


@pytest.mark.covers("R20")
def test_r20_poison_is_a_dead_letter_alone_and_takes_its_seq(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of the input that breaks the operators half-way, and one of a second stage: what is around them counts once."""
    whole: Callable[..., Merged] = merge.merge

    def breaks(*what: object) -> Merged:
        merged = whole(*what)
        if (merged.parts.aggregates.max == 666.0).any():
            raise RuntimeError("a bad day")
        return merged

    monkeypatch.setattr(pipeline, "merge", breaks)
    agent = Agent()
    sent = [agent.frame(row(n, 666.0 if n == 2 else 1.0, opened=("a1", 1, n))) for n in range(5)]
    worker.put(*sent)
    rollup = Agent("b1").frame(row(1, 666.0, series="s1/+/temp"), shard=SHARD)
    worker.put(Record(BY_METRIC.name, 0, rollup.key, rollup.headers, rollup.body))

    def story() -> None:
        until(lambda: [1, 5] in worker.haves() and len(worker.topic(DEAD_LETTERS)) == 2, 60, "all is taken")

    worker.run(story)
    assert worker.counts() == [4]
    letters = worker.topic(DEAD_LETTERS)
    assert sorted(letter.headers["was"] for letter in letters) == ["io.headwater.frame"] * 2
    assert {letter.headers["reason"] for letter in letters} == {"poison"}
    assert {letter.body for letter in letters} == {sent[2].body, rollup.body}


@pytest.mark.covers("R24")
def test_r24_what_was_collected_for_a_partition_that_was_lost_ends_the_worker(worker: Worker) -> None:
    """It was away, the partition was another's, and is its own again: nothing of before is worked on, nor its offset committed."""
    agent = Agent()

    def story() -> None:
        worker.put(agent.frame(row(1, 1.0)))
        until(lambda: worker.counts() == [1], 120, "it works")

    worker.run(story)
    collected = agent.frame(row(2, 1.0, opened=("a1", 1, 2)))
    runner, name = worker.runner, worker.topics.prefix + IN.name
    headers = [(key, text.encode()) for key, text in collected.headers.items()]
    runner.add(collected.body, b"a1", T0 // 1000, headers, name, SHARD, 1)
    held = quix_runner.QuixRunner._store_of
    runner._store_of = lambda at: held(runner, at) or object()  # type: ignore[method-assign]
    with pytest.raises(StartAgain, match="another worker's meanwhile"):
        runner.flush()
    assert worker.counts() == [1]


@pytest.mark.covers("R24")
def test_r24_a_partition_that_was_assigned_anew_is_read_anew(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was another worker's in between, who went on: what is in memory is of before."""
    agent, read = Agent(), []

    class Reading(ShardRun):
        def __init__(self, number: int, *of: Any) -> None:
            super().__init__(number, *of)
            read.append(number)

    monkeypatch.setattr(quix_runner, "ShardRun", Reading)

    def story() -> None:
        for n in range(2):
            worker.put(agent.frame(row(1, 1.0, opened=("a1", 1, n))))
            until(lambda n=n: worker.counts() == [n + 1], 120, "it counts")  # type: ignore[misc]
        assert read == [SHARD]
        anew = object()
        monkeypatch.setattr(worker.runner, "_store_of", lambda _: anew)
        worker.put(agent.frame(row(1, 1.0, opened=("a1", 1, 2))))
        until(lambda: worker.counts() == [3], 120, "it counts")

    worker.run(story)
    assert read == [SHARD, SHARD]


@pytest.mark.covers("R24")
def test_r24_a_shard_that_another_worker_had_meanwhile_goes_on_from_its_state(worker: Worker) -> None:
    """It goes to a second worker, which adds to a window, and comes back: what that one knew is read from Kafka, and the window is all of it."""
    agent, other = Agent(), worker.folder / "other"
    other.mkdir()

    def put(tick: int) -> None:
        worker.put(agent.frame(row(1, 1.0, opened=("a1", 1, tick))))

    def has() -> bool:
        return SHARD in worker.runner.shards()

    def story() -> None:
        put(0)
        until(lambda: worker.counts() == [1], 120, "it counts")
        words = [worker.topics.server.address, worker.topics.prefix, str(other), "2"]
        with subprocess.Popen([sys.executable, "-m", "tests.golden.quix_worker", *words], cwd=ROOT) as second:
            until(lambda: not has(), 120, "the other one has it")
            put(1)
            until(lambda: counts_of(other) == [2], 120, "the other one goes on")
            second.terminate()
        until(has, 120, "it has it again")
        put(2)
        until(lambda: worker.counts() == [3], 120, "it goes on from there")

    worker.run(story)
    assert [1, 3] in worker.haves()


@pytest.mark.covers("R24")
def test_r24_the_ends_of_partitions_are_the_brokers(worker: Worker) -> None:
    """Those of all that are assigned, asked for at once, are what Kafka says of each."""

    def story() -> None:
        worker.put(Agent().frame(row(1, 1.0)))
        until(lambda: worker.counts() == [1], 120, "it counts")
        hasty: Any = worker.runner._stores._recovery_manager._consumer  # type: ignore[union-attr]
        assigned = hasty.assignment()
        assert len(assigned) > 2 * SHARDS
        ours = [one for one in assigned if one.partition == SHARD]

        def alike() -> bool:
            hasty.ends.clear()
            asked = [hasty.get_watermark_offsets(one, timeout=10) for one in ours]
            assert len(hasty.ends) == len(assigned)
            return max(asked)[1] > 1 and asked == [hasty._alone(one, timeout=10) for one in ours]

        until(alike, 30, "nothing is written any more")

    worker.run(story)


@pytest.mark.covers("R24")
def test_r24_a_shards_state_is_read_beyond_a_transaction_that_is_not_ended_yet(worker: Worker) -> None:
    """Kafka says that a commit is done before each partition has its mark, and may have those of the offsets first: who takes the shard over reads
    its changelog to the end of what is written, not of what is known to be committed; and goes on once that transaction is over.
    """
    agent, found = Agent(), []
    other = Producer({**worker.topics.client, "transactional.id": f"{worker.topics.prefix}other"})

    def story() -> None:
        worker.put(agent.frame(row(1, 1.0)))
        until(lambda: worker.counts() == [1], 120, "it counts")
        hasty: Any = worker.runner._stores._recovery_manager._consumer  # type: ignore[union-attr]
        places = [one for one in hasty.assignment() if one.partition == SHARD]
        (state,) = [one for one in places if "changelog" in one.topic and f"{IN.name}-" in one.topic]
        at: list[int] = []
        other.init_transactions(30)
        other.begin_transaction()
        other.produce(state.topic, b"", b"key", SHARD, on_delivery=lambda _, sent: at.append(sent.offset()))
        other.flush(30)
        hasty.ends.clear()
        found.append(hasty.get_watermark_offsets(state, timeout=10)[1] - at[0])

    worker.run(story)
    assert found[0] > 0
    (worker.folder / "second").mkdir()
    second = Worker(worker.folder / "second", worker.topics, worker.bus)

    def goes_on() -> None:
        worker.put(agent.frame(row(1, 2.0, opened=("a1", 1, 2))))
        until(lambda: second.runner._stores.recovery_required, 120, "it reads its state")
        other.abort_transaction(30)
        until(lambda: second.counts() == [2], 120, "it goes on")

    second.run(goes_on)
    second.store.close()


@pytest.mark.covers("R24")
def test_r24_work_on_a_checkpoint_that_was_given_up_goes_nowhere(worker: Worker) -> None:
    """Its sink takes very long, and Quix goes on without it: nothing else begins meanwhile, and what it put out is in no transaction."""

    def story() -> None:
        worker.put(Agent().frame(row(1, 1.0)))
        until(worker.store.begun.is_set, 120, "the sink is at work")
        with pytest.raises(StartAgain, match="is still worked on"):
            worker.runner.flush()
        worker.runner._context._checkpoint = object()  # type: ignore[assignment]
        worker.store.goes_on.set()

    worker.store.goes_on.clear()
    with pytest.raises(StartAgain, match="given up meanwhile"):
        worker.run(story)
    assert worker.haves() == []


@pytest.mark.covers("R23", "R27")
def test_r27_an_upgrade_comes_to_the_dead_letters_of_who_died(
    folder: Path, kafka_topics: MadeTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot read frames dies between its rows and Kafka's commit. The next version reads the same records in smaller cuts, which
    the file is ahead of, and could read them: they are the dead letters that nobody has seen yet, and count once they are replayed.
    """
    bus, agent, known = KafkaBus(kafka_topics.client, kafka_topics.prefix), Agent(), avro.fingerprint
    worker = Worker(folder, kafka_topics, bus, commit_s=60, commit_every=3)
    worker.put(*(agent.frame(row(10 * n, 1.0)) for n in range(3)))
    write = worker.store.write

    def dies(batches: Sequence[Batch], names: Names) -> None:
        write(batches, names)
        if batches:
            raise StartAgain("it dies")

    with monkeypatch.context() as before:
        before.setattr(avro, "fingerprint", lambda name: bytes(8) if name == "frame-1" else known(name))
        worker.store.write = dies  # type: ignore[method-assign]
        with pytest.raises(StartAgain, match="it dies"):
            worker.runner.run()
    assert worker.topic(DEAD_LETTERS) == []
    worker.store.close()
    upgraded = Worker(folder, kafka_topics, bus, commit_every=1)

    def story() -> None:
        until(lambda: len(worker.topic(DEAD_LETTERS)) == 3, 120, "dead letters")
        letters = worker.topic(DEAD_LETTERS)
        assert {letter.headers["reason"] for letter in letters} == {"unknown-version"}
        worker.put(*(again for letter in letters if (again := revived(letter)) is not None))
        until(lambda: worker.counts() == [1, 1, 1], 120, "they count")

    upgraded.run(story)
    upgraded.store.close()
    bus.close()


def test_a_stop_that_comes_while_it_starts_is_heard(worker: Worker) -> None:
    """A supervisor that ends it at once need not kill it: Quix has its signals by then, and does not run yet."""
    consumer, ended, ran_on = worker.runner._app._consumer, Event(), []
    subscribe = consumer.subscribe

    def stopped(*words: Any, **named: Any) -> None:
        worker.runner.stop()
        subscribe(*words, **named)

    def wait() -> None:
        if not ended.wait(20):
            ran_on.append(1)
            worker.runner.stop()

    consumer.subscribe = stopped  # type: ignore[method-assign]
    thread = Thread(target=wait)
    thread.start()
    worker.runner.run()
    ended.set()
    thread.join()
    assert not ran_on
