"""Thousands of histories: whatever crashes, is sent again, is late or overtaken, each reading is in each window once (R30, R31)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_edge.acts import ActSettings
from headwater_edge.detect_settings import DetectSettings
from headwater_edge.rule_settings import (
    JumpSettings,
    LimitSettings,
    MissingSettings,
    RangeSettings,
    RateSettings,
    StuckSettings,
)
from headwater_edge.settings import EdgeSettings
from tests.cloud.side import in_memory
from tests.edge.feed import S, hopping, session
from tests.edge.running import edge_settings
from tests.fault.ends import new_files
from tests.fault.histories import Act, History

TOO_HOT = LimitSettings("too-hot", "*/temp", above=90.0)
COOL = ActSettings(
    name="cool", rule="too-hot", command={"name": "shut", "at": "{value}"}, undo="open", ttl="1m"
)
RULES = {
    "limit": (TOO_HOT,),
    "range": (RangeSettings("odd", "s1/*", low=-1.0, high=50.0, for_="2s"),),
    "rate": (RateSettings("moves", "*", changes=10.0, per="1s"),),
    "stuck": (StuckSettings("stuck", "*", for_="5s"),),
    "missing": (MissingSettings("silent", "*", for_="20s"),),
    "jump": (JumpSettings("jump", "*", by=5.0),),
}
TABLES = (hopping("1m", "20s"), session("10s", "s1/*"), session("1m", "s2/*"))
SHORT = {"levels": ("1s", "3s", "9s"), "held": "2s", "lateness": "0s", "idle": "1s", "horizon": "1m"}
IDLE = {"series_idle": "80s"}
SETTINGS: dict[str, EdgeSettings] = {
    "default": edge_settings(**IDLE, windows={"horizon": "1m"}, window=TABLES, limit=(TOO_HOT,), act=(COOL,)),
    "short": edge_settings(**IDLE, window=(hopping("6s", "2s"), session("7s")), windows=SHORT, **RULES, act=(COOL,)),
    "ticks of several": edge_settings(tick_readings=4, windows={"levels": ("10s", "1m"), "held": "0s", "horizon": "30s"}),
    "future": edge_settings(windows={"levels": ("10s", "1m"), "future": "1m", "horizon": "1h"}),
    "by transport": edge_settings(**IDLE, windows=SHORT | {"duplicates": "transport"}),
    "by arrival": edge_settings(windows={"levels": ("10s", "1m"), "time": "arrival", "duplicates": "transport"}, window=(hopping("1m", "20s"),)),
    "detectors": edge_settings(**IDLE, windows=SHORT, detect=(DetectSettings("unusual", "*"),)),
    "waits for a clock": edge_settings(windows={"levels": ("10s", "1m"), "clock_wait": "1m"}, **RULES),
}  # fmt: skip

VALUES = (1.5, -0.0, 20.1, 95.0, -2.25)
OFFSETS = (0, 1, S, S, 3 * S, 3 * S, 10 * S, 11 * S, 30 * S, 59 * S, 61 * S, 100 * S, 3600 * S, -1, -S, -S, -3 * S, -11 * S, -61 * S, -100 * S, -3600 * S)  # fmt: skip
small = st.integers(0, 6)
then = st.sampled_from(("settle", "carry", "lose", "commit", "settle", "wait", "vanish"))
reading = st.tuples(
    st.integers(0, 1),
    st.sampled_from(OFFSETS),
    st.sampled_from(VALUES),
    st.sampled_from((True, True, True, False)),
)
message = st.tuples(
    st.integers(0, 5),
    st.lists(reading, min_size=1, max_size=3),
    st.sampled_from((1, 2, 0)),
    st.sampled_from((True,) * 8 + (False,)),
)
ACTS: dict[str, tuple[int, st.SearchStrategy[tuple[object, ...]]]] = {
    "say": (
        8,
        st.tuples(
            st.lists(message, min_size=1, max_size=3), st.sampled_from((False, False, False, True)), then
        ),
    ),
    "again": (4, st.tuples(st.integers(0, 30), small, then)),
    "connect": (1, st.tuples(small, st.booleans(), st.booleans(), then)),
    "cut": (1, st.tuples(small, st.booleans())),
    "work": (2, st.tuples(st.sampled_from(("loop", "write", "look")))),
    "carry": (1, st.just(())),
    "settle": (1, st.just(())),
    "crash": (1, st.just(())),
    "crash_at": (2, st.tuples(st.integers(1, 12))),
    "reboot": (1, st.tuples(st.sampled_from((0.0, 30.0, 7200.0)))),
    "start": (1, st.just(())),
    "rot": (1, st.just(())),
    "snapshot": (1, st.just(())),
    "age": (2, st.tuples(st.sampled_from((2.0, 40.0, 100.0)))),
    "idle": (1, st.tuples(small, st.sampled_from((S, 100 * S, -S)), st.sampled_from((100.0, 2000.0)))),
    "beyond": (1, st.tuples(st.integers(0, 30), st.booleans())),
    "outage": (1, st.just(())),
    "flush": (1, st.just(())),
    "reload": (1, st.tuples(st.sampled_from(("2s", "5s")), st.sampled_from(("60s", "20s")))),
    "replay": (1, st.just(())),
    "advance": (2, st.tuples(st.sampled_from((0.3, 2.0, 12.0, 61.0, 100.0, 4000.0)))),
    "jump": (1, st.tuples(st.sampled_from((-3.0, -100.0, 100.0, 86_400.0, -3600.0)))),
    "believe": (1, st.tuples(st.sampled_from((0, 0, 0, 1)))),
    "forward": (2, st.just(())),
    "go_on": (1, st.tuples(st.lists(small, min_size=1, max_size=5))),
    "cloud": (2, st.tuples(st.sampled_from((0, 0, 1, 2, 3, 4, 5, 6)))),
    "through": (2, st.tuples(st.sampled_from((0, 0, 1, 2, 3, 4, 5, 6)))),
    "have": (1, st.tuples(small, small)),
    "bus": (1, st.tuples(st.sampled_from((False, False, True)), st.booleans())),
}
"""What may happen: how often, and how."""
NAMES = tuple(name for name, (often, _) in ACTS.items() for _ in range(often))


@st.composite
def acts(draw: st.DrawFn) -> Act:
    """One act by its name; `one_of` would count nested choices and not what is likely."""
    name = draw(st.sampled_from(NAMES))
    return (name, *draw(ACTS[name][1]))


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """The files of a first start, in memory: a crash here is that nothing more is committed, so no sync is needed."""
    with in_memory() as folder:
        new_files(folder)
        yield folder


def said(offset_us: int, value: float = 1.5, qos: int = 1, then: str = "settle", client: int = 0) -> Act:
    """A client's message with one reading of its first device."""
    return ("say", [(client, [(0, offset_us, value, True)], qos, True)], False, then)


