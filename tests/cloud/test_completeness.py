"""Up to when windows are complete: what heartbeats say, once every seq before them is there (R23)."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from headwater_cloud import completeness, dedupe
from headwater_cloud.completeness import Agents
from headwater_cloud.consume import Arrived
from headwater_cloud.dedupe import Epochs
from headwater_cloud.outputs import DeadLetter
from headwater_shared.bus import Stored
from headwater_shared.identity import shard_of
from headwater_shared.records import Heartbeat, Predecessor
from tests.cloud.made import SHARD, T0, Agent, S, row
from tests.cloud.side import Side


def complete(side: Side, shard: int = SHARD) -> float | None:
    """Up to how many seconds after T0 the agent's windows are complete; None while nothing is known."""
    with side.history() as history:
        found = [progress for progress in history.progress() if progress.shard == shard]
    return (found[0].complete_us - T0) / S if found and found[0].complete_us else None


def test_r23_a_heartbeat_takes_effect_when_every_seq_up_to_its_last_is_there(side: Side) -> None:
    """An anomaly lane overtook the frames that the heartbeat covers: it waits for the last of them, over a start too."""
    agent = Agent()
    first, second, third = (agent.frame(row(10 * n, 1.0)) for n in range(3))
    beat = agent.heartbeat(30)
    side.take(third, beat)
    assert complete(side) is None
    side.take(first)
    assert complete(side) is None
    side.reopen()
    side.take(second)
    assert complete(side) == 30


def test_r23_a_heartbeat_waits_only_for_what_it_covers(side: Side) -> None:
    """What comes after its last seq may be missing."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)), agent.heartbeat(10))
    sent = [agent.frame(row(10 * n, 1.0)) for n in range(2)]
    side.take(sent[1], agent.heartbeat(20, last_seq=1))
    assert complete(side) == 20
    side.take(agent.heartbeat(30))
    assert complete(side) == 20
    side.take(sent[0])
    assert complete(side) == 30


def test_r23_an_older_heartbeat_that_comes_later_sets_nothing_back(side: Side) -> None:
    """Completeness only grows."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)), agent.heartbeat(30))
    side.take(agent.heartbeat(20))
    assert complete(side) == 30


def test_r23_the_epochs_before_must_be_there_up_to_their_ends(side: Side) -> None:
    """The new epoch is whole, but rows of the epoch before it are still in the outbox: its heartbeat waits for them."""
    agent = Agent()
    old = [agent.frame(row(10 * n, 1.0, opened=("a1", 1, n + 1))) for n in range(3)]
    agent.restart(2)
    side.take(*old[:2], agent.frame(row(0, 5.0, opened=("a1", 2, 1))), agent.heartbeat(60))
    assert complete(side) is None
    agent.restart(3)
    side.take(agent.heartbeat(70))
    assert complete(side) is None, "two epochs later as well"
    side.take(old[2])
    assert complete(side) == 70


def test_r23_an_epoch_does_not_wait_for_those_that_followed_it(side: Side) -> None:
    """A heartbeat of the old epoch that comes late takes effect whatever is missing of the new one."""
    agent = Agent()
    old, beat = agent.frame(row(0, 1.0)), agent.heartbeat(10)
    agent.restart(2)
    new = [agent.frame(row(10 * n, 1.0, opened=("a1", 2, n))) for n in range(3)]
    side.take(new[0], new[2], old, beat)
    assert complete(side) == 10


def test_r23_shards_are_complete_each_by_itself(side: Side) -> None:
    """What is missing in one shard holds up no other."""
    agent, other = Agent(), shard_of("s2")
    lost = agent.frame(row(0, 1.0, series="s2/d1/temp"))
    side.take(agent.frame(row(0, 1.0)), agent.heartbeat(10), agent.heartbeat(10, shard=other))
    assert (complete(side), complete(side, other)) == (10, None)
    side.take(lost)
    assert complete(side, other) == 10


def silent(side: Side) -> list[str]:
    with side.history() as history:
        return [progress.agent for progress in history.progress() if progress.silent]


def test_a_silent_agent_is_no_longer_waited_for(side: Side) -> None:
    """After `silent_after` of the shard's clock without a row or a heartbeat; the next one ends it."""
    one, other = Agent("a1"), Agent("a2")
    side.put_clock(SHARD)
    side.take(one.frame(row(0, 1.0)), other.heartbeat(0))
    side.put_clock(seconds=200)
    side.take(other.heartbeat(0))
    side.put_clock(seconds=200)
    side.run()
    assert silent(side) == ["a1"]
    side.reopen()
    side.take(one.heartbeat(0))
    assert silent(side) == []


def test_r24_an_agent_that_was_heard_before_the_first_clock_falls_silent_too(side: Side) -> None:
    """Its silence begins with the first clock record: a log may be older than the cloud side that reads it."""
    side.take(Agent().frame(row(0, 1.0)))
    side.put_clock()
    side.run()
    assert silent(side) == []
    side.put_clock(seconds=301)
    side.run()
    assert silent(side) == ["a1"]


def test_heartbeats_that_wait_are_bounded(side: Side) -> None:
    """A gap that never closes keeps a bounded number; when it closes after all, the newest of them counts."""
    agent = Agent()
    lost = agent.frame(row(0, 1.0))
    for n in range(10):
        side.take(*(agent.heartbeat(n * 100 + k) for k in range(100)))
    ((waiting,),) = side.rows("SELECT waiting FROM progress")
    assert waiting <= 64
    side.take(lost)
    assert complete(side) == 999


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False), st.data())
def test_r23_completeness_is_never_said_before_all_of_it_is_there(
    lengths: list[int], chance: random.Random, data: st.DataObject
) -> None:
    """Epochs of an agent, rows and heartbeats in any order and cut: what has effect is covered by what has come, and in
    the end all of it has.
    """
    todo: list[tuple[int, int] | Heartbeat] = []
    for epoch, length in enumerate(lengths, 1):
        before = Predecessor(epoch - 1, lengths[epoch - 2]) if epoch > 1 else None
        todo += [(epoch, seq) for seq in range(1, length + 1)]
        todo += [Heartbeat("a1", epoch, SHARD, n, before, epoch * 100 + n, 0) for n in range(length + 1)]
    chance.shuffle(todo)
    epochs: Epochs = {}
    agents: Agents = {}
    here: set[tuple[int, int]] = set()
    while todo:
        size = data.draw(st.integers(1, 4))
        batch, todo = todo[:size], todo[size:]
        rows = [_arrived(*one, lengths) for one in batch if not isinstance(one, Heartbeat)]
        beats = [one for one in batch if isinstance(one, Heartbeat)]
        here |= {(row.epoch, row.seq) for row in rows}
        dedupe.step(epochs, SHARD, rows, beats, 0, 60 * S)
        completeness.step(agents, epochs, [row.agent for row in rows], beats, 0, 300 * S)
        epoch, last_seq = divmod(agents["a1"].complete_us, 100)
        assert all((epoch, seq) in here for seq in range(1, last_seq + 1))
        assert all((e, seq) in here for e in range(1, epoch) for seq in range(1, lengths[e - 1] + 1))
    assert agents["a1"].complete_us == len(lengths) * 100 + lengths[-1]
    assert agents["a1"].waiting == []


def _arrived(epoch: int, seq: int, lengths: list[int]) -> Arrived:
    stored = Stored("hw-in", SHARD, 0, 0, "", {}, b"")
    before = Predecessor(epoch - 1, lengths[epoch - 2]) if epoch > 1 and seq == 1 else None
    return Arrived("a1", epoch, seq, seq, DeadLetter("damaged", "", stored), before)
