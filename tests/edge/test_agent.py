"""The whole agent but for its sockets: file, bus and threads are real, the source is scripted, the clock is set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from headwater_edge import commit, keeping
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.store import read_store
from headwater_edge.ticker import mono_us
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.clock import SetClock
from headwater_shared.identity import agent_partition
from headwater_shared.records import Have
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import HAVE
from tests.edge.merged import Merged, assert_equal_windows
from tests.edge.running import LOG, Publish, as_after_a_kill, edge_settings, full, on_bus, running
from tests.reference import all_windows
from tests.support import until_async

SERIES = "s1/d1/temp"
T0 = 1_800_000_000
"""Event time of the first reading, seconds."""


def reading(at: int, value: float, packet_id: int = 0, *, dup: bool = False) -> Publish:
    """A reading of the test's one series, so many seconds after T0."""
    payload = f'{{"t":{T0 + at},"v":{value}}}'.encode()
    return Publish("hw/s1/d1/data/temp", payload, packet_id, dup)


def run(test: Awaitable[None]) -> None:
    asyncio.run(test)  # type: ignore[arg-type]


def check(log: Path, *sent: tuple[int, float]) -> None:
    """Compare what the bus holds with the windows of readings (seconds after T0, value)."""
    merged = Merged()
    frames, anomalies = on_bus(log)
    rows = [
        *((f.tick, f.shard, f.seq, f) for f in frames),
        *((a.tick, a.shard, a.seq, None) for a in anomalies),
    ]
    epoch_of = {(f.tick, f.seq): f.epoch for f in frames} | {(a.tick, a.seq): a.epoch for a in anomalies}
    for tick, shard, seq, found in sorted(rows, key=lambda row: row[:3]):
        if found is None:
            merged.number(epoch_of[tick, seq], shard, seq)
        else:
            merged.take(found)
    assert_equal_windows(
        merged.windows(), all_windows([(SERIES, (T0 + at) * 1_000_000, v) for at, v in sent])
    )


def rows(folder: Path, query: str) -> list[tuple[object, ...]]:
    reader = read_store(folder / "edge.db")
    try:
        return reader.execute(query).fetchall()
    finally:
        reader.close()


def test_a_reading_goes_all_the_way(tmp_path: Path) -> None:
    """It is acknowledged, its windows are closed by a later one and by flush, and the bus has them."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.publish(reading(0, 1.5), reading(1, 2.5))
            await box.publish(reading(20, 3.5))
            await box.forwarded()
            frames, _ = on_bus(tmp_path / LOG)
            assert [f.parts.aggregates.count.tolist() for f in frames] == [[2]]
            tick = await box.agent.flush()
            assert tick == box.agent.committed == 4
            await box.forwarded()
        check(tmp_path / LOG, (0, 1.5), (1, 2.5), (20, 3.5))

    run(test())


@pytest.mark.parametrize("pictures", [False, True], ids=["from the journal", "from a snapshot"])
def test_a_kill_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, pictures: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill the devices send again what was not acknowledged, with DUP what was: every reading counts once."""
    if pictures:
        monkeypatch.setattr(keeping, "_REPLAY_US", 0)

    (tmp_path / "first").mkdir()

    async def test() -> None:
        sent = [(at, float(at % 7)) for at in range(40)]
        async with running(tmp_path / "first") as first:
            await first.connect(1, "c1")
            first.bus.away = True  # nothing that it does after the copy can be heard
            for n, (at, value) in enumerate(sent[:30], 1):
                await first.publish(reading(at, value, n))
                await until_async(lambda: not first.agent.keeping._picturing)
            assert len(first.agent.keeping.snapshots) == (2 if pictures else 0)
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
        async with running(copy, log=tmp_path / "first" / LOG) as second:
            assert second.agent.state.counters.accepted == 30
            assert await second.connect(1, "c1")  # R13: its session is there
            for n in range(25, 31):
                await second.publish(reading(*sent[n - 1], n, dup=True))
            assert second.agent.state.counters.by_transport == 6
            for n, (at, value) in enumerate(sent[30:], 31):
                await second.publish(reading(at, value, n))
            await second.agent.flush()
            await second.forwarded()
        check(tmp_path / "first" / LOG, *sent)

    run(test())