KEPT: dict[str, tuple[str, list[Act]]] = {
    "r03 an id is used again for what is lost before it is read": (
        "short", [said(S), said(S), said(S), said(S, 20.1, then="vanish"), said(S)],
    ),
    "r03 an id of QoS 2 is used again in a new session": (
        "short",
        [said(S, qos=2, client=1), ("cut", 1, True), said(S, 20.1, qos=2, client=1), ("cut", 1, False), said(S, qos=2, client=1)],
    ),
    "r04 a resend from before the horizon does not count": (
        "short", [*([said(3 * S)] * 10), ("age", 100.0), ("age", 100.0), ("again", 9, 0, "settle"), said(S)],
    ),
    "r20 what cannot be read comes again": ("short", [("say", [(0, [(0, S, 1.5, True)], 1, False)], False, "lose"), said(S)]),
    "r04 r20 what cannot be told from a resend is dead, and counts when a person says so": (
        "short", [said(S), said(30 * S), said(30 * S), ("beyond", 0, False), ("beyond", 1, True), said(S)],
    ),
    "r07 a session whose start moves is gone from the stores": (
        "short", [said(20 * S), ("flush",), ("settle",), ("through", 0), said(-3 * S), ("flush",), ("settle",), ("through", 0)],
    ),
    "r23 the cloud side crashes between two batches of an epoch": (
        "short",
        [said(S), said(30 * S), ("flush",), ("settle",), ("through", 0), said(30 * S), ("flush",), ("settle",), ("through", 1)],
    ),
    "r15 it dies while a row of the journal is run again": ("default", [("crash",), ("crash_at", 2, "restart.row"), ("start",), ("start",)]),
    "r15 the newest snapshot rots after rows left the journal": (
        "short", [said(S), ("age", 100.0), said(30 * S), ("age", 100.0), said(S), ("crash",), ("rot",), said(-3 * S)],
    ),
    "r07 a late reading comes for a pane that was let go": (
        "short",
        [said(0), ("outage",),
         ("say", [(0, [(0, 0, 1.5, True), (0, -3 * S, 1.5, True)], 1, True), (0, [(0, 0, 1.5, False), (0, 1, 1.5, True)], 1, True)], False, "settle"),
         ("say", [(0, [(0, 0, -0.0, True), (0, 1, 1.5, True)], 1, True)], False, "settle"),
         ("crash_at", 1), ("say", [(0, [(0, 0, 1.5, True), (0, -3 * S, 1.5, True)], 1, True)], True, "settle"),
         ("beyond", 0, False), said(0), said(0), said(0), said(0)],
    ),
    "r22 the bus is away while windows close": ("short", [said(S), said(30 * S), ("outage",)]),
    "r22 it dies before a backlog is drained": (
        "short", [*[said(S), ("flush",), ("settle",)] * 6, ("forward",), said(S), ("crash",)],
    ),
    "r22 windows fall behind for the first time when there are as many gaps of anomalies as may be": (
        "short",
        [said(0), said(0), ("say", [(0, [(0, 0, 95.0, True), (0, 0, -0.0, True)], 1, True)], False, "settle"),
         ("say", [(0, [(0, 0, 95.0, True), (0, 0, 1.5, True), (0, 1, 95.0, True)], 1, True)], True, "settle"),
         ("carry",), ("start",), ("forward",), said(0), said(S), ("forward",), said(0, 95.0), ("age", 2.0)],
    ),
    "r22 rows go once the cloud side has them and two snapshots are after them": (
        "short",
        [said(S), ("flush",), ("settle",), ("forward",), ("go_on", [0, 1, 2, 3, 4, 5, 6]), ("cloud", 0), ("cloud", 0), ("have", 6, 0),
         ("forward",), ("snapshot",), said(S), ("forward",), said(S), ("snapshot",), said(S), ("forward",), said(S)],
    ),
}  # fmt: skip
"""Histories that chance seldom comes to; and what it once found is put here, as it was printed."""


