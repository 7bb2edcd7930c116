"""R20: dead letters keep what could not be taken; a person has it taken again, once, or lets it go; their quota is their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from headwater_edge.dead_letters import Letter, latest
from headwater_edge.letter_office import LetterOffice
from headwater_edge.store import read_store
from tests.edge.running import FILE, LOG, Publish, Running, as_after_a_kill, edge_settings, running
from tests.edge.test_agent import check, reading
from tests.support import until_async

TOPIC = "hw/s1/d1/data/temp"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def letters(folder: Path) -> list[Letter]:
    reader = read_store(folder / FILE)
    try:
        return latest(reader, -1)
    finally:
        reader.close()


def office(box: Running) -> LetterOffice:
    return LetterOffice(box.agent, box.folder / FILE)


async def _hour(box: Running) -> None:
    """Two readings an hour ago that left the journal, and one now."""
    for at in (0, 20, 3600):
        await box.publish(reading(at, 1.0))
        box.clock.advance(600)
    for more in range(1, 4):  # rows go once a second at most; the chores are run by hand
        box.agent.keeping.snapshots = [box.agent.committed] * 2
        chores = box.agent.keeping.old_journal(box.agent.horizon, box.agent.state.age_us, 60_000_000)
        box.agent._writer.take_along(chores, now=True)
        await box.publish(reading(3600 + more, 1.0))


def test_r04_r20_what_is_beyond_the_horizon_is_kept_and_counts_when_a_person_says_so(tmp_path: Path) -> None:
    """Only the readings that were not taken count, once, at the time they were measured; a second replay finds nothing."""

    async def test() -> None:
        settings = edge_settings(windows={"horizon": "1m"})
        async with running(tmp_path, settings) as box:
            await _hour(box)
            late = b'[{"t":1800000010,"v":7.5},{"t":1800001000,"v":8.5}]'  # within what was covered, and in a gap
            await box.publish(Publish(TOPIC, late))
            (letter,) = letters(tmp_path)
            assert (letter.reason, letter.topic, letter.body) == ("beyond-horizon", TOPIC.encode(), late)
            assert letter.readings == [("s1/d1/temp", 1_800_000_010_000_000, 7.5)]
            assert (box.agent.letters.letters, box.agent.letters.size) == (1, len(late) + len(TOPIC))
            assert await office(box).replay([(letter.tick, letter.n)]) == (1, [])
            assert letters(tmp_path) == []
            assert (box.agent.letters.letters, box.agent.letters.size) == (0, 0)
            assert await office(box).replay([(letter.tick, letter.n)]) == (0, [])
            await box.agent.flush()
            await box.forwarded()
            assert box.agent.state.counters.accepted == 8
        heard = [(at, 1.0) for at in (0, 20, 3600, 3601, 3602, 3603)]
        check(tmp_path / LOG, *heard, (10, 7.5), (1000, 8.5))

    run(test())


def test_r20_replay_takes_only_what_was_not_taken(tmp_path: Path) -> None:
    """Of a message that was taken in part, the part that counted does not count again, though it has no time to be told by."""

    async def test() -> None:
        async with running(tmp_path, edge_settings(max_series=1)) as box:
            await box.publish(Publish("hw/s1/d1/data", b'{"temp":1.5,"flow":2.5}'))
            (letter,) = letters(tmp_path)
            assert letter.reason == "too-many-series"
            taken, (why,) = await office(box).replay([(letter.tick, letter.n)])
            assert taken == 0
            assert "edge.max_series" in why
        async with running(tmp_path) as box:
            assert await office(box).replay([(letter.tick, letter.n)]) == (1, [])
            counters = box.agent.state.counters
            assert (counters.accepted, box.agent.state.names) == (2, ["s1/d1/temp", "s1/d1/flow"])
        assert letters(tmp_path) == []

    run(test())


def test_r20_a_letter_that_still_cannot_be_read_stays(tmp_path: Path) -> None:
    """And says why; others of the same word go on."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.publish(Publish(TOPIC, b"what?"), Publish("nowhere", b"5"))
            ids = [(letter.tick, letter.n) for letter in letters(tmp_path)]
            taken, refused = await office(box).replay(ids)
            assert (taken, len(refused), len(letters(tmp_path))) == (0, 2, 2)
            assert await office(box).purge(ids[:1]) == 1
            assert [(letter.tick, letter.n) for letter in letters(tmp_path)] == ids[1:]

    run(test())