def test_r06_an_epochs_first_frame_names_its_predecessor(tmp_path: Path) -> None:
    """Each start has a new epoch; its first row in a shard names the one before and that one's last seq, no other does."""

    async def test() -> None:
        for start in range(3):
            async with running(tmp_path) as box:
                for at in (0, 20, 40):
                    await box.publish(reading(start * 100 + at, 1.0))
                await box.forwarded()
        frames, _ = on_bus(tmp_path / LOG)
        epochs = list(dict.fromkeys(f.epoch for f in frames))
        assert len(epochs) == 3
        last: dict[int, int] = {}
        for one in frames:
            before = epochs.index(one.epoch) - 1
            if one.epoch not in last and before >= 0:
                assert one.predecessor == (epochs[before], last[epochs[before]])
                assert set(one.parts.epochs) == {
                    epochs[before]
                }  # R1: sealed at the start, under its old identity
            else:
                assert one.predecessor is None
                assert set(one.parts.epochs) == {one.epoch}
            last[one.epoch] = one.seq
        stored = rows(tmp_path, "SELECT epoch FROM epoch ORDER BY tick")
        assert [int.from_bytes(epoch, "little") for (epoch,) in stored] == epochs  # type: ignore[arg-type]

    run(test())


def test_r05_acknowledgements_come_after_the_commit_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a commit waits nothing is acknowledged, duplicates neither; then all is, in the order of arrival."""
    monkeypatch.setattr(commit, "_AGAIN_S", 0.01)

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.connect(1, "c1")
            await box.publish(reading(0, 0.0, 1))
            before = len(box.source.acknowledged)
            space = full(box)
            large = [reading(1000 + at, at / 3) for at in range(300)]
            bursts = [box.source.send(*large)]
            bursts += [box.source.send(reading(at, 1.0, at + 1)) for at in range(1, 4)]
            bursts.append(box.source.send(reading(0, 0.0, 1, dup=True)))
            await until_async(lambda: box.agent.holding)
            assert len(box.source.acknowledged) == before
            assert box.agent.committed == rows(tmp_path, "SELECT max(tick) FROM journal")[0][0]
            space()
            await box.acknowledged(bursts[-1])
            assert box.source.acknowledged[before:] == bursts
            assert box.agent.state.counters.by_transport == 1

    run(test())


def test_r11_a_full_disk_holds_the_tick_and_tries_it_again_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further tick is stepped meanwhile; the transaction that goes through is the one that was stepped."""
    monkeypatch.setattr(commit, "_AGAIN_S", 0.01)

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.publish(reading(0, 1.0))
            space = full(box)
            held = box.source.send(*[reading(at, at / 3) for at in range(20, 220)])
            later = box.source.send(reading(300, 2.0))
            await until_async(lambda: box.agent.holding)
            assert box.agent.state.tick == box.agent.committed + 1
            space()
            await box.acknowledged(held)
            await box.acknowledged(later)
            assert box.agent.holding == ""
            await box.agent.flush()
            await box.forwarded()
        check(tmp_path / LOG, (0, 1.0), *((at, at / 3) for at in range(20, 220)), (300, 2.0))

    run(test())


