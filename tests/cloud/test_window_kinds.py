"""Windows of every kind, from an agent's step through the bus into the history: hopping ones, sessions that late readings
bridge, and what stands in the stores meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from headwater_cloud.history import History
from headwater_cloud.retention import Keep
from headwater_cloud.runner import Runner
from headwater_cloud.store import Store
from headwater_edge.output import Output
from headwater_shared import frame, records
from headwater_shared.bus import Record
from headwater_shared.clock import SetClock
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.edge.feed import DAY, S, hopping, session, step_settings_of
from tests.edge.run import Run
from tests.edge.test_rules import TEMP, message
from tests.reference import Window

Place = tuple[str, str, int]


class Cloud:
    """The cloud side on a real log and file, stepped by hand."""

    def __init__(self, folder: Path, clock: SetClock) -> None:
        self.file = folder / "cloud.db"
        self.log = SqliteLog(folder / "log.db", wall=lambda: clock.wall_us)
        self.store = Store(self.file)
        self.runner = Runner(self.log, self.store, clock)

    def take(self, outputs: list[Output]) -> None:
        """Put frames on the bus, and take them in."""
        made = [one for output in outputs for one in output.frames]
        self.log.append(
            [
                Record(
                    IN.name, one.shard, one.agent,
                    records.headers(records.FRAME, f"{one.agent}/{one.epoch:016x}/{one.shard}/{one.seq}", "edge", DAY),
                    frame.encode(one),
                )
                for one in made
            ]
        )  # fmt: skip
        while self.runner.step():
            pass

    def windows(self) -> dict[Place, Window]:
        """All that the history holds."""
        found: dict[Place, Window] = {}
        with closing(History(self.file)) as history:
            for level in history.levels():
                of = history.level(level)
                for row, start in enumerate(of.start.tolist()):
                    a = of.aggregates
                    found[of.names[int(of.series[row])], level, start] = Window(
                        int(a.count[row]), int(a.digest[row]), float(a.mean[row]), float(a.m2[row]), float(a.min[row]),
                        float(a.max[row]), float(a.first[row]), int(a.first_time[row]), float(a.last[row]),
                        int(a.last_time[row]),
                    )  # fmt: skip
        return found


@contextmanager
def cloud(folder: Path, clock: SetClock) -> Iterator[Cloud]:
    made = Cloud(folder, clock)
    try:
        yield made
    finally:
        made.runner.close()
        made.store.close()
        made.log.close()


def assert_same(found: dict[Place, Window], wanted: dict[Place, Window]) -> None:
    """Compare but for sketches, which the history gives as quantiles."""
    assert found.keys() == wanted.keys()
    for place, window in wanted.items():
        other = found[place]
        for name in ("count", "digest", "min", "max", "first", "first_time", "last", "last_time"):
            assert getattr(other, name) == getattr(window, name), f"{place}: {name}"


def sessions_in(side: Cloud, level: str = "session-1m") -> list[tuple[int, int]]:
    """Return (start after DAY in s, count) of the sessions in the history."""
    return sorted(((p[2] - DAY) // S, w.count) for p, w in side.windows().items() if p[1] == level)


def test_r07_stores_delete_a_session_that_another_one_absorbed(tmp_path: Path) -> None:
    """Two sessions, then a late reading between them: one is left, with all readings, and no moment without any of them."""
    agent = Run(step_settings_of(session("1m"), levels=("10s",), held="10m"))
    agent.start()
    with cloud(tmp_path, agent.clock) as side:
        agent.tick(message(3), message(100))
        side.take([agent.tick(message(300)), agent.outputs[1]][::-1])
        assert sessions_in(side) == [(3, 1), (100, 1)]
        before = agent.outputs[1:3]
        side.take([agent.tick(message(50))])
        assert sessions_in(side) == [(3, 3)]
        side.take(before)  # once more: the bus may hold rows twice
        assert sessions_in(side) == [(3, 3)]
        side.take([agent.tick(message(-20))])
        assert sessions_in(side) == [(-20, 4)]
        side.take([agent.flush()])
        assert_same(side.windows(), agent.account.windows(agent.settings))


def test_r01_a_session_of_two_epochs_is_one_window(tmp_path: Path) -> None:
    """What a start sealed and what came after it bear one start: the history has one session."""
    agent = Run(step_settings_of(session("1m"), levels=("10s",)))
    agent.start()
    agent.tick(message(3))
    agent.start()
    agent.tick(message(30))
    agent.start()
    agent.tick(message(70))
    agent.flush()
    with cloud(tmp_path, agent.clock) as side:
        side.take(agent.outputs)
        assert sessions_in(side) == [(3, 3)]
        assert_same(side.windows(), agent.account.windows(agent.settings))


def test_windows_of_every_kind_are_the_references_in_any_order_of_frames(tmp_path: Path) -> None:
    """A thousand readings, many late, a start among them: what the history holds is what the step's parts make, and but for
    sessions what the reference says, however frames come.
    """
    chance = random.Random(3)
    agent = Run(step_settings_of(session("20s"), hopping("1m", "20s", "*/temp"), levels=("10s", "1m")))
    agent.start()
    for tick in range(60):
        at = 9 * tick
        late = [message(at - chance.choice((0, 5, 15, 40, 100)), chance.random(), name) for name in NAMES]
        agent.tick(*(one for one in late if chance.random() < 0.6))
        if tick == 30:
            agent.start()
    agent.flush()
    agent.check()
    shuffled = agent.outputs[:]
    chance.shuffle(shuffled)
    with cloud(tmp_path, agent.clock) as side:
        for begin in range(0, len(shuffled), 7):
            side.take(shuffled[begin : begin + 7])
        assert_same(side.windows(), agent.merged.windows())
        side.take(agent.outputs[::3])
        assert_same(side.windows(), agent.merged.windows())


NAMES = [TEMP, "s1/d2/temp", "s2/d3/flow", "s3/d4/temp"]


def test_levels_over_arrival_are_kept_as_long_as_those_over_event_time() -> None:
    """The defaults name 10s and 1m: they hold whatever time windows are over, unless the level is named itself."""
    keep = Keep({"10s": 7, "1m": 60, "1m@arrival": 5}, 0)
    assert [keep.of(name) for name in ("10s", "10s@arrival", "1m@arrival", "10m", "session-10s")] == [
        7, 7, 5, None, None
    ]  # fmt: skip


def test_levels_are_listed_finest_first_and_sessions_last(tmp_path: Path) -> None:
    """A session has no length to stand by."""
    agent = Run(
        step_settings_of(session("20s"), hopping("1m", "20s"), hopping("20s", "10s"), levels=("10s", "2m"))
    )
    agent.start()
    agent.tick(message(1))
    agent.flush()
    with cloud(tmp_path, agent.clock) as side:
        side.take(agent.outputs)
        with closing(History(side.file)) as history:
            assert history.levels() == ["10s", "20s/10s", "1m/20s", "2m", "session-20s"]
