"""Histories that come a day late or twice, under clocks that are doubled, delayed or missing: the same windows, on both runners."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import shard_of
from tests.cloud.made import SHARD, Agent, clock_record, row
from tests.cloud.on_pieces import PieceSide
from tests.cloud.side import Side, in_memory, windows_of

SHARDS = (SHARD, shard_of("s2"))
SERIES = ("s1/d1/temp", "s2/d1/temp")
DAY_S = 86_400.0

Runner = Callable[[Path], Side | PieceSide]
both = pytest.mark.parametrize("runner", [Side, PieceSide], ids=["local", "pieces"])


def history(agent: Agent, seconds: int = 60) -> list[Record]:
    """Windows of both shards, each revised once, with heartbeats between them."""
    sent = []
    for n in range(0, seconds, 5):
        for series in SERIES:
            for revision in range(2):
                values = [float(n)] * (revision + 1)
                opened = (agent.name, agent.epoch, n)
                sent.append(agent.frame(row(n, *values, series=series, opened=opened, revision=revision)))
                sent.append(
                    agent.frame(row(n, *values, series=series, opened=opened, revision=revision, level="1m"))
                )
        sent += [agent.heartbeat(float(n), shard=shard) for shard in SHARDS]
    return sent


def run_of(runner: Runner, folder: Path, story: Callable[[Side | PieceSide], None]) -> list[object]:
    """What a story comes to, without rollups: each is as good as its last part, whatever was first."""
    side = runner(folder)
    story(side)
    side.run()
    dead = side.rows("SELECT kind FROM report")
    found = [window for window in windows_of(side) if "+" not in window[0]]
    side.close()
    assert not dead, "nothing is late, nor lacking"
    return found


def undisturbed(runner: Runner, sent: Sequence[Record]) -> list[object]:
    with in_memory() as folder:
        return run_of(runner, folder / "undisturbed", lambda side: side.put(*sent))


def clocks_pass(side: Side | PieceSide, seconds: float) -> None:
    side.clock.advance(seconds)
    side.put(*(clock_record(shard, side.clock.wall_us) for shard in SHARDS))
    side.run()


@both
@pytest.mark.covers("R24", "R31")
@pytest.mark.parametrize("seed", range(4))
def test_r24_clocks_doubled_delayed_and_missing_change_no_window(
    runner: Runner, folder: Path, seed: int
) -> None:
    """Each second's record comes, does not, comes twice, or up to a quarter of a minute late, amid kills: the windows are those without clocks."""
    chance = random.Random(seed)
    sent = history(Agent())

    def story(side: Side | PieceSide) -> None:
        held: list[Record] = []
        for record in sent:
            side.put(record)
            side.clock.advance(0.5)
            held += [clock_record(shard, side.clock.wall_us) for shard in SHARDS] * chance.choice(
                (0, 1, 1, 2)
            )
            if chance.random() < 0.1:
                side.put(*held)
                held.clear()
            if chance.random() < 0.2:
                side.run()
            if chance.random() < 0.05:
                side.kill() if isinstance(side, PieceSide) else side.reopen()

    assert run_of(runner, folder / "disturbed", story) == undisturbed(runner, sent)


@both
@pytest.mark.covers("R28")
def test_r28_an_agent_that_sends_a_day_late_is_counted_in_full(runner: Runner, folder: Path) -> None:
    """One agent is heard in time; a day later, when nothing of it is in memory, another brings the same minutes of the same series: windows hold both."""
    one, other = history(Agent()), history(Agent("a2", epoch=7))

    def story(side: Side | PieceSide) -> None:
        side.put(*one)
        side.run()
        for _ in range(24):
            clocks_pass(side, DAY_S / 24)
        if isinstance(side, PieceSide):
            assert side.rows_in_memory() == 0
        for record in other:
            side.put(record)
            clocks_pass(side, 1)

    assert run_of(runner, folder / "late", story) == undisturbed(runner, [*one, *other])


@both
@pytest.mark.covers("R23")
def test_r23_the_same_history_twice_counts_once(runner: Runner, folder: Path) -> None:
    """All of it again, at once or a day later, in another order, with a kill between: every row is known."""
    sent = history(Agent())
    frames = sum(records.kind_of(one.headers) == records.FRAME for one in sent)

    def story(side: Side | PieceSide) -> None:
        side.put(*sent)
        side.run()
        for days in range(2):
            side.kill() if isinstance(side, PieceSide) else side.reopen()
            clocks_pass(side, days * DAY_S + 1)
            side.put(*random.Random(days).sample(sent, len(sent)))
            side.run()
            if isinstance(side, PieceSide):
                assert side.counts["repeats"] == (days + 1) * frames

    assert run_of(runner, folder / "twice", story) == undisturbed(runner, sent)