def test_r11_another_commit_error_ends_the_agent_without_acknowledging(tmp_path: Path) -> None:
    """Nobody knows what became of the transaction: the process is to start again from the file."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.publish(reading(0, 1.0))
            before = len(box.source.acknowledged)
            box.agent._writer._connection.execute("DROP TABLE journal")
            box.source.send(reading(1, 1.0))
            await until_async(box.agent.failed.done)
            assert "no such table: journal" in str(box.agent.failed.exception())
            assert len(box.source.acknowledged) == before

    run(test())


def test_what_nobody_foresaw_in_the_forwarder_ends_the_agent(tmp_path: Path) -> None:
    """Else it would take readings in for ever, and forward none."""

    async def test() -> None:
        async with running(tmp_path) as box:

            def broken() -> None:
                raise RuntimeError("nobody foresaw this")

            box.agent.forward.once = broken  # type: ignore[method-assign]
            await box.publish(reading(0, 1.0))
            box.agent.forward.wake(0)
            await until_async(box.agent.failed.done)
            assert "nobody foresaw this" in str(box.agent.failed.exception())

    run(test())


@pytest.mark.parametrize(("expiry_s", "present"), [(3600, True), (0, False), (5, False)])
def test_r13_session_present_is_honest_over_a_restart(tmp_path: Path, expiry_s: int, present: bool) -> None:
    """A session lives as long as it was asked to, counted from the start at which its connection was found gone."""

    async def test() -> None:
        clock = SetClock()
        async with running(tmp_path, clock=clock) as box:
            assert not await box.connect(1, "c1", expiry_s=expiry_s)
        async with running(tmp_path, clock=clock) as box:
            clock.advance(6)
            assert await box.connect(1, "c1") is present
            assert not await box.connect(2, "c1", clean=True)
            assert not await box.connect(3, "unheard of")

    run(test())


def test_r15_two_snapshots_and_the_journal_since_the_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As snapshots are taken older ones go, and so does the journal before the older of the two that are kept."""
    monkeypatch.setattr(keeping, "_REPLAY_US", 0)

    async def test() -> None:
        async with running(tmp_path, edge_settings(windows={"horizon": "10s"})) as box:
            for at in range(30):
                box.clock.advance(11)
                await box.publish(reading(at, 1.0))
                await until_async(lambda: not box.agent.keeping._picturing)
            newest, older = box.agent.keeping.snapshots
            assert newest == box.agent.committed
            kept = rows(tmp_path, "SELECT DISTINCT tick FROM snapshot ORDER BY tick DESC")
            assert kept == [(newest,), (older,)]
            await until_async(lambda: rows(tmp_path, "SELECT min(tick) FROM journal") == [(older + 1,)])

    run(test())


def test_outbox_rows_go_when_the_cloud_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R22: forwarded, covered by `have`, and before both snapshots; then, and only then, the file lets go of them."""
    monkeypatch.setattr(keeping, "_REPLAY_US", 0)

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.publish(reading(0, 1.0))
            await box.publish(reading(20, 2.0))
            await box.forwarded()
            (one,) = on_bus(tmp_path / LOG)[0]
            for at in range(21, 26):
                await box.publish(reading(at, 2.0))
                await until_async(lambda: not box.agent.keeping._picturing)
            assert box.agent.keeping.snapshots[1] > one.tick
            assert rows(tmp_path, "SELECT seq FROM outbox") == [(one.seq,)]
            _have(tmp_path, one.epoch, one.shard, one.seq)
            await until_async(lambda: not rows(tmp_path, "SELECT seq FROM outbox"))
            await box.publish(reading(50, 3.0))
            await box.agent.flush()
            await box.forwarded()
        check(tmp_path / LOG, (0, 1.0), (20, 2.0), *((at, 2.0) for at in range(21, 26)), (50, 3.0))

    run(test())


def _have(folder: Path, epoch: int, shard: int, last: int) -> None:
    bus = SqliteLog(folder / LOG)
    headers = records.headers(records.HAVE, "h", "cloud", 0)
    body = records.encode(Have("a1", epoch, shard, [1, last]))
    partition = agent_partition("a1", HAVE.partitions)
    bus.append([Record(HAVE.name, partition, f"a1/{epoch:016x}/{shard}", headers, body)])
    bus.close()


def test_a_bus_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """Readings are taken and acknowledged all the same; what waited goes out when it is back."""

    async def test() -> None:
        async with running(tmp_path) as box:
            box.bus.away = True
            for at in range(0, 100, 10):
                await box.publish(reading(at, float(at)))
            await until_async(lambda: box.agent.forward.mode == "offline")
            assert box.agent.forward.pending > 0
            await box.agent.flush()
            box.bus.away = False
            box.agent.forward.wake(0)
            await box.forwarded()
        check(tmp_path / LOG, *((at, float(at)) for at in range(0, 100, 10)))

    run(test())


def test_holding_back_ends_when_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more in memory than may be unacknowledged, the source pauses; it is resumed once that is committed."""
    monkeypatch.setattr(commit, "_AGAIN_S", 0.01)

    async def test() -> None:
        async with running(tmp_path, edge_settings(max_unacknowledged=1000)) as box:
            space = full(box)
            under_way = box.source.send(*[reading(at, at / 3) for at in range(300)])
            await until_async(lambda: box.agent.holding)
            large = box.source.send(*[reading(1000 + at, 1.0) for at in range(1001)])
            assert (box.source.paused, box.source.resumed) == (1, 0)
            space()
            await box.acknowledged(under_way)
            await box.acknowledged(large)
            await until_async(lambda: box.source.resumed == 1)
            assert box.agent.sources.pauses == 1

    run(test())


