"""River in the agent: the same over kills and snapshots, and an agent that runs on whatever became of key and snapshot (R15, R21, R31)."""

from __future__ import annotations

import os
import pickle
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from headwater_edge import keeping, replay, snapshot
from headwater_edge.commit import Writer
from headwater_edge.detect_settings import DetectSettings
from headwater_edge.detection.key import FileSeal
from headwater_edge.detection.models import Models
from headwater_edge.detection.river import River
from headwater_edge.detection.signed import Seal
from headwater_edge.settings import step_settings
from headwater_edge.snapshot import Picture
from headwater_edge.store import read_store
from tests.edge.judging import EACH, anomaly
from tests.edge.run import Run
from tests.edge.running import FILE, Publish, Running, as_after_a_kill, edge_settings, running
from tests.edge.test_agent import T0, reading, run
from tests.edge.test_detection_in_step import FLOW, day, found, settings_of
from tests.support import until_async

SAD = EACH["StandardAbsoluteDeviation"]
RULES = (
    DetectSettings(
        "river",
        "s1/*",
        (
            "default", SAD, EACH["HalfSpaceTrees"],
            anomaly("PredictiveAnomalyDetection", metrics=("temp", "flow")),
            anomaly("OneClassSVM", metrics=("temp", "flow"), before=("river.preprocessing.StandardScaler",)),
        ),
    ),
)  # fmt: skip


@pytest.mark.parametrize("seed", [1])
def test_r31_what_river_finds_does_not_depend_on_ticks_and_outlives_kills(seed: int) -> None:
    """Many messages a tick, and a few a tick with snapshots and kills between: the same anomalies and models, to the last bit."""
    chance, seal = random.Random(seed), Seal(b"k" * 32, "a1")
    whole, cut = Run(settings_of(RULES), seal), Run(settings_of(RULES), seal)
    whole.start()
    cut.start()
    messages = [*day(seed, 200, 180), *day(seed + 90, 200, -1, FLOW)]
    messages.sort(key=lambda message: message.readings[0][1] or 0)
    for at in range(0, len(messages), 97):
        whole.tick(*messages[at : at + 97])
    for number in range(0, len(messages), 8):
        cut.tick(*messages[number : number + 8])
        if number in (320, 640, 880):
            cut.picture()
        if number in (240, 480, 720, 920):
            cut.crash(cut.pictures[-1] if cut.pictures and chance.random() < 0.8 else None)

    def by_series(run: Run) -> list[tuple[object, ...]]:
        return sorted((a.id, a.phase, a.time_us, a.value, a.degree, repr(a.scores)) for a in found(run))

    assert by_series(whole) == by_series(cut)
    assert {score.detector for a in found(whole) for score in a.scores} >= {
        SAD.use,
        EACH["HalfSpaceTrees"].use,
    }
    cut.crash(cut.pictures[0])


def _settings() -> Any:
    return edge_settings(detect=(DetectSettings("river", "*", (SAD,)),), windows={"lateness": "0s"})


def _river(box: Running) -> River:
    (judge,) = box.agent.state.detection.judges
    (one,) = judge.alone.ensemble.detectors
    assert isinstance(one, River)
    return one


async def _publish(box: Running, first: int, last: int) -> None:
    for at in range(first, last):
        box.clock.advance(10)
        await box.publish(reading(10 * at, 20.0 + at % 3))


async def _pictured(box: Running, at: int) -> None:
    """Go on until a snapshot counts that has all up to now."""
    await _written(box)
    tick = box.agent.committed
    await _publish(box, at, at + 1)
    await _written(box)
    assert box.agent.keeping.snapshots[0] >= tick


async def _written(box: Running) -> None:
    """Wait for a snapshot that is whole: its pieces are written when there is nothing else to write."""
    await until_async(lambda: box.agent._writer._half is not None or not box.agent.keeping._picturing)


async def _learn(folder: Path, seal: Seal) -> int:
    """An agent learns some 30 windows, with a snapshot somewhere in them, and is killed; return how many."""
    folder.mkdir()  # noqa: ASYNC240 - before anything waits for the loop
    async with running(folder, _settings(), seal=seal) as box:
        await _publish(box, 0, 25)
        await _pictured(box, 25)
        await _publish(box, 26, 31)
        as_after_a_kill(folder, folder.with_name("killed"))
        return int(_river(box).learnt[0])


def _signed(folder: Path) -> int:
    """How many models the snapshots of a file hold, whatever their signatures."""
    reader, count = read_store(folder / FILE), 0
    for tick in snapshot.ticks(reader):
        taken = snapshot.read(reader, tick)
        count += sum(sum(one.lost.values()) for one in taken.arrays.values() if isinstance(one, Models))
    reader.close()
    return count


