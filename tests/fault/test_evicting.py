"""Series that are idle are let go, and come back as if they had never been away (R3, R4, R12): on real files, against the books."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from headwater_edge import snapshot
from headwater_edge.commit import Job
from headwater_edge.coverage import Coverage, packed
from headwater_edge.horizon import Horizon
from headwater_edge.journal import Damaged
from headwater_edge.metric_settings import MetricSettings
from headwater_edge.remains import gather
from headwater_edge.salvage import _mend_look_ups
from headwater_edge.settings import EdgeSettings
from headwater_edge.state import State
from headwater_edge.store import write_store
from headwater_edge.unreached import Unreached
from tests.cloud.side import in_memory
from tests.edge.feed import DAY, Message, S, session, step_settings_of
from tests.edge.run import Run
from tests.edge.running import FILE, edge_settings
from tests.fault.ends import new_files
from tests.fault.histories import Act, History
from tests.fault.test_histories import RULES, SETTINGS, SHORT

PLAIN = edge_settings(series_idle="80s", window=(session("7s"),), windows=SHORT)
LIMITED = replace(SETTINGS["short"], stuck=(), range=())
KEPT, BROKER = 0, 2
"""Clients: one with a session that stays, of s1/d1 and s1/d2; a broker, of s1/d4 and s2/d5."""


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """The files of a first start, in memory."""
    with in_memory() as folder:
        new_files(folder)
        yield folder


@pytest.fixture
def live(files: Path, tmp_path: Path) -> Callable[..., History]:
    """Lives a history through; all is compared at its end."""

    def lived(*acts: Act, settings: EdgeSettings = PLAIN) -> History:
        history = History(files, tmp_path, settings)
        begin: list[Act] = [("start",), ("settle",)]
        history.run([*begin, *(("connect", n, False, False, "settle") for n in range(3)), *acts])
        return history

    return lived


def do(what: Callable[[History], object]) -> Act:
    return ("do", what)


def says(
    device: str,
    *offsets_us: int,
    client: int = BROKER,
    metric: int = 0,
    value: float = 1.5,
    timed: bool = True,
) -> Act:
    """A client says something of any device, which is taken in."""

    def said(history: History) -> None:
        history.act_advance(1.0)
        what = [(metric, offset_us, value, timed) for offset_us in offsets_us]
        history._come_back()
        sender = history.fleet.clients[client]
        history.fleet.send(sender, history.fleet.message(device, what, 1, good=True))
        history.act_carry()
        history.act_settle()

    return do(said)


def resends(at: int) -> Act:
    """The broker brings what was said once, as a new message."""

    def again(history: History) -> None:
        history._come_back()
        history.fleet.send(history.fleet.clients[BROKER], history.fleet.again(history.fleet.said[at]))
        history.act_carry()
        history.act_settle()

    return do(again)


def of(history: History) -> State:
    assert history.agent is not None
    return history.agent.state


def names(history: History) -> list[str]:
    return [name for name in of(history).names if name]


LONG: list[Act] = [("age", 100.0), ("age", 100.0)]
"""So long that rows leave the journal, and what is idle is too old."""


@pytest.mark.covers("R12")
def test_r12_a_series_that_is_idle_is_let_go_and_its_number_is_anothers(live: Callable[..., History]) -> None:
    """However many devices come and go, one after the other: numbers, and all columns by them, stay few; every window is right."""
    visitors = [act for n in range(12) for act in (says(f"s2/visitor-{n}", S, 2 * S), *LONG)]
    history = live(says("s1/d4", S), *visitors)
    state = of(history)
    assert [name for name in history.evicted if "visitor" in name] == [
        f"s2/visitor-{n}/temp" for n in range(11)
    ]
    assert len(state.names) == 3
    assert sorted(names(history)) == ["s1/d4/temp", "s2/visitor-11/temp"]
    assert sorted(state.device_numbers) == ["s1/d4", "s2/visitor-11"]
    assert len(state.watermarks.mark) == len(state.presence.status) == 2


@pytest.mark.covers("R4", "R12")
@pytest.mark.parametrize("between", [[], [("crash",), ("start",), ("settle",)]], ids=["", "restart"])
def test_r04_coverage_outlives_an_eviction(live: Callable[..., History], between: list[Act]) -> None:
    """What was heard before is not counted again after it, whoever has its number now; what is new in a gap is counted."""
    seen: list[int] = []
    history = live(
        says("s2/d5", S, 2 * S, 3 * S),
        says("s2/d5", 3000 * S),
        says("s2/other", S),
        *LONG,
        says("s2/other", S),
        *between,
        do(lambda h: seen.append(of(h).names.index(""))),
        says("s2/new", S),
        do(lambda h: seen.append(of(h).names.index("s2/new/temp"))),
        *LONG,
        *between,
        resends(0),
        do(lambda h: seen.append(of(h).counters.beyond_horizon)),
        says("s2/d5", -1000 * S),
        *between,
        *LONG,
        resends(0),
        settings=replace(PLAIN, series_idle="150s"),
    )
    assert history.evicted[0] == history.returned[0] == "s2/d5/temp"
    assert seen[:2] == [seen[0]] * 2
    assert seen[2] == 3
    assert of(history).counters.beyond_horizon == 6


@pytest.mark.covers("R3", "R12")
def test_r03_a_resend_under_its_packet_id_is_known_after_an_eviction(live: Callable[..., History]) -> None:
    """A reading without a time: its device sends it again, with DUP, long after its series was let go and the number given away."""

    def loses_its_answer(history: History) -> None:
        client = history.fleet.clients[KEPT]
        said = history.fleet.message("s2/d9", [(0, S, 1.5, False)], 1, good=True)
        history.fleet.send(client, said)
        history.act_carry()
        while history.act_work("loop") or history.act_work("look"):
            pass
        history.act_work("write")
        history.act_cut(KEPT, True)
        history.act_settle()

    def while_it_is_away(history: History) -> None:
        come_back, history._come_back = history._come_back, lambda: None  # type: ignore[method-assign]
        for device in ("s2/other", "s2/other", "s2/new"):
            says(device, S)[1](history)
            for name, *what in LONG:
                getattr(history, f"act_{name}")(*what)
        history._come_back = come_back  # type: ignore[method-assign]

    history = live(says("s2/other", S), do(loses_its_answer), do(while_it_is_away), says("s2/other", S))
    assert "s2/d9/temp" in history.evicted
    assert "s2/d9/temp" in history.returned
    assert of(history).counters.by_transport == 1


@pytest.mark.covers("R12")
def test_r12_what_is_broken_keeps_its_series_and_a_silence_that_was_told_ends(
    live: Callable[..., History],
) -> None:
    """A limit that is broken stays broken; a series that is watched for silence goes once the silence was told, and that ends."""
    told: list[tuple[str, str, str, str]] = []

    def listen(history: History) -> None:
        assert history.agent is not None
        submit = history.agent._writer.submit

        def submitted(job: Job) -> None:
            told.extend((a.rule, a.series, a.phase, a.text) for a in job.output.anomalies)
            submit(job)

        history.agent._writer.submit = submitted  # type: ignore[method-assign]

    settings = edge_settings(
        series_idle="80s",
        windows=SHORT,
        limit=RULES["limit"],
        missing=RULES["missing"],
        act=SETTINGS["short"].act,
    )
    history = live(
        do(listen), says("s2/hot", S, value=95.0), says("s2/cold", S), says("s2/d5", S), *LONG, says("s2/d5", S),
        settings=settings,
    )  # fmt: skip
    assert "s2/cold/temp" in history.evicted
    assert "s2/hot/temp" not in history.evicted
    assert [one for one in told if one[1] == "s2/cold/temp"] == [
        ("silent", "s2/cold/temp", "begin", ""),
        ("silent", "s2/cold/temp", "end", "the series is let go: it was not heard for so long"),
    ]
    assert ("too-hot", "s2/hot/temp", "end") not in [one[:3] for one in told]


@pytest.mark.covers("R12", "R23")
def test_r12_a_device_that_is_connected_stays_and_so_does_the_last_of_a_shard(
    live: Callable[..., History],
) -> None:
    """Silent, and connected: it keeps all it has. And heartbeats of a shard go by its devices, so one stays."""
    history = live(
        says("s1/d1", S, client=KEPT), says("s1/d1", S, client=KEPT, metric=1), says("s1/d4", S), says("s2/a", S),
        says("s2/b", S), *LONG, says("s3/c", S),
    )  # fmt: skip
    assert sorted(names(history)) == ["s1/d1/flow", "s1/d1/temp", "s2/b/temp", "s3/c/temp"]


@pytest.mark.covers("R12")
def test_r12_a_counter_goes_and_comes_back_with_its_rate(live: Callable[..., History]) -> None:
    """The rate is heard with its counter; after it came back there is one again."""
    counts = MetricSettings(series="s2/meter/*", counter=True)
    rates: list[int] = []

    def look(history: History) -> None:
        state = of(history)
        rates.append(int(state.meaning.rate[state.names.index("s2/meter/temp")]))

    def rated(history: History) -> None:
        state = of(history)
        assert state.names[rates[-1]] == "s2/meter/temp.rate"
        assert state.levels.fine.recent.series[: state.levels.fine.recent.size].tolist().count(rates[-1])
        history.books.check = lambda *_: None  # type: ignore[method-assign]  # they know no rates

    history = live(
        says("s2/d5", S), says("s2/meter", S, 2 * S), do(look), *LONG, says("s2/d5", S),
        says("s2/new", S), says("s2/meter", S, 2 * S), do(look), do(rated),
        settings=edge_settings(series_idle="80s", windows=SHORT, metric=(counts,)),
    )  # fmt: skip
    assert {"s2/meter/temp", "s2/meter/temp.rate"} <= set(history.evicted)
    assert len(rates) == 2


@pytest.mark.covers("R12")
def test_r12_where_there_are_as_many_series_as_may_be_the_longest_unheard_goes(
    live: Callable[..., History],
) -> None:
    """Long before their time, but never before their readings have left the journal."""
    settings = edge_settings(series_idle="30d", max_series=8, windows=SHORT)
    visitors = [act for n in range(14) for act in (says(f"s2/v{n}", S), *LONG)]
    history = live(*visitors, settings=settings)
    assert history.evicted == [f"s2/v{n}/temp" for n in range(len(history.evicted))]
    assert len(names(history)) == 14 - len(history.evicted) <= 8


@pytest.mark.covers("R11", "R12")
@pytest.mark.parametrize(
    "name", ["tick.stepped", "commit.before", "commit.after", "acknowledge.before", "snapshot.piece"]
)
@pytest.mark.parametrize("back", [False, True], ids=["goes", "comes-back"])
def test_r12_it_dies_as_a_series_goes_or_comes_back(
    live: Callable[..., History], name: str, *, back: bool
) -> None:
    """Either it went, and is known as it was, or it did not; no number means two series."""
    history = live(
        says("s2/d5", S, 2 * S), says("s2/other", S), *LONG,
        *([says("s2/other", S), *LONG, says("s2/new", S)] if back else []),
        ("snapshot",), ("crash_at", 1, name), says("s2/d5" if back else "s2/other", S), ("start",), ("settle",),
        resends(0), says("s2/d5", S, -900 * S), resends(0),
    )  # fmt: skip
    assert history.crashes == 1
    assert "s2/d5/temp" in history.evicted


@pytest.mark.covers("R4", "R15")
def test_r15_what_is_known_of_series_that_went_is_saved_of_a_damaged_file(
    live: Callable[..., History], tmp_path: Path
) -> None:
    """It is copied as other tables are, and found page by page where SQLite stumbles."""
    live(says("s2/d5", S, 2 * S), says("s2/other", S), *LONG, says("s2/other", S))
    for stumbles in (False, True):
        damaged, into = tmp_path / "damaged.db", write_store(tmp_path / f"new-{stumbles}.db")
        with closing(sqlite3.connect(tmp_path / FILE)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        shutil.copyfile(tmp_path / FILE, damaged)
        if stumbles:
            body = bytearray(damaged.read_bytes())
            body[100:104] = b"\xff" * 4  # the first page is that of the schema
            damaged.write_bytes(body)
        gather(damaged, into)
        found = into.execute("SELECT name, serial FROM evicted").fetchall()
        into.close()
        assert ("s2/d5/temp", 0) in found


@pytest.mark.covers("R12")
def test_r12_a_window_that_is_open_keeps_its_series(live: Callable[..., History]) -> None:
    """An hour's window is not over when the series is long idle: it stays until it is, and nothing of it is lost."""
    seen: list[bool] = []
    settings = edge_settings(
        series_idle="80s", windows=SHORT | {"levels": ("1s", "1h"), "lateness": "0s", "horizon": "30s"}
    )
    history = live(
        says("s2/d5", S), *LONG, says("s2/other", S),
        do(lambda h: seen.append("s2/d5/temp" in h.evicted)),
        ("age", 4000.0), ("age", 4000.0), says("s2/other", S),
        settings=settings,
    )  # fmt: skip
    assert seen == [False]
    assert "s2/d5/temp" in history.evicted


