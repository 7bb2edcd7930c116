"""kill -9 at each step of consume, commit, publish and notify: run again, the same rows, no output lost or twice (R27, R29)."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from headwater_cloud.intervals import holds
from headwater_shared.bus import Record
from headwater_shared.identity import shard_of
from tests.cloud.kills import Steps
from tests.cloud.made import SHARD, Agent, clock_record, row
from tests.cloud.notified import LINES
from tests.cloud.side import FILE, Side, all_of, copied, on_bus

BATCH = 9

STEPS = (
    "cloud.consume", "store.before", "cloud.commit.before", "cloud.commit.after", "store.after", "cloud.publish.before",
    "log.before", "cloud.publish.after", "cloud.notify.read", "cloud.notify.taken", "cloud.notify.sending", "cloud.notify.written",
    "cloud.notify.sent", "cloud.notify.recorded", "cloud.second",
)  # fmt: skip
"""Those that the story must pass, again and again."""

IN_FLIGHT = ("cloud.notify.sending", "cloud.notify.written", "cloud.notify.sent")
"""While a notification is on its way: only what is then may be told again."""


class Undisturbed(NamedTuple):
    """The run without kills."""

    folder: Path
    """The log as the agents left it, before anyone read it."""
    rows: dict[str, list[Any]]
    outputs: dict[str, list[Any]]
    told: list[str]
    passed: list[str]


def story(side: Side) -> Iterator[Record]:
    """Two agents in two shards: revisions, windows of several parts, lanes that overtake each other, repeats, a start, a
    file that went back, a gap, bytes that nobody can read, alerts, heartbeats; and clocks between them.
    """
    one, two = Agent("a1"), Agent("a2", epoch=50)
    sent = [one.frame(row(10 * n, 0.1 * n, 0.2, opened=("a1", 1, n + 1))) for n in range(6)]
    yield from (sent[0], sent[1], one.anomaly("begin", 12), sent[3], sent[5], sent[1])
    yield from _clocks(side, 30)
    for n in range(4):
        at = ("a2", 50, n)
        yield two.frame(row(10 * n, 0.3, series="s2/d1/x", opened=at), row(0, *[0.1] * (n + 1), level="1m", series="s2/d1/x", opened=("a2", 50, 9), revision=n))  # fmt: skip
        yield two.frame(row(10 * n + 1, 0.7, 1e9, opened=at))
        yield two.anomaly("begin", n, series="s2/d1/x", rule="r")
        yield two.heartbeat(n * 10, shard=shard_of("s2"))
    yield msgspec.structs.replace(one.frame(row(0, 9.0)), body=b"\xc3\x01no frame")
    yield one.anomaly("end", 14, begin=12)
    yield from _clocks(side, 45)
    one.seqs[SHARD] -= 2
    yield one.frame(row(50, 8.0, opened=("a1", 1, 99)))  # a twin goes on under the same epoch
    one.restart(2)
    yield one.frame(row(3, 5.0, opened=("a1", 2, 1)), row(10, 0.1, 0.2, 0.3, opened=("a1", 1, 2), revision=1))
    yield from (one.heartbeat(20), two.anomaly("end", 9, begin=2, series="s2/d1/x", rule="r"), sent[2])
    yield from _clocks(side, 90)
    yield two.frame(row(0, 7.0, series="s3/d/x", opened=("a2", 50, 70)))
    yield from _clocks(side, 5)


def _clocks(side: Side, seconds: float) -> list[Record]:
    side.clock.advance(seconds)
    return [clock_record(shard, side.clock.wall_us) for shard in (SHARD, shard_of("s2"))]


@pytest.fixture
def undisturbed(folder: Path, steps: Steps) -> Undisturbed:
    """The story told in full, and read in one go."""
    side = Side(folder / "undisturbed", batch=BATCH)
    for one in story(side):
        side.put(one)
    side.drop()
    before = copied(side.folder, folder / "before")
    side.open()
    steps.killed(side.run, side.folder, -1, folder)
    found = Undisturbed(before, all_of(side), on_bus(side), side.told(), list(steps.passed))
    assert {kind for kind, _ in side.reports()} == {"gap", "went-back", "another-body"}
    assert all(found.rows[table] for table in found.rows)
    assert all(found.outputs.values())
    side.drop()
    return found


def assert_the_same(side: Side, wanted: Undisturbed) -> None:
    """The same rows, to the last bit; the same outputs on the bus in the same order; each notification told."""
    found = all_of(side)
    assert {table for table in found if found[table] != wanted.rows[table]} == set()
    assert on_bus(side) == wanted.outputs
    assert {word.rstrip("?") for word in side.told()} == set(wanted.told)


def test_r27_a_kill_at_any_step_changes_nothing(folder: Path, steps: Steps, undisturbed: Undisturbed) -> None:
    """Each step of the whole run, once: what lies on the disk goes on to the same rows, outputs and notifications, and
    never did the bus say that the cloud has what its file had not (R22).
    """
    assert all(undisturbed.passed.count(name) > 2 for name in STEPS)
    for at, name in enumerate(undisturbed.passed):
        here = copied(undisturbed.folder, folder / f"{at}")
        side = Side(here, batch=BATCH)
        left = steps.killed(side.run, here, at, folder / f"{at}-killed")
        side.drop()
        assert left is not None, f"step {at} ({name}) was never reached again"
        side.folder = left
        side.open()
        had = {
            (*at, n): state.intervals
            for n, shard in side.store.load_shards().items()
            for at, state in shard.epochs.items()
        }
        assert all(_within(told, had[at]) for at, told in side.haves().items()), (
            f"{name}: more is said than had"
        )
        side.run()
        assert_the_same(side, undisturbed)
        # R29: at most once more, and marked, where the crash may have fallen between sending and recording.
        told = Counter(line["id"] for line in side.lines())
        again = [line["id"] for line in side.lines() if line.get("possible_repeat")]
        assert all(count == 1 or (count == 2 and one in again) for one, count in told.items()), name
        assert not again or name in IN_FLIGHT, f"{name}: nothing was on its way, and something is marked"
        assert len(told) == len(undisturbed.told)
        side.drop()


def _within(some: list[int], intervals: list[int]) -> bool:
    """Whether all seqs of some intervals are in others."""
    return all(
        holds(intervals, seq)
        for first, last in zip(some[::2], some[1::2], strict=True)
        for seq in range(first, last + 1)
    )


def test_r27_killed_at_every_turn_it_still_comes_to_the_end(
    folder: Path, steps: Steps, undisturbed: Undisturbed
) -> None:
    """A process that is killed again and again, each time a few steps further, loses nothing on its way."""
    side = Side(copied(undisturbed.folder, folder / "0"), batch=BATCH)
    deaths = 0
    for at in itertools.count(1):
        left = steps.killed(side.run, side.folder, at, folder / f"{at}")
        side.drop()
        if left is None:
            break
        deaths += 1
        side.folder = left
        side.open()
    side.open()
    assert deaths > 10
    assert_the_same(side, undisturbed)
    side.drop()


def test_r27_a_commit_that_is_torn_is_a_commit_that_was_not(
    folder: Path, steps: Steps, undisturbed: Undisturbed
) -> None:
    """Power is lost while the commit is written: the log of the file ends anywhere between before it and after it."""
    chance = random.Random(1)
    commits = [at for at, name in enumerate(undisturbed.passed) if name == "store.after"]
    for at in commits[1:]:
        side = Side(copied(undisturbed.folder, folder / f"{at}"), batch=BATCH)
        name = FILE + "-wal"
        before, after = folder / f"{at}-before", folder / f"{at}-after"
        assert steps.killed(side.run, side.folder, _before(undisturbed.passed, at), before)
        side.drop()
        side = Side(copied(undisturbed.folder, folder / f"{at}-2"), batch=BATCH)
        assert steps.killed(side.run, side.folder, at, after)
        side.drop()
        shorter, longer = ((folder / name).stat().st_size for folder in (before, after))
        assert longer > shorter
        os.truncate(after / name, chance.randrange(shorter, longer))
        side.folder = after
        side.open()
        side.run()
        assert_the_same(side, undisturbed)
        side.drop()


def _before(passed: list[str], at: int) -> int:
    """The last step before a commit of its own kind."""
    return max(n for n in range(at) if passed[n] == "store.before")


def test_r29_a_line_that_was_torn_is_ended_and_told_again(
    folder: Path, steps: Steps, undisturbed: Undisturbed
) -> None:
    """Killed inside the write of a notification: the half line stays alone, the whole one follows, marked."""
    at = undisturbed.passed.index("cloud.notify.sent")
    side = Side(copied(undisturbed.folder, folder / "0"), batch=BATCH)
    left = steps.killed(side.run, side.folder, at, folder / "killed")
    side.drop()
    assert left is not None
    os.truncate(left / LINES, 30)
    side.folder = left
    side.open()
    side.run()
    half, *lines = (left / LINES).read_bytes().splitlines()
    assert len(half) == 30
    whole = [msgspec.json.decode(line) for line in lines]
    assert whole[0]["possible_repeat"] is True
    assert Counter(line["state"] for line in whole) == Counter(undisturbed.told)
    side.drop()