def test_r21_the_agent_goes_on_with_what_it_has_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill: from the snapshot, with the key beside the folder; `replay` finds the same with it."""
    monkeypatch.setattr(keeping, "_REPLAY_US", 0)
    key = tmp_path / "first-key" / "state.key"

    async def test() -> None:
        with capture_logs() as logs:
            learnt = await _learn(tmp_path / "first", FileSeal(key, "a1"))
            async with running(tmp_path / "killed", _settings(), seal=FileSeal(key, "a1")) as box:
                assert _river(box).learnt.tolist() == [learnt]
                assert _river(box).lost == {}
        assert not [one for one in logs if "learnt anew" in one["event"]]
        assert _signed(tmp_path / "killed") > 0
        reader, seal = read_store(tmp_path / "killed" / FILE), FileSeal(key, "a1")
        state = replay.begin(reader, step_settings(_settings()), 0, seal)
        assert [one for tick in replay.compared(reader, state, seal) for one in tick.differences] == []
        reader.close()

    run(test())


def _lose_key(key: Path, file: Path) -> None:
    key.unlink()


def _other_key(key: Path, file: Path) -> None:
    key.write_bytes(os.urandom(32))


class _Touches:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def _forge(key: Path, file: Path) -> None:
    """Someone with the file, and without the key, writes a snapshot whose models would run code; its hashes are right."""
    connection = sqlite3.connect(file)
    for tick in snapshot.ticks(connection):
        mine = Seal(b"m" * 32, "a1")
        rows = [
            row
            for (row,) in connection.execute(
                "SELECT body FROM snapshot WHERE tick = ? ORDER BY section", (tick,)
            )
        ]
        picture = snapshot.decode(tick, rows)
        for one in picture.arrays.values():
            if isinstance(one, Models):
                one.pickles = dict.fromkeys(one.names, pickle.dumps(_Touches(file.with_name("ran"))))
        connection.execute("DELETE FROM snapshot WHERE tick = ?", (tick,))
        forged = enumerate(snapshot.encode(picture, mine))
        connection.executemany(
            "INSERT INTO snapshot VALUES (?, ?, ?)", [(tick, at, row) for at, row in forged]
        )
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (_lose_key, "cannot be had: No such file"),
        (_other_key, "not signed with the key of this device"),
        (_forge, "not signed with the key of this device"),
    ],
    ids=["the key is lost", "another key", "a forged snapshot"],
)
def test_r21_the_agent_runs_on_whatever_became_of_key_and_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Callable[[Path, Path], None], why: str
) -> None:
    """It starts, says in the log what is learnt anew and why, runs nothing of it, and is signing again."""
    monkeypatch.setattr(keeping, "_REPLAY_US", 0)
    key, killed = tmp_path / "first-key" / "state.key", tmp_path / "killed"

    async def test() -> None:
        learnt = await _learn(tmp_path / "first", FileSeal(key, "a1"))
        what(key, killed / FILE)
        with capture_logs() as logs:
            async with running(killed, _settings(), seal=FileSeal(key, "a1")) as box:
                assert _river(box).learnt[0] < learnt
                ((said, count),) = _river(box).lost.items()
                assert why in said
                assert count == 1
                await _publish(box, learnt + 10, learnt + 22)
                await _pictured(box, learnt + 22)
        assert [
            one["models"]
            for one in logs
            if one["event"].startswith("models of a snapshot cannot be taken up")
        ]
        assert not (killed / "ran").exists()
        assert _signed(killed) > 0
        assert key.exists()

    run(test())


def test_r15_the_models_of_a_snapshot_are_copied_a_few_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little a tick may take for it, the snapshot comes to its end by ticks alone, and counts."""
    monkeypatch.setattr(keeping, "_REPLAY_US", 0)
    monkeypatch.setattr(Writer.go_on_with_picture, "__defaults__", (0.0,))
    monkeypatch.setattr("headwater_edge.pipeline._IDLE_COPY_S", 0.0)
    publish = reading(0, 1.0)

    def all_at(at: int) -> Publish:
        values = {"t": T0 + 10 * at} | {f"m{n}": float(at + n) for n in range(8)}
        return publish._replace(topic="hw/s1/d1/data", payload=msgspec.json.encode(values))

    halves, real = [], Writer.picture

    def picture(writer: Writer, taken: Picture) -> None:
        real(writer, taken)
        if writer._half is taken:
            halves.append(taken.tick)

    monkeypatch.setattr(Writer, "picture", picture)

    async def test() -> None:
        async with running(tmp_path, _settings(), seal=Seal(b"k" * 32, "a1")) as box:
            for at in range(4):
                box.clock.advance(10)
                await box.publish(all_at(at))
            while not halves or box.agent.keeping.snapshots[0] < halves[0]:
                await box.publish(publish)  # no window closes by it
                await _written(box)
            assert box.agent.committed >= halves[0] + 7
        assert _signed(tmp_path) >= 8

    run(test())