@pytest.mark.covers("R3", "R4", "R7", "R15", "R20", "R22", "R23")
@pytest.mark.parametrize("name", KEPT)
def test_kept_histories(name: str, files: Path) -> None:
    """Each reading is in each window once, in a history that its name tells."""
    of, todo = KEPT[name]
    run(todo, SETTINGS[of], files)


@pytest.mark.covers("R1", "R2", "R3", "R4", "R5", "R6", "R7", "R12", "R15", "R20", "R22", "R31")
@pytest.mark.parametrize("name", SETTINGS)
def test_r30_whatever_happens_each_reading_is_in_each_window_once(name: str, files: Path) -> None:
    """Any interleaving of what devices, agent, bus and cloud side do, with crashes between any two steps: some 400 of them."""
    _search(name, files, settings().max_examples * 6 // 10)


@pytest.mark.fault
@pytest.mark.parametrize("name", SETTINGS)
def test_r30_in_thousands_of_new_histories(name: str, files: Path) -> None:
    """The same, for histories that nobody has seen yet."""
    _search(name, files, settings().max_examples)


def _search(name: str, files: Path, most: int) -> None:
    @settings(max_examples=most)
    @given(st.lists(acts(), min_size=12, max_size=40))
    def histories(todo: list[Act]) -> None:
        run(todo, SETTINGS[name], files)

    histories()


def run(todo: list[Act], of: EdgeSettings, files: Path) -> History:
    """Live a history through: all clients are connected when it begins."""
    begin: list[Act] = [("start",), ("settle",), *(("connect", n, False, False, "settle") for n in range(3))]
    folder = files.parent / f"{files.name}-run"
    folder.mkdir()
    try:
        history = History(files, folder, of)
        history.run(begin + todo)
    finally:
        shutil.rmtree(folder)
    return history
