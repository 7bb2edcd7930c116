"""What the cloud has goes back to the agents, which let go of their rows for it (R22)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headwater_cloud import dedupe
from headwater_cloud.consume import Arrived
from headwater_cloud.dedupe import Epochs
from headwater_cloud.intervals import holds
from headwater_cloud.outputs import DeadLetter
from headwater_edge.forward import Forward
from headwater_edge.store import read_store
from headwater_shared.bus import Stored
from headwater_shared.identity import agent_partition, shard_of
from headwater_shared.topics import HAVE
from tests.cloud.made import SHARD, Agent, S, row
from tests.cloud.side import LOG, Side, windows_of
from tests.cloud.test_merge import as_windows
from tests.edge.merged import assert_equal_windows
from tests.edge.running import FILE, Publish, Running, running
from tests.reference import all_windows
from tests.support import until_async

T = 1_800_000_000


def test_a_have_goes_to_the_agents_partition_under_a_key_of_its_own(side: Side) -> None:
    """By agent, epoch and shard: compaction keeps the last word on each, and the intervals say what is missing."""
    one, two = Agent("a1"), Agent("a2", epoch=0xFEED)
    lost = one.frame(row(0, 1.0))
    side.take(one.frame(row(10, 1.0)), two.frame(row(0, 1.0, series="s2/d1/x")))
    side.take(one.frame(row(20, 1.0)), one.frame(row(20, 1.0, series="s2/d1/x")))
    side.take(lost)
    s2 = shard_of("s2")
    assert side.haves() == {("a1", 1, SHARD): [1, 3], ("a1", 1, s2): [1, 1], ("a2", 0xFEED, s2): [1, 1]}
    stored = side.topic(HAVE)
    assert {one.key for one in stored} == {
        f"a1/{1:016x}/{SHARD}", f"a1/{1:016x}/{s2}", f"a2/{0xFEED:016x}/{s2}",
    }  # fmt: skip
    for have in stored:
        assert have.partition == agent_partition(have.key.partition("/")[0], HAVE.partitions)
    before = side.haves()
    side.log.retain(side.clock.wall_us)
    assert len(side.topic(HAVE)) == 3
    assert side.haves() == before


def test_nothing_new_is_nothing_said(side: Side) -> None:
    """Repeats, heartbeats and clocks put no record on the bus."""
    agent = Agent()
    sent = agent.frame(row(0, 1.0))
    side.take(sent)
    side.take(sent, agent.heartbeat(10))
    side.put_clock(seconds=1)
    side.run()
    assert len(side.topic(HAVE)) == 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=40, unique=True), st.integers(1, 4))
def test_r22_a_have_never_says_more_than_is_there_and_all_of_it_once_it_has_joined(
    seqs: list[int], most: int
) -> None:
    """It is cut where thousands of seqs are missing: the rest is said when the gaps before it have closed."""
    epochs: Epochs = {}
    here: set[int] = set()
    bounds, dedupe._HAVE_BOUNDS = dedupe._HAVE_BOUNDS, 2 * most
    try:
        for seq in [*seqs, *random.Random(1).sample(range(1, 41), 40)]:
            out = dedupe.step(epochs, SHARD, [_arrived(seq)], [], 0, 60 * S)
            here.add(seq)
            for have in out.haves:
                said = {n for n in range(1, 42) if holds(have.intervals, n)}
                assert said <= here
                assert len(have.intervals) <= 2 * most
                assert min(here) in said
    finally:
        dedupe._HAVE_BOUNDS = bounds
    assert dedupe.have_of(SHARD, ("a1", 1), epochs["a1", 1]).intervals == [1, 40]


def _arrived(seq: int) -> Arrived:
    stored = Stored("hw-in", SHARD, 0, 0, "", {}, b"")
    return Arrived("a1", 1, seq, seq, DeadLetter("damaged", "", stored), None)


def reading(at: int, value: float) -> Publish:
    return Publish("hw/s1/d1/data/temp", f'{{"t":{T + at},"v":{value}}}'.encode())


def outbox(folder: Path) -> int:
    reader = read_store(folder / FILE)
    try:
        return int(reader.execute("SELECT count(*) FROM outbox").fetchone()[0])
    finally:
        reader.close()


def test_r22_a_real_agent_lets_go_of_what_the_cloud_side_has(folder: Path) -> None:
    """Not when the bus has its rows, but when a commit of the cloud's file has them; then the cloud side may die and
    begin anew from the log, and the windows are those of what was sent.
    """
    edge, cloud = folder / "edge", folder / "cloud"
    edge.mkdir()
    cloud.mkdir()
    sent = [(at, 20.0 + at) for at in (0, 3, 12, 25, 61)]

    async def test() -> None:
        async with running(edge, log=cloud / LOG) as box:
            side = Side(cloud)
            for at, value in sent:
                await box.publish(reading(at, value))
            await box.agent.flush()
            await box.forwarded()
            rows = outbox(edge)
            assert box.agent.forward.pending == rows > 0
            side.runner._take()
            assert side.topic(HAVE) == [], "read, but not committed"
            side.settle()
            await until_async(lambda: _nudged(box).pending == 0, what="all is had")
            side.close()

    asyncio.run(test())
    again = Side(folder / "again", log=str(cloud / LOG))
    again.run()
    wanted = all_windows([("s1/d1/temp", (T + at) * S, value) for at, value in sent])
    assert_equal_windows(as_windows(windows_of(again)), wanted)
    again.close()


def _nudged(box: Running) -> Forward:
    """The agent's way to the bus, told to look now."""
    box.agent.forward.wake(0)
    return box.agent.forward