def test_a_limit_that_is_broken_ends_the_tick_and_reaches_the_bus(tmp_path: Path) -> None:
    """An anomaly does not wait for its tick to grow old, and goes before the windows; its end likewise."""
    settings = edge_settings(
        tick="60s",
        tick_readings=10_000,
        limit=(LimitSettings("hot", "s1/*", above=80.0, clear=70.0, text="too hot"),),
    )

    async def test() -> None:
        async with running(tmp_path, settings) as box:
            first = box.source.send(reading(0, 20.0))
            await box.agent.flush()
            await box.acknowledged(first)
            await box.publish(reading(1, 81.0))
            await box.publish(reading(2, 69.0))
            await box.forwarded()
        _, (begin, end) = on_bus(tmp_path / LOG)
        assert (begin.phase, begin.value, begin.begin_us, begin.text) == (
            "begin",
            81.0,
            (T0 + 1) * 1_000_000,
            "too hot",
        )
        assert (end.phase, end.value, end.begin_us, end.id) == ("end", 69.0, begin.begin_us, begin.id)

    run(test())


def test_r19_what_cannot_wait_shortens_a_tick_that_gathers(tmp_path: Path) -> None:
    """Without a token for an early end, the next token ends the tick, not its age, though the timer for its age runs."""

    async def test() -> None:
        limit = LimitSettings(name="hot", series="*/temp", above=80.0)
        async with running(tmp_path, edge_settings(limit=(limit,), tick="30s", tick_readings=1000)) as box:
            box.source.send(reading(0, 1.0))
            await box.agent.flush()
            agent = box.agent
            agent.ticker._tokens, agent.ticker._refilled_us = 0.0, mono_us()
            box.source.send(reading(1, 2.0))
            assert agent._timer is not None
            left = agent._timer.when() - asyncio.get_running_loop().time()
            assert left > 20
            await box.publish(reading(2, 99.0))  # committed within a token's time, or this waits for ever

    run(test())


def test_silence_closes_windows_by_a_tick_of_its_own(tmp_path: Path) -> None:
    """R12: no reading comes any more, time closes the window, and that is a row of the journal like any other."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.publish(reading(0, 1.0))
            before = box.agent.committed
            box.clock.advance(30)
            await until_async(lambda: box.agent.committed > before)
            await box.forwarded()
            assert len(on_bus(tmp_path / LOG)[0]) == 1
            assert rows(tmp_path, "SELECT max(tick) FROM journal") == [(box.agent.committed,)]

    run(test())


def test_r20_dead_letters_keep_the_bytes_and_the_rest_counts(tmp_path: Path) -> None:
    """A message that cannot be read, in whole or in part, is kept with reason, topic and bytes, once."""

    async def test() -> None:
        bad, partly = b'{"v":NaN}', b'[{"t":1800000000,"v":1.5},{"a/b":2}]'
        async with running(tmp_path) as box:
            await box.connect(1, "c1")
            topic = "hw/s1/d1/data/temp"
            await box.publish(Publish(topic, bad, 1), Publish(topic, partly, 2), Publish("nowhere", b"5", 3))
            await box.publish(Publish(topic, bad, 1, dup=True))
            await box.agent.flush()
            await box.forwarded()
            found = rows(tmp_path, "SELECT reason, topic, bytes FROM dead_letter ORDER BY tick, n")
            assert found == [
                ("unreadable", topic.encode(), bad),
                ("not-taken", topic.encode(), partly),
                ("bad-topic", b"nowhere", b"5"),
            ]
        check(tmp_path / LOG, (0, 1.5))

    run(test())
