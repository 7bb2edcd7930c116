"""An engine's shards over pieces of state play a trace, without Kafka: in batches, or killed between the sink and the commit."""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path

from headwater_shared.bus import Stored
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import Topic
from tests.cloud.on_pieces import Death, PieceSide
from tests.cloud.side import FILE, LOG
from tests.golden import outcome
from tests.golden.outcome import Outcome
from tests.golden.trace import Trace

_DEATHS: tuple[Death, ...] = ("before", "after", "", "", "")


def play(trace: Trace, folder: Path, batch: int, seed: int | None = None) -> Outcome:
    """Take in a trace with batches of at most so many records; with a `seed` the process dies now and then."""
    side = PieceSide(folder / "pieces", batch, second=True)
    side.log.close()
    now = 0
    side.log = SqliteLog(side.folder / LOG, wall=lambda: now)
    chance = random.Random(seed)
    for act in trace.acts:
        for now, some in groupby(act, key=lambda one: one.time_us):  # noqa: B007 - the log's clock
            side.put(*(one.record() for one in some))
        while side.step(dies=chance.choice(_DEATHS) if seed is not None else ""):
            if seed is not None and chance.random() < 0.2:
                side.kill()
    side.close()

    def topic(which: Topic) -> list[Stored]:
        records = [one for one in side.records if one.topic == which.name]
        return [
            Stored(one.topic, one.partition, n, 0, one.key, one.headers, one.body)
            for n, one in enumerate(records)
        ]

    patient = trace.outcome.gaps is not None
    return outcome.read(side.folder / FILE, topic, patient=patient, keeps_parts=False)
