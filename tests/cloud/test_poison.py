"""A record that breaks the operators becomes a dead letter, alone, and nothing that came with it is lost or counts twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headwater_cloud import merge, pipeline
from headwater_cloud.merge import Merged
from headwater_shared.identity import is_rollup, shard_of
from headwater_shared.topics import DEAD_LETTERS
from tests.cloud.made import SHARD, T0, Agent, S, row
from tests.cloud.side import Side, windows_of

BAD = 666.0
"""A value that the operators break at."""


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge breaks half-way, when the shards have changed, at a part that holds a value."""
    whole: Callable[..., Merged] = merge.merge

    def breaks(*what: object) -> Merged:
        merged = whole(*what)
        if (merged.parts.aggregates.max == BAD).any():
            raise RuntimeError("a bad day")
        return merged

    monkeypatch.setattr(pipeline, "merge", breaks)


def counted(side: Side) -> list[tuple[str, int]]:
    """Series and count of each window that is no rollup."""
    found = [(name, count) for name, _, _, _, _, _, _, _, count, *_ in windows_of(side)]
    return [one for one in found if not is_rollup(one[0])]


@pytest.mark.covers("R20")
@pytest.mark.usefixtures("broken")
def test_r20_a_record_that_breaks_the_operators_is_a_dead_letter_alone(side: Side) -> None:
    """Amid a batch of two shards: what came before and after it, and a heartbeat that waits for a commit, are taken once; it takes
    its seq, so that its agent goes on.
    """
    agent, other = Agent(), Agent("a2")
    side.take(agent.frame(row(1, 1.0)))
    side.put(agent.heartbeat(20.0))
    assert side.runner.step(), "the heartbeat waits in memory"
    sent = [agent.frame(row(n, float(n), opened=("a1", 1, n))) for n in range(2, 5)]
    poison = agent.frame(row(6, BAD, opened=("a1", 1, 6)))
    after = agent.frame(row(7, 1.0, opened=("a1", 1, 7)))
    elsewhere = [other.frame(row(n, 1.0, opened=("a2", 1, n), series="s2/d1/temp")) for n in range(3)]
    side.take(*sent[:1], elsewhere[0], *sent[1:], poison, elsewhere[1], after, elsewhere[2])
    assert counted(side) == [("s1/d1/temp", 5), ("s2/d1/temp", 3)]
    (letter,) = side.topic(DEAD_LETTERS)
    assert (letter.headers["reason"], letter.headers["text"]) == ("poison", "RuntimeError: a bad day")
    assert letter.body == poison.body
    assert side.haves() == {("a1", 1, SHARD): [1, 6], ("a2", 1, shard_of("s2")): [1, 3]}
    assert side.rows("SELECT complete_us FROM progress WHERE agent = 'a1'") == [(T0 + 20 * S,)]
    side.reopen()
    side.take(poison, agent.frame(row(8, 1.0, opened=("a1", 1, 8))))
    assert counted(side)[0] == ("s1/d1/temp", 6)
    assert len(side.topic(DEAD_LETTERS)) == 1


@pytest.mark.covers("R20")
def test_r20_an_error_that_is_no_records_fault_makes_no_dead_letter(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out while a batch is taken in: the process ends, and the next one takes the same records."""
    sent = [Agent(f"a{n}").frame(row(1, 1.0, opened=(f"a{n}", 1, 1))) for n in range(3)]

    def out_of_memory(*_: object) -> Merged:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "merge", out_of_memory)
        side.put(*sent)
        with pytest.raises(MemoryError):
            side.runner.step()
        side.drop()
    side.open()
    side.run()
    assert counted(side) == [("s1/d1/temp", 3)]
    assert not side.topic(DEAD_LETTERS)
