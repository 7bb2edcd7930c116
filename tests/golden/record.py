"""Records a golden trace of a live run: `python -m tests.golden.record FILE --settings headwater.toml --about TEXT`.

What lies on `hw-in` from its beginning on, and what the cloud side made of it, which must have ended: its file is the outcome.
"""

from __future__ import annotations

import argparse
import sqlite3
from contextlib import closing
from pathlib import Path

from headwater_cloud.rule_records import EVIDENCE
from headwater_cloud.settings import CloudSettings, in_data
from headwater_shared.bus import Bus, Stored
from headwater_shared.buses import opener
from headwater_shared.errors import HeadwaterError, Refused
from headwater_shared.kafka_settings import KafkaSettings
from headwater_shared.peers import FINDING
from headwater_shared.records import kind_of
from headwater_shared.settings import Common, load
from headwater_shared.topics import IN, Topic
from tests.golden import outcome, trace
from tests.golden.trace import Input, Trace

_MOST_BYTES = 300_000
"""It lies in the repository for ever."""


_OF_OURSELVES = (EVIDENCE, FINDING)
"""Kinds of record that shards tell each other: who plays the trace makes them again."""


def recorded(bus: Bus, file: Path, about: str) -> Trace:
    """Read the records of a run that is over, and what it came to.

    Raises:
        Refused: the run is not over, or its beginning is gone.
    """
    found = everything(bus, IN)
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        read = dict(connection.execute('SELECT partition, next FROM "offset"').fetchall())
    behind = [one for one in found if one.offset >= read.get(one.partition, 0)]
    if behind:
        raise Refused(
            f"{len(behind)} of {len(found)} records are not taken in yet",
            hint="end the agents, wait, and end the cloud side",
        )
    first = {one.partition: one.offset for one in reversed(found)}
    if any(first.values()):
        raise Refused("the first records of the run are no longer kept", hint="record it sooner")
    # Partitions one after the other by time, as the SQLite log gives them anyway.
    found.sort(key=lambda one: one.time_us)
    act = [
        Input(one.partition, one.time_us, one.key, dict(one.headers), one.body)
        for one in found
        if kind_of(one.headers) not in _OF_OURSELVES
    ]
    outcome_ = outcome.read(file, lambda topic: everything(bus, topic), patient=False)
    return Trace(about, [act], outcome_)


def everything(bus: Bus, topic: Topic) -> list[Stored]:
    """Read all that is on a topic."""
    return bus.read(topic.name, dict.fromkeys(range(topic.partitions), 0), 2**30)


def main() -> None:
    """Record, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--about", default="")
    asked = parser.parse_args()
    common, cloud = load(asked.settings, "common", Common), load(asked.settings, "cloud", CloudSettings)
    kafka = load(asked.settings, "kafka", KafkaSettings)
    bus = opener(cloud.bus, Path(common.data), kafka)()
    try:
        found = recorded(bus, in_data(common.data, cloud.file), asked.about)
    except HeadwaterError as error:
        raise SystemExit(str(error)) from error
    finally:
        bus.close()
    size = trace.write(asked.file, found)
    print(f"{asked.file}: {len(found.acts[0])} records, {len(found.outcome.windows)} windows, {size:,} bytes")
    if size > _MOST_BYTES:
        print(f"that is much for a repository: more than {_MOST_BYTES:,}")


if __name__ == "__main__":
    main()
