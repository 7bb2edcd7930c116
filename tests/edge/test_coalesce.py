"""Coalescing: fine windows that nobody was given go where coarser ones hold their readings; nothing else changes (R22)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import forward, pipeline, pressure, replay, ungiven
from headwater_edge.coalesce import Gatherer, plan, targets
from headwater_edge.coalescing import _thinned
from headwater_edge.disk_settings import DiskSettings
from headwater_edge.settings import StepSettings, step_settings
from headwater_edge.store import Chores, open_store, read_store, write
from headwater_shared import frame
from headwater_shared.frame import Frame
from headwater_shared.identity import SHARDS
from headwater_shared.parts import COARSENED, is_within, level_of
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.edge.feed import Message
from tests.edge.merged import Merged, Place, assert_equal_windows
from tests.edge.run import Run
from tests.edge.running import LOG, AwayBus, Publish, Running, as_after_a_kill, edge_settings, on_bus, running
from tests.reference import Window, all_windows
from tests.support import until_async

T0 = 1_800_000_000
SETTINGS = StepSettings("a1", ("10s", "1m", "10m", "1h"), 2_000_000, 10_000_000, 60_000_000, True, [])
PRESSED = DiskSettings(quota="24MB", coalesce=0.1)
"""Under which the high mark is passed from the start on."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the disk and tries of the bus come as fast as they can, and the high mark may be below what is always there."""
    monkeypatch.setattr(pressure, "fitting", lambda limits, _snapshot: limits)
    monkeypatch.setattr(pipeline, "_LOOK_S", 0.02)
    for name, seconds in (("_LOOK_S", 0.02), ("_FIRST_S", 0.02), ("_MOST_S", 0.05)):
        monkeypatch.setattr(forward, name, seconds)


def run(test: Awaitable[None]) -> None:
    asyncio.run(test)  # type: ignore[arg-type]


def marked(frames: Sequence[Frame]) -> set[Place]:
    """The windows of which a part is marked."""
    out = set()
    for one in frames:
        parts = one.parts
        for row in np.flatnonzero(parts.flags & COARSENED).tolist():
            out.add((parts.names[parts.series[row]], parts.levels[parts.level[row]], int(parts.start[row])))
    return out


def within(place: Place, marks: set[Place]) -> bool:
    """Whether a window lies in one that is marked, of a coarser level."""
    series, level, start = place
    coarser = [name for name in ("1m", "10m", "1h") if is_within(level_of(level), level_of(name))]
    return any(
        (series, name, start // level_of(name).length_us * level_of(name).length_us) in marks
        for name in coarser
    )


def check(frames: Sequence[Frame], wanted: dict[Place, Window], *, numbers: bool = True) -> set[Place]:
    """What is not within a mark is exactly what it must be; return what is within, and is not there whole."""
    merged, marks = Merged(), marked(frames)
    for one in frames:
        if not numbers:
            merged._seqs.clear()
            merged._seqs[one.epoch, one.shard] = one.seq - 1
        merged.take(one)
    found = merged.windows()
    gone = {place for place in wanted if within(place, marks)}
    assert_equal_windows(
        {place: window for place, window in found.items() if place not in gone},
        {place: window for place, window in wanted.items() if place not in gone},
    )
    return {place for place in gone if found.get(place) != wanted[place]}


def thinned(frames: Sequence[Frame], levels: Sequence[str]) -> list[Frame]:
    """Coalesce frames that were never given out, to each target in turn."""
    out = list(frames)
    for target in targets(levels):
        gatherer = Gatherer()
        for number, one in enumerate(out):
            gatherer.add(number, one)
        keys = gatherer.keys()
        planned = plan(keys, target)
        for number, one in enumerate(out):
            here = keys.columns["frame"] == number
            copy = frame.decode(frame.encode(one))
            out[number] = _thinned(copy, planned.drop[here], planned.mark[here])
    return out


_EVENT = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 2), st.integers(-30, 1500)),
    st.tuples(st.just("start"), st.just(0), st.just(0)),
    st.tuples(st.just("on"), st.just(0), st.integers(1, 900)),
)


