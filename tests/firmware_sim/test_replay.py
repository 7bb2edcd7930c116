"""`headwater-sim replay`: a table is sent as a fleet is, at any speed, and taken up again."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from headwater_firmware_sim import pipeline
from headwater_firmware_sim.csv_mapping import guess
from headwater_firmware_sim.csv_table import read_table
from headwater_firmware_sim.replay import Replay, replay_of
from headwater_firmware_sim.server import Server
from headwater_shared.errors import SettingsError
from headwater_shared.ledger import read
from tests.firmware_sim.sink import IGNORE, Published, sink

AT = 1_764_000_000_000_000


def table(folder: Path, rows: int = 40) -> Path:
    """Two devices with two metrics, a row each in 30 s."""
    path = folder / "plant.csv"
    lines = [f"{AT // 1_000_000 + 30 * n},{'left' if n % 2 else 'right'},{n},{n / 8}" for n in range(rows)]
    path.write_text("\n".join(["time,device,a,b", *lines]) + "\n")
    return path


def replayed(path: Path, **options: object) -> Replay:
    mapping = guess(path)
    given = {"origin_us": time.time_ns() // 1000, "speed": 0.0, "to_now": False} | options
    return replay_of(path, mapping, read_table(path, mapping, site="csv", device="x"), **given)  # type: ignore[arg-type]


def test_every_reading_is_sent_as_it_stands_in_the_table(tmp_path: Path) -> None:
    """One device a device of it, under its name, with its times; the ledger has all, acknowledged."""
    with sink() as told:
        done = pipeline.replay(replayed(table(tmp_path)), Server(port=told.port), tmp_path / "ledger")
    assert done.complete
    said = {
        (one.topic, json.loads(one.payload)["t"]): json.loads(one.payload)["values"] for one in told.published
    }
    assert said["hw/csv/left/data", AT + 30_000_000] == {"a": 1.0, "b": 0.125}
    assert len(said) == 40
    truth = read(tmp_path / "ledger")
    assert len(truth.time) == 80
    assert truth.acknowledged.all()
    assert truth.series == ["csv/right/a", "csv/right/b", "csv/left/a", "csv/left/b"]


def test_a_speed_spreads_it_over_so_much_less_time(tmp_path: Path) -> None:
    """Twenty minutes at 900 times the speed are 1.3 s, in even steps."""
    at: list[float] = []
    with sink() as told:
        answer = told.answer
        told.answer = lambda one: at.append(time.monotonic()) or answer(one)  # type: ignore[func-returns-value]
        pipeline.replay(replayed(table(tmp_path), speed=900.0), Server(port=told.port), tmp_path / "ledger")
    assert 1.1 < at[-1] - at[0] < 3
    assert max(b - a for a, b in pairwise(at)) < 0.9


@pytest.mark.parametrize("speed", [0.0, 900.0, 1.0, 0.5])
def test_moved_to_now_no_reading_is_of_the_future(tmp_path: Path, speed: float) -> None:
    """The distances stay; the last one is of the moment in which it is sent, or, slower than it was, the first."""
    what = replayed(table(tmp_path), speed=speed, to_now=True, origin_us=AT * 2)
    first, last = what.table.span_us
    moved = what._moved_us()
    due = what.due_us(what.table.devices["csv", "left"][0], AT * 2)
    stamps = (what.table.devices["csv", "left"][0] + moved).tolist()
    assert all(stamp <= when for stamp, when in zip(stamps, due, strict=True))
    lasts = (last - first) / speed if speed else 0
    assert (first + moved == AT * 2) if 0 < speed < 1 else (last + moved == AT * 2 + lasts)


def test_a_replay_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """With the same ledger nothing is sent twice as new, and nothing is left out; another speed is another run."""
    path = table(tmp_path, 400)
    stop = threading.Event()
    with sink() as told:
        known = told.answer

        def falls_silent(one: Published) -> str:
            if len(told.published) <= 50:
                return known(one)
            stop.set()
            return IGNORE

        told.answer = falls_silent
        first = pipeline.replay(
            replayed(path, to_now=True), Server(port=told.port), tmp_path / "ledger", stop=stop, drain_s=0.1
        )
        assert not first.complete
        told.answer = known
        again = pipeline.replay(replayed(path, to_now=True), Server(port=told.port), tmp_path / "ledger")
    assert again.complete
    truth = read(tmp_path / "ledger")
    assert len(set(zip(truth.series_of.tolist(), truth.time.tolist(), strict=True))) == 800
    assert len({one.payload for one in told.published}) == 400
    with pytest.raises(SettingsError, match="of a run with speed"):
        pipeline.replay(replayed(path, to_now=True, speed=2.0), Server(port=told.port), tmp_path / "ledger")


def test_no_speed_below_nothing(tmp_path: Path) -> None:
    """Time does not go back."""
    with pytest.raises(SettingsError, match="back in time"):
        replayed(table(tmp_path), speed=-1.0)