@pytest.mark.covers("R2", "R12")
def test_r02_readings_in_memory_are_not_the_next_ones(live: Callable[..., History]) -> None:
    """Who has the number now says the very same, at the same time: a resend of nothing."""
    history = live(
        says("s2/d5", S, 2 * S), says("s2/other", S), *LONG, says("s2/other", S), says("s2/new", S, 2 * S),
        says("s2/new2", S, 2 * S), settings=replace(PLAIN, series_idle="150s"),
    )  # fmt: skip
    assert of(history).counters.by_meaning == 0
    assert "s2/d5/temp" in history.evicted


@pytest.mark.covers("R15", "R20")
def test_r15_a_number_that_was_given_away_behind_the_last_whole_tick_is_nobodys(tmp_path: Path) -> None:
    """The state has its series still: readings of the next one are a letter with the row's bytes, and none is the other's."""
    run = Run(step_settings_of())
    run.start()
    run.tick(Message((("s1/a/x", DAY, 1.0), ("s1/b/x", DAY, 1.0))))
    whole = snapshot.take(run.state)
    run.clock.advance(7200)
    run.flush()
    run.tick(events=(run.feed.let_go("s1/a/x"),))
    run.tick(Message((("s1/c/x", DAY + S, 2.0), ("s1/b/x", DAY + S, 3.0))))
    run.tick(Message((("s1/d/x", DAY + 2 * S, 4.0), ("s1/b/x", DAY + 2 * S, 5.0))))
    for lost in ((), (4,), (4, 5)):  # ticks 3 and 4 close and let go, 5 and 6 bring the others
        connection = write_store(tmp_path / f"{len(lost)}.db")
        rows = [(at, row) for at, row in enumerate(run.rows, 1) if at not in lost]
        connection.executemany("INSERT INTO journal VALUES (?, ?)", rows)
        unreached = Unreached(connection, snapshot.restore(whole), [])
        letters = unreached.letters(len(run.rows))
        connection.close()
        said = [
            body
            for letter in letters
            if letter.topic
            for body in msgspec.msgpack.decode(letter.readings or b"\x90")
        ]
        assert not {name for name, *_ in said} & {"s1/a/x", "s1/c/x"}
        assert any(letter.body == run.rows[4] for letter in letters) == (5 not in lost)
        assert unreached.missing == len(lost)