@given(st.lists(_EVENT, min_size=1, max_size=60), st.floats(0, 1), st.booleans())
def test_r22_what_is_let_go_is_held_by_a_marked_window(
    events: list[tuple[str, int, int]], share: float, flush: bool
) -> None:
    """Late readings, restarts, any cut between what was given out and what waits: every window outside of marks is exact, and
    within a mark the coarser window is.
    """
    settings = SETTINGS
    made = Run(settings)
    made.start()
    now = 0
    for n, (what, series, at) in enumerate(events):
        if what == "start":
            made.start()
        elif what == "on":
            now += at
            made.clock.advance(at)
            made.tick()
        else:
            made.tick(Message(((f"s/d{series}/m", (T0 + now + at) * 1_000_000, float(n)),)))
    if flush:
        made.flush()
    frames = [one for output in made.outputs for one in output.frames]
    cut = int(share * len(frames))
    rest = thinned(frames[cut:], settings.levels)
    assert [(one.epoch, one.shard, one.seq) for one in rest] == [
        (one.epoch, one.shard, one.seq) for one in frames[cut:]
    ]
    if not flush:
        made.flush()  # what comes later, by frames that are not coalesced
        rest += made.outputs[-1].frames
    check([*frames[:cut], *rest], made.account.windows(settings))