@pytest.mark.parametrize("committed", [False, True])
def test_r20_a_kill_while_a_letter_is_taken_again(tmp_path: Path, committed: bool) -> None:
    """Either the letter is there and did not count, or it counted and is gone: the file never holds both or none."""
    (tmp_path / "first").mkdir()

    async def test() -> None:
        first, name = tmp_path / "first", "hw/s1/d2/data"
        async with running(first, edge_settings(max_series=1)) as box:
            await box.publish(reading(0, 1.0), Publish(name, b'{"temp":3.0}'))
        (letter,) = letters(first)
        async with running(first) as box:
            if committed:
                await office(box).replay([(letter.tick, letter.n)])
            copy = as_after_a_kill(first, tmp_path / "second")
        async with running(copy) as box:
            there = letters(copy)
            assert (len(there), box.agent.state.counters.accepted) == ((0, 2) if committed else (1, 1))
            assert await office(box).replay([(letter.tick, letter.n)]) == (0 if committed else 1, [])
            assert box.agent.state.counters.accepted == 2

    run(test())


def test_r20_two_replays_at_once_take_a_letter_once(tmp_path: Path) -> None:
    """The second word finds that the letter is on its way already."""

    async def test() -> None:
        async with running(tmp_path, edge_settings(max_series=1)) as box:
            await box.publish(reading(0, 1.0), Publish("hw/s1/d2/data", b'{"temp":3.0}'))
        (letter,) = letters(tmp_path)
        async with running(tmp_path) as box:
            desk, ids = office(box), [(letter.tick, letter.n)]
            answers = await asyncio.gather(desk.replay(ids), desk.replay(ids))
            assert sorted(answers) == [(0, []), (1, [])]
            assert box.agent.state.counters.accepted == 2

    run(test())


def test_r20_when_the_quota_is_full_nothing_more_is_acknowledged_that_cannot_be_kept(tmp_path: Path) -> None:
    """The message is no dead letter, its connection ends, its resend is no duplicate; good messages beside it count."""

    async def test() -> None:
        async with running(tmp_path, edge_settings(dead_letters="20B")) as box:
            await box.connect(1, "bad")
            await box.connect(2, "good")
            await box.publish(Publish(TOPIC, b"what?", 1))
            assert box.agent.letters.full
            burst = box.source.send(
                Publish(TOPIC, b'{"t":1800000000,"v":1.0}', 2, connection=1),
                Publish(TOPIC, b"unreadable", 3, connection=1),
                Publish(TOPIC, b'{"t":1800000005,"v":2.0}', 1, connection=2),
            )
            await box.acknowledged(burst)
            assert burst.packet_ids == [2, 0, 1]  # nothing is owed for the second
            assert box.source.refused == {1}
            assert len(letters(tmp_path)) == 1
            assert (box.agent.letters.refused, box.agent.state.counters.accepted) == (1, 2)
            (letter,) = letters(tmp_path)
            await office(box).purge([(letter.tick, letter.n)])
            await box.connect(3, "bad")
            await box.publish(Publish(TOPIC, b"unreadable", 3, dup=True, connection=3))
            assert [letter.body for letter in letters(tmp_path)] == [
                b"unreadable"
            ]  # kept now: it was never taken
            await box.agent.flush()
            await box.forwarded()
        check(tmp_path / LOG, (0, 1.0), (5, 2.0))

    run(test())


def test_the_quota_counts_what_a_former_run_kept(tmp_path: Path) -> None:
    """A restart forgets no letter."""

    async def test() -> None:
        async with running(tmp_path, edge_settings(dead_letters="1KB")) as box:
            await box.publish(Publish(TOPIC, b"x" * 990))
        async with running(tmp_path, edge_settings(dead_letters="1KB")) as box:
            assert box.agent.letters.full
            await until_async(lambda: box.agent.letters.letters == 1)

    run(test())