@pytest.mark.covers("R2", "R12")
def test_r02_a_series_stays_as_long_as_the_journal_has_a_reading_of_it(live: Callable[..., History]) -> None:
    """Look-ups go by number: within the horizon a resend is known exactly, however soon a series may go."""
    settings = edge_settings(series_idle="10s", windows=SHORT | {"horizon": "1h"})
    history = live(
        says("s2/d5", S, 2 * S), says("s2/other", S), *LONG, says("s2/other", S), says("s2/new", S, 2 * S), resends(0),
        settings=settings,
    )  # fmt: skip
    assert history.evicted == []
    assert of(history).counters.by_horizon + of(history).counters.by_meaning == 2


@pytest.mark.covers("R4")
def test_r04_coverage_that_was_put_down_is_of_names(tmp_path: Path) -> None:
    """Its numbers are those of then: one is another's by now, one came back under another, and one is not there any more."""
    heard = Coverage()
    heard.grow(3)
    for number in range(3):
        heard.put(number, [number * 1000, number * 1000 + 10])
    connection = write_store(tmp_path / FILE)
    connection.execute("INSERT INTO journal VALUES (5, x'')")
    body = packed(heard, ["s/a/x", "s/b/x", "s/c/x"])
    connection.execute("INSERT INTO coverage VALUES (4, 0, ?)", (body,))
    for name, flat in (("s/a/x", [0, 10]), ("s/z/x", [7000, 7010])):
        row = (name, msgspec.msgpack.encode(flat))
        connection.execute("INSERT INTO evicted(name, serial, body) VALUES (?, 0, ?)", row)
    horizon = Horizon(tmp_path / FILE, ["s/new/x", "s/b/x", "", "s/a/x", "s/z/x"])
    found = [horizon.gone.of(number) for number in range(5)]
    assert found == [[], [1000, 1010], [], [0, 10], [7000, 7010]]
    connection.execute("UPDATE evicted SET body = x'c1' WHERE name = 's/z/x'")
    with pytest.raises(Damaged, match="series that was let go"):
        horizon.returned(["s/z/x"], [4])
    _mend_look_ups(connection)  # or a salvaged file would be as bad
    assert connection.execute("SELECT name FROM evicted").fetchall() == [("s/a/x",)]
    horizon.close()
    connection.close()


def test_pain08_an_idle_series_takes_little_more_than_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held no longer is let go, though no newer window needs its place: raw columns and sketches are those of who speaks."""
    monkeypatch.setattr("headwater_edge.recent._FIRST", 64)
    monkeypatch.setattr("headwater_edge.sketch_log._FIRST", 64)
    run = Run(step_settings_of(lateness="0s"))
    run.start()
    rows: list[int] = []
    for visitor in range(12):
        for at in range(0, 1200, 10):
            name = f"s1/visitor-{visitor}/x"
            run.tick(Message(((name, DAY + (7200 * visitor + at) * S, float(at)),)))
            run.clock.advance(10)
        run.clock.advance(6000)
        levels = run.state.levels
        rows.append(levels.fine.recent.size + sum(level.log._size for level in levels.coarser))
    assert max(rows[6:]) <= 1.3 * max(rows[:3])
    run.flush()
    run.check()
