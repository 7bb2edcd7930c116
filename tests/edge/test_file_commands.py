"""`headwater-edge check | salvage | replay`: what they say of a file, and that they leave it as it is."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headwater_edge.cli import app
from headwater_edge.store import VERSION
from headwater_shared.errors import Refused, StateError, StateNewer
from headwater_shared.sqlite_file import WriterLock
from tests.edge import damaged
from tests.edge.damaged import FIRST, SECOND, T0, S, Victim, copied, start_again
from tests.edge.running import FILE, LOG


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return damaged.victim(tmp_path_factory.mktemp("victim"), pictures=True)


@pytest.fixture
def victim(killed: Victim, tmp_path: Path) -> Victim:
    return copied(killed, tmp_path / "copy")


def _said(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def _prints(folder: Path) -> dict[str, str]:
    """Hash every file of a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _closed(victim: Victim) -> None:
    """Bring all of a file into one, without a log."""
    with closing(sqlite3.connect(victim.folder / FILE)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("closed", [False, True], ids=["with a log", "closed"])
def test_no_command_writes_to_the_file(victim: Victim, tmp_path: Path, closed: bool) -> None:
    """Neither file, nor log, nor anything beside them is changed or made."""
    if closed:
        _closed(victim)
    before = _prints(victim.folder)
    _said("check", victim.folder / FILE)
    _said("replay", victim.folder / FILE)
    _said("salvage", victim.folder / FILE, "--into", tmp_path / "new.db")
    _said("salvage", victim.folder / FILE, "--folder", tmp_path / "folder")
    assert _prints(victim.folder) == before


def test_check_of_a_sound_file(victim: Victim) -> None:
    """Versions, what waits, the oldest row that was not sent, and bytes by table and by day."""
    found = json.loads(_said("check", victim.folder / FILE, "--json"))
    assert found["faults"] == []
    assert found["agent"] == "a1"
    assert found["format"].startswith(f"{VERSION} ")
    assert found["written by"] == "test"
    assert found["epochs"] == 2
    assert found["pending"] > found["unsent"] > 0
    assert found["oldest unsent"].startswith("of tick ")
    assert found["dead letters"] == 1
    assert [line.split(": ")[1] for line in found["snapshots"]] == ["good", "good"]
    assert {"journal", "outbox", "snapshot", "free"} <= set(found["bytes by table"])
    assert "pending" in _said("check", victim.folder / FILE)


def test_check_tells_bytes_a_day(tmp_path: Path) -> None:
    """A day of rows like those that are there, table by table."""
    import asyncio

    from tests.edge.running import running

    async def lived() -> None:
        async with running(tmp_path) as box:
            for at in range(20):
                box.clock.advance(60)
                await box.publish(damaged.publish("s1/d1/temp", at))

    asyncio.run(lived())
    found = json.loads(_said("check", tmp_path / FILE, "--json"))
    rows = damaged.tables(tmp_path / FILE, "SELECT sum(length(body)), max(tick) FROM journal")
    assert isinstance(rows[0][0], int)
    assert found["bytes a day"]["journal"] == pytest.approx(rows[0][0] * 86_400 / (20 * 60), rel=0.01)


def test_check_of_damaged_files(victim: Victim) -> None:
    """Each damage is named, and the exit code says so."""
    with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE snapshot SET body = x'00' WHERE section = 1 AND tick = (SELECT max(tick) FROM snapshot)"
        )
        connection.execute("DELETE FROM journal WHERE tick = 30")
    faults = json.loads(_said("check", victim.folder / FILE, "--json", code=1))["faults"]
    assert any("snapshot of tick" in fault for fault in faults)
    assert any("lacks 1 ticks" in fault for fault in faults)
    with (victim.folder / FILE).open("r+b") as file:
        file.write(b"\xff" * 100)
    assert "not a database" in _said("check", victim.folder / FILE, code=1)


def test_check_of_a_file_in_use(victim: Victim) -> None:
    """It is read beside its agent."""
    lock = WriterLock(victim.folder / FILE)
    try:
        assert json.loads(_said("check", victim.folder / FILE, "--json"))["faults"] == []
        with pytest.raises(StateError, match="in use"):
            _said("salvage", victim.folder / FILE, "--into", victim.folder / "new.db")
    finally:
        lock.release()


def test_check_of_what_is_not_there_or_newer(victim: Victim, tmp_path: Path) -> None:
    """One clear line."""
    with pytest.raises(StateError, match="there is no file"):
        _said("check", tmp_path / "nothing.db")
    with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    for command in (["check"], ["replay"], ["salvage", "--into", str(tmp_path / "new.db")]):
        with pytest.raises(StateNewer):
            _said(command[0], victim.folder / FILE, *command[1:])


def test_salvage_into_a_new_file_that_an_agent_goes_on_with(victim: Victim, tmp_path: Path) -> None:
    """What an operator makes of a card from the field is what the agent itself would have made."""
    os.truncate(victim.folder / FILE, 20_000)
    new = tmp_path / "new"
    new.mkdir()
    said = _said("salvage", victim.folder / FILE, "--into", new / FILE)
    assert "saved in" in said
    (new / LOG).write_bytes((victim.folder / LOG).read_bytes())
    after = start_again(Victim(new, victim.sent))
    second = {key for key in victim.sent if (T0 + 10 * (FIRST + 2)) * S <= key[1] < (T0 + 10 * SECOND) * S}
    assert second <= after.counted | after.dead
    with pytest.raises(Refused, match="there already"):
        _said("salvage", victim.folder / FILE, "--into", new / FILE)


def test_salvage_into_a_folder(victim: Victim, tmp_path: Path) -> None:
    """Frames as Avro, dead letters as JSON lines, and what was lost."""
    from headwater_shared import frame

    with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
        connection.execute("DELETE FROM snapshot")
        connection.execute("DELETE FROM journal WHERE tick = 50")
    out = tmp_path / "out"
    _said("salvage", victim.folder / FILE, "--folder", out)
    frames = [frame.decode(path.read_bytes()) for path in (out / "frames").iterdir()]
    assert {one.agent for one in frames} == {"a1"}
    letters = [json.loads(line) for line in (out / "dead-letters.jsonl").read_text().splitlines()]
    assert {letter["reason"] for letter in letters} >= {"salvaged"}
    assert json.loads((out / "summary.json").read_text())[5] == 1  # ticks lost


def test_replay_shows_each_tick_and_finds_what_differs(victim: Victim) -> None:
    """What came in, what went out, and that this is what is stored; a stored row that is another one is named."""
    said = _said("replay", victim.folder / FILE, "-v")
    assert "0 differences" in said.splitlines()[-1]
    assert f"s1/d1/temp at {(T0 + 10 * 20) * S}: 20.25" in said
    with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
        tick, seq = connection.execute("SELECT tick, seq FROM outbox ORDER BY n DESC LIMIT 1").fetchone()
        connection.execute("UPDATE outbox SET hash = x'0011223344556677' WHERE tick = ?", (tick,))
    said = _said("replay", victim.folder / FILE, "--from", str(tick), code=1)
    assert "DIFFERS: shard" in said
    assert f"seq {seq}: another frame is stored" in said
    lines = [
        json.loads(line) for line in _said("replay", victim.folder / FILE, "--json", code=1).splitlines()
    ]
    assert [line["tick"] for line in lines] == list(range(1, tick + 1))
    assert len(lines[-1]["differences"]) >= 1
