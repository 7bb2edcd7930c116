"""The Quix runner plays a trace on a real Kafka: an act after the other, each by a process's worth of runner, which is stopped after it."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

from headwater_cloud.pipeline import Limits
from headwater_cloud.quix_engine import Engine
from headwater_cloud.quix_runner import QuixRunner
from headwater_cloud.retention import Keep
from headwater_cloud.shared_store import SharedStore
from headwater_shared.bus import Bus
from tests.cloud.made import DAY
from tests.cloud.side import FILE
from tests.golden import on_kafka, outcome
from tests.golden.outcome import Outcome
from tests.golden.trace import Trace
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until


def play(trace: Trace, folder: Path, kafka: KafkaServer) -> Outcome:
    """Take in a trace, with a new runner for each act: what one kept is read back by the next."""
    topics = MadeTopics(kafka)
    on_kafka.keep_times(topics)
    bus = on_kafka.opened(topics)
    keep = Keep({}, 7 * DAY, None)
    engine = Engine(f"{topics.prefix}cloud", 1, str(folder / "state"), commit_s=0.05)
    for act in trace.acts:
        on_kafka.append(topics, act)
        store = SharedStore(folder / FILE, keep)
        runner = QuixRunner(
            topics.client, topics.prefix, engine, store, lambda shown_us: shown_us, Limits(), keep.parts_us
        )
        watching = Thread(target=_stop_when_done, args=(runner, topics, bus))
        watching.start()
        runner.run()
        watching.join()
        store.close()
    patient = trace.outcome.gaps is not None
    found = outcome.read(
        folder / FILE,
        lambda which: on_kafka.topic(bus, which),
        patient=patient,
        keeps_parts=False,
    )
    bus.close()
    topics.delete()
    return found


def _stop_when_done(runner: QuixRunner, topics: MadeTopics, bus: Bus) -> None:
    try:
        for stage in on_kafka.ALL_STAGES:
            wanted = on_kafka.ends(bus, stage)
            until(lambda: on_kafka.committed(topics, stage, wanted), 60, "all is worked on")  # noqa: B023 - at once
    finally:
        runner.stop()
