"""Rollups of sites, cohorts and the fleet: exact, whatever the order, the repetition and the cut of what they are made of (R25)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import shard_of
from headwater_shared.records import RegistryChange
from headwater_shared.topics import IN
from tests.cloud.made import T0, Row, S, clock_record, frame_record
from tests.cloud.rollups import assert_rollups, found
from tests.cloud.side import Side, in_memory
from tests.cloud.test_merge import OPENERS, Reading, cut, revisions_of

SHARDS = (shard_of("s1"), shard_of("s2"))
COHORTS = {"s1/d1": "pump-a", "s2/d9": "pump-a", "s1/d2": "CR 32/2"}

readings = st.lists(
    st.tuples(
        st.sampled_from(("s1/d1/temp", "s1/d2/temp", "s1/d3/temp", "s1/d1/flow", "s2/d9/temp")),
        st.sampled_from((0, 1, S, 9 * S, 10 * S, 59 * S, 60 * S)).map(lambda at: T0 + at),
        st.sampled_from((0.0, -0.0, 1.5, -2.25, 20.1, 20.2, 1e-300, -1e12, 1e6, 0.1)),
    ),
    min_size=1,
    max_size=14,
    unique_by=lambda reading: (reading[0], reading[1], reading[2] or 0.0),
)
openers = st.lists(st.sampled_from(OPENERS), min_size=14, max_size=14)

SOME = settings(max_examples=max(25, settings().max_examples - 75))


@contextmanager
def new_side(batch: int = 200) -> Iterator[Side]:
    with in_memory() as folder:
        made = Side(folder, batch=batch)
        made.clock.wall_us = T0
        yield made
        made.close()


def registered(device: str, cohort: str) -> Record:
    headers = records.headers(records.REGISTRY, f"registry/{device}", "test", T0)
    body = records.encode(RegistryChange(device, T0, cohort=cohort))
    return Record(IN.name, shard_of(device.partition("/")[0]), device, headers, body)


def settle(side: Side) -> None:
    """Let time pass until nothing is left to roll up."""
    for _ in range(2):
        side.clock.advance(11)
        side.put(*(clock_record(shard, side.clock.wall_us) for shard in SHARDS))
        side.run()


@SOME
@given(readings, openers, st.randoms(use_true_random=False), st.integers(1, 9))
def test_r25_rollups_are_what_their_windows_add_up_to(
    some: list[Reading], opened: list[tuple[str, int, int]], chance: random.Random, batch: int
) -> None:
    """Any order, repetition and cut of the same parts and clocks, with starts between them: the same rollups."""
    rows: list[Row] = revisions_of(some, opened)
    again = [*rows, *chance.choices(rows, k=chance.randint(0, len(rows)))]
    chance.shuffle(again)
    with new_side(batch) as side:
        side.take(*(registered(device, cohort) for device, cohort in COHORTS.items()))
        for frame in cut(again, chance):
            side.put(frame_record(frame))
            if chance.random() < 0.4:
                side.clock.advance(chance.choice((0.5, 1, 3, 12)))
                side.put(
                    *(clock_record(shard, side.clock.wall_us) for shard in SHARDS if chance.random() < 0.8)
                )
            if chance.random() < 0.3:
                side.run()
            if chance.random() < 0.1:
                side.reopen()
        side.run()
        settle(side)
        assert_rollups(side, lambda device: COHORTS.get(device, ""))
        assert found(side)