def test_an_hour_becomes_windows_of_ten_minutes() -> None:
    """Of an hour of whole windows, all of ten seconds and of a minute go; those of ten minutes and the hour stay."""
    settings = SETTINGS
    made = Run(settings)
    made.start()
    for at in range(0, 3600, 5):
        made.clock.advance(5)
        made.tick(Message((("s/d/m", (T0 // 3600 * 3600 + at) * 1_000_000, float(at)),)))
    made.flush()
    frames = [one for output in made.outputs for one in output.frames]
    rest = thinned(frames, settings.levels)
    check(rest, made.account.windows(settings))
    left = [level for one in rest for level in np.array(one.parts.levels)[one.parts.level].tolist()]
    assert sorted(left) == ["10m"] * 6 + ["1h"]


def minute_of(*, late: bool) -> list[Frame]:
    """Frames of a minute and the next, a reading every five seconds; `late`: one that belongs to the first ten seconds comes last."""
    made = Run(SETTINGS)
    made.start()
    begin = T0 // 60 * 60
    for at in range(0, 120, 5):
        made.clock.advance(5)
        made.tick(Message((("s/d/m", (begin + at) * 1_000_000, float(at)),)))
        if late and at == 55:
            made.tick(Message((("s/d/m", begin * 1_000_000 + 7, 0.5),)))
    made.flush()
    return [one for output in made.outputs for one in output.frames if len(one.parts)]


def left_of(frames: Sequence[Frame], level: str) -> list[int]:
    """The starts of a level's windows that frames hold, in seconds after the minute."""
    found: set[int] = set()
    for one in frames:
        here = np.array([one.parts.levels[n] == level for n in one.parts.level.tolist()], np.bool_)
        found.update((one.parts.start[here] // 1_000_000 - T0 // 60 * 60).tolist())
    return sorted(found)


def test_r22_nothing_goes_that_the_coarser_window_does_not_hold() -> None:
    """Where the coarser part says another digest than its finer ones add up to, or one of these was given out already, all of them
    stay, and none is marked; those beside go.
    """
    frames = minute_of(late=False)
    assert left_of(thinned(frames, SETTINGS.levels[:2]), "10s") == []
    for wrong in ("digest", "count"):
        altered = [frame.decode(frame.encode(one)) for one in frames]
        for one in altered:
            here = np.array([one.parts.levels[n] == "1m" for n in one.parts.level.tolist()], np.bool_)
            here &= one.parts.start == T0 // 60 * 60 * 1_000_000
            getattr(one.parts.aggregates, wrong)[here] += 1
        rest = thinned(altered, SETTINGS.levels[:2])
        assert left_of(rest, "10s") == [0, 10, 20, 30, 40, 50]
        assert {start for _, _, start in marked(rest)} == {(T0 // 60 * 60 + 60) * 1_000_000}
    given = thinned(frames[1:], SETTINGS.levels[:2])
    assert left_of(given, "10s") == [10, 20, 30, 40, 50]


def test_r22_no_window_goes_of_which_a_revision_was_given_out() -> None:
    """The first ten seconds went out, and again, revised, with all the rest of their minute in what waits: it adds up, and stays,
    for the cloud has the older revision.
    """
    frames = minute_of(late=True)
    assert left_of(frames[:1], "10s") == [0]
    assert left_of(frames[1:], "10s")[:2] == [0, 10]
    rest = thinned(frames[1:], SETTINGS.levels[:2])
    assert left_of(rest, "10s") == [0, 10, 20, 30, 40, 50]
    assert left_of(thinned(frames, SETTINGS.levels[:2]), "10s") == []


def reading(at: int, value: float) -> Publish:
    return Publish("hw/s1/d1/data/temp", f'{{"t":{T0 + at},"v":{value}}}'.encode())


async def fed(box: Running, seconds: range) -> None:
    """Publish a reading at each of some seconds, a minute's worth a burst."""
    for begin in range(seconds.start, seconds.stop, 60):
        chosen = [at for at in range(begin, min(begin + 60, seconds.stop)) if at % 5 == 0]
        await box.publish(*[reading(at, float(at)) for at in chosen])


def wanted_of(seconds: range) -> dict[Place, Window]:
    return all_windows([("s1/d1/temp", (T0 + at) * 1_000_000, float(at)) for at in seconds if at % 5 == 0])


def bodies(folder: Path) -> dict[str, set[bytes]]:
    """By identity, the bodies that the bus holds."""
    log = SqliteLog(folder / LOG)
    out: dict[str, set[bytes]] = {}
    for stored in log.read(IN.name, dict.fromkeys(range(SHARDS), 0), 1_000_000):
        out.setdefault(stored.headers["ce_id"], set()).add(stored.body)
    log.close()
    return out


@pytest.mark.parametrize("killed", [False, True])
def test_r22_an_agent_under_pressure_coalesces_what_nobody_was_given(tmp_path: Path, killed: bool) -> None:
    """While the bus is away and the quota presses, the outbox is coalesced, over a kill too; a replay finds no difference, and
    the bus gets frames without a gap in their seqs, with every reading in every window that is kept.
    """
    (tmp_path / "first").mkdir()
    settings = edge_settings(disk=PRESSED)

    async def coalesced(box: Running) -> None:
        before = -1
        while before != box.agent.state.counters.coalesced:
            before = box.agent.state.counters.coalesced
            found = box.agent.pressure._looks
            await until_async(lambda found=found: box.agent.pressure._looks >= found + 2)  # type: ignore[misc]

    async def test() -> None:
        folder = tmp_path / "first"
        async with running(folder, settings) as box:
            await fed(box, range(60))
            await box.forwarded()
            box.bus.away = True
            box.agent.forward.wake(0)
            await until_async(lambda: box.agent.forward.mode == "offline")
            await fed(box, range(60, 2400))
            await coalesced(box)
            assert box.agent.state.counters.coalesced > 200
            if killed:
                folder = as_after_a_kill(tmp_path / "first", tmp_path / "second")
            else:
                box.bus.away = False
        if killed:
            reader = read_store(folder / "edge.db")
            again = replay.compared(reader, replay.begin(reader, step_settings(settings)))
            assert [difference for one in again for difference in one.differences] == []
            reader.close()
            async with running(folder, settings, log=tmp_path / "first" / LOG) as box:
                assert box.agent.state.counters.coalesced > 200
                await box.agent.flush()
                await box.forwarded()
        else:
            async with running(folder, settings) as box:
                await box.agent.flush()
                await box.forwarded()
        frames = on_bus(tmp_path / "first" / LOG)[0]
        gone = check(frames, wanted_of(range(2400)))
        assert {level for _, level, _ in gone} == {"10s", "1m"}
        assert len(gone) > 200
        assert all(len(found) == 1 for found in bodies(tmp_path / "first").values())

    run(test())


@pytest.mark.parametrize("answers", [True, False])
def test_r22_what_the_bus_may_have_is_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """An append whose answer was lost, and a kill before anything was noted of it: what may be on the bus is not coalesced."""
    (tmp_path / "first").mkdir()
    settings = edge_settings(disk=PRESSED)

    async def test() -> None:
        async with running(tmp_path / "first", settings) as box:
            await fed(box, range(60))
            await box.forwarded()
            box.bus.lost_answers = 0 if answers else 1_000
            await fed(box, range(60, 1200))
            await until_async(lambda: answers or box.bus.lost_answers < 1_000)
            if answers:
                await box.forwarded()
            sent = {name: next(iter(found)) for name, found in bodies(tmp_path / "first").items()}
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
        monkeypatch.setattr(AwayBus, "away", True)  # from the first try on
        monkeypatch.setattr(AwayBus, "identity", property(AwayBus._look))
        async with running(copy, settings, log=tmp_path / "away.db") as box:
            await until_async(lambda: box.agent.forward.mode == "offline")
            await fed(box, range(1200, 2400))
            looks = box.agent.pressure._looks
            await until_async(lambda: box.agent.pressure._looks >= looks + 3)
            await box.agent.flush()
            monkeypatch.setattr(AwayBus, "identity", SqliteLog.identity)
            box.bus.away = False
            box.agent.forward.wake(0)
            await box.forwarded()
        log = SqliteLog(tmp_path / "away.db")
        again = {
            s.headers["ce_id"]: s.body for s in log.read(IN.name, dict.fromkeys(range(SHARDS), 0), 1_000_000)
        }
        log.close()
        changed = [name for name, body in sent.items() if name in again and again[name] != body]
        assert changed == []
        assert any(name in again for name in sent)

    run(test())


def stored_spans(folder: Path) -> str:
    """What the file says was never given out."""
    reader = read_store(folder / "edge.db")
    try:
        found = reader.execute("SELECT value FROM meta WHERE name = 'ungiven'").fetchone()
        return str(found[0]) if found else ""
    finally:
        reader.close()


def test_r22_what_is_on_its_way_into_the_file_is_waited_for(tmp_path: Path) -> None:
    """A bus that was away for a moment costs the file nothing, and rows go at once. Once the file may hear of it, in a commit that
    nobody can call back, rows wait for the one that takes it back, although the file does not know of it yet.
    """
    connection, lock = open_store(tmp_path / "edge.db")
    left: list[Chores] = []
    spans = ungiven.Ungiven(tmp_path / "edge.db", left.append)
    assert spans.may_go(5)
    spans.away()
    assert spans.freeze() == [(5, ungiven.EVER)]
    spans.thaw()
    assert (left, spans.may_go(6)) == ([], True)
    spans.away()
    spans.away()
    assert not spans.may_go(7)
    first, second = left
    write(connection, None, first)
    assert stored_spans(tmp_path) == f"[[6,{ungiven.EVER}]]"
    assert not spans.may_go(7)
    write(connection, None, second)
    assert spans.may_go(7)
    spans.close()
    connection.close()
    lock.release()


def test_r22_rows_go_out_only_once_the_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage the forwarder sends a piece at a time, each after a commit that takes it out of what may be changed; and
    nothing while a search for what may go is under way.
    """
    monkeypatch.setattr(ungiven, "_PIECE", 3)
    (tmp_path / "first").mkdir()

    async def test() -> None:
        async with running(tmp_path / "first") as box:
            box.bus.away = True
            await until_async(lambda: box.agent.forward.mode == "offline")
            for at in range(0, 300, 10):
                await box.publish(reading(at, 1.0))
            told = f"[[0,{ungiven.EVER}]]"
            await until_async(lambda: stored_spans(tmp_path / "first") == told, what="the file is told")
            assert box.agent.forward.ungiven.freeze() == [(0, ungiven.EVER)]
            box.bus.away = False
            box.agent.forward.wake(0)
            await until_async(lambda: box.agent.forward.mode != "offline")
            await until_async(lambda: box.agent.forward.ungiven._asked)
            for at in (300, 310):  # commits take along what the forwarder left
                await box.publish(reading(at, 1.0))
                box.agent.forward.wake(0)
            assert stored_spans(tmp_path / "first") == told
            assert on_bus(tmp_path / "first" / LOG)[0] == []
            box.agent.forward.ungiven.thaw()
            assert box.agent.forward.ungiven.freeze() == []
            await box.forwarded()
            assert len(on_bus(tmp_path / "first" / LOG)[0]) > 6
            assert stored_spans(tmp_path / "first") == "[]"

    run(test())


def test_r04_the_horizon_shrinks_under_pressure_and_grows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the high mark the dedupe horizon is halved, step by step and not for ever; without pressure it comes back."""
    monkeypatch.setattr(pressure, "_EACH_S", 1)
    monkeypatch.setattr(pressure, "_CALM_S", 1)

    async def test() -> None:
        async with running(tmp_path, edge_settings(disk=PRESSED)) as box:
            await until_async(lambda: box.agent.pressure.horizon_shrunk == 16)
            assert box.agent.pressure.horizon_us(16) == 1
            box.agent.pressure._asked = box.agent.pressure._asked._replace(high=10**9)
            await until_async(lambda: box.agent.pressure.horizon_shrunk == 1)

    run(test())
