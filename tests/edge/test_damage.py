"""Damaged files: the agent starts, says so in one clear line, sends what is readable, and nothing counts twice (R15)."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headwater_edge import aside, opening
from headwater_edge.opening import is_damage
from headwater_edge.restart import resume
from headwater_edge.settings import step_settings
from headwater_edge.store import open_store
from headwater_shared.errors import StateForeign
from headwater_shared.sqlite_file import read_only
from tests.edge import damaged
from tests.edge.damaged import FIRST, SECOND, SERIES, T0, After, S, Victim, copied, start_again
from tests.edge.running import FILE, edge_settings, running
from tests.support import until_async

WAL = FILE + "-wal"


@pytest.fixture(scope="module", params=[True, False], ids=["pictures", "journal"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return damaged.victim(tmp_path_factory.mktemp("victim"), pictures=request.param)


@pytest.fixture
def victim(killed: Victim, tmp_path: Path) -> Victim:
    return copied(killed, tmp_path / "copy")


def _all_there(after: After, victim: Victim, *, dead: int = 0) -> None:
    """Nothing is lost: each reading is counted, but for those that are dead letters."""
    assert set(victim.sent) - after.counted <= after.dead
    assert len(after.dead) <= dead or dead < 0


def _ticks_go_on(after: After, last: int) -> None:
    assert after.tick > last


def _last_tick(victim: Victim) -> int:
    (tick,) = damaged.tables(victim.folder / FILE, "SELECT max(tick) FROM journal")[0]
    assert isinstance(tick, int)
    return tick


def _set_aside(victim: Victim) -> list[str]:
    return [path.name for path in aside.all_aside(victim.folder / FILE)]


def test_a_sound_file_is_left_alone(victim: Victim) -> None:
    """After a kill nothing is set aside, and every reading counts once."""
    after = start_again(victim)
    _all_there(after, victim)
    assert _set_aside(victim) == []
    assert after.counted == set(victim.sent)


def test_r15_a_file_without_its_head_is_read_page_by_page(victim: Victim) -> None:
    """SQLite cannot open it; every row that stands on a good page is taken over, ticks go on, the file is set aside."""
    last = _last_tick(victim)
    _behead(victim)
    after = start_again(victim)
    _ticks_go_on(after, last)
    _all_there(after, victim)
    assert _set_aside(victim) == [FILE + ".damaged-1"]
    assert after.status["files_set_aside"] == 1
    assert after.status["lost_ticks"] == 0


@pytest.mark.parametrize("part", [0.0, 0.01, 0.4])
def test_a_truncated_file(victim: Victim, part: float) -> None:
    """Cut short, or empty: what the log and the pages that are left hold is saved, and the rest is named."""
    os.truncate(victim.folder / FILE, int(part * (victim.folder / FILE).stat().st_size))
    after = start_again(victim)
    assert _set_aside(victim) == [FILE + ".damaged-1"]
    assert _waiting_before(victim) <= after.counted | after.dead
    (event,) = _events(victim)
    assert event["why"]


def test_the_file_is_gone_and_its_log_is_not(victim: Victim) -> None:
    """SQLite would delete the log; here what it holds is saved first."""
    (victim.folder / FILE).unlink()
    after = start_again(victim)
    assert _set_aside(victim) == [FILE + ".damaged-1"]
    assert _waiting_before(victim) <= after.counted | after.dead


def test_a_log_that_is_damaged_in_its_middle(victim: Victim) -> None:
    """SQLite would end at the damaged frame without a word, and write over what comes after it: that is saved, and said."""
    last = _last_tick(victim)
    size = (victim.folder / WAL).stat().st_size
    _flip(victim.folder / WAL, size // 2)
    after = start_again(victim)
    assert _set_aside(victim) == [FILE + ".damaged-1"]
    _ticks_go_on(after, last)
    assert (victim.folder / (FILE + ".damaged-1-wal")).exists()
    (event,) = _events(victim)
    assert "middle" in str(event["why"])
    assert len(set(victim.sent) - after.counted - after.dead) <= 2 * int(str(event["lost_ticks"]))


def test_the_log_is_gone(victim: Victim) -> None:
    """An agent that was killed leaves a log: where there is none, the last commits are lost, and that is said."""
    (victim.folder / WAL).unlink()
    after = start_again(victim)
    (event,) = _events(victim)
    assert "log is gone" in str(event["why"])
    assert {key for key in victim.sent if key[1] < (T0 + 10 * FIRST) * S} <= after.counted | after.dead


def test_a_log_of_another_file(victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that belongs to another agent's file is not taken for this one's: no reading of that one counts here; also of a file
    that is too large to be looked through at a start.
    """
    monkeypatch.setattr(opening, "_LOOKED_THROUGH", 0)
    (tmp_path / "other").mkdir()
    other = damaged.victim(tmp_path / "other", pictures=True, settings=damaged.settings_with(name="a2"))
    (victim.folder / WAL).write_bytes((other.folder / WAL).read_bytes())
    after = start_again(victim)
    assert _set_aside(victim) == [FILE + ".damaged-1"]
    assert {key for key in victim.sent if key[1] < (T0 + 10 * FIRST) * S} <= after.counted | after.dead
    (event,) = _events(victim)
    assert event["why"] == "the write-ahead log beside it is that of another file"


def test_a_log_is_its_own_though_the_files_name_is_damaged(victim: Victim) -> None:
    """One flipped bit in the name that the file has for itself (found by random damage): what only its log holds is not lost."""
    path = victim.folder / FILE
    with closing(read_only(path)) as connection:
        (name,) = connection.execute("SELECT value FROM meta WHERE name = 'file'").fetchone()
    at = path.read_bytes().find(name.encode())
    assert at > 0
    _overwrite(path, at, bytes((name.encode()[0] ^ 1,)))
    _all_there(start_again(victim), victim)
    assert not any("another file" in str(event["why"]) for event in _events(victim))


def test_a_flipped_bit_in_the_name_of_a_column(victim: Victim) -> None:
    """SQLite finds the file sound and says "no such column" (as random damage found): it is damage, and salvaged as such."""
    _change(victim)
    path = victim.folder / FILE
    at = path.read_bytes().find(b"coverage(tick INTEGER")
    assert at > 0
    _overwrite(path, at + len(b"coverage("), b"u")
    _all_there(start_again(victim), victim)
    (event,) = _events(victim)
    assert event["lost_ticks"] == event["lost_rows"] == 0


def test_something_else_under_its_name(victim: Victim) -> None:
    """What is no database at all is set aside as well, and nothing in it is changed."""
    (victim.folder / FILE).write_bytes(b"someone's notes\n" * 500)
    (victim.folder / WAL).unlink()
    start_again(victim)
    assert (victim.folder / (FILE + ".damaged-1")).read_bytes() == b"someone's notes\n" * 500


def test_a_snapshot_that_does_not_read_back(victim: Victim, caplog: pytest.LogCaptureFixture) -> None:
    """An older one and the journal bring the same state back; nothing is set aside, nothing is lost."""
    _change(
        victim,
        "UPDATE snapshot SET body = x'00' WHERE tick = (SELECT max(tick) FROM snapshot) AND section = 1",
    )
    after = start_again(victim)
    assert _set_aside(victim) == []
    assert after.counted == set(victim.sent)


def test_r15_no_snapshot_reads_back(victim: Victim) -> None:
    """The journal from its beginning on brings the state back; without its first rows, what it holds are dead letters."""
    _change(victim, "UPDATE snapshot SET body = zeroblob(9)")
    after = start_again(victim)
    assert after.counted == set(victim.sent)
    assert _set_aside(victim) == []


def test_r15_what_no_good_snapshot_reaches_becomes_dead_letters(victim: Victim) -> None:
    """With a hole in the journal, readings behind it are dead letters `salvaged`: none is lost but those of the hole, none twice."""
    last = _last_tick(victim)
    hole = last - 8
    _change(victim, "DELETE FROM snapshot", f"DELETE FROM journal WHERE tick = {hole}")
    after = start_again(victim)
    (event,) = _events(victim)
    assert (event["reached"], event["tick"], event["lost_ticks"]) == (hole - 1, last, 1)
    assert event["salvaged"] == 8
    assert after.status["salvaged"] == 8
    assert len(set(victim.sent) - after.counted - after.dead) <= 1
    for series in SERIES:  # in no window yet, sent again, and known: it counts once a person says so
        assert (series, (T0 + 10 * (SECOND - 1)) * S) in after.dead - after.counted
    _ticks_go_on(after, last)


def test_r04_a_resend_of_what_went_out_of_lost_ticks_does_not_count_again(victim: Victim) -> None:
    """The journal's last rows are gone, and the frames that they made are not: a resend is no second count, but a letter `beyond-horizon`."""
    last = _last_tick(victim)
    _change(
        victim,
        "DELETE FROM snapshot",
        f"DELETE FROM journal WHERE tick > {last - 8}",
        f"DELETE FROM arrival WHERE tick > {last - 8}",
    )
    (victim.folder / (FILE + ".suspect")).write_text("a test says so")
    after = start_again(victim, resend=6)
    (event,) = _events(victim)
    assert event["lost_ticks"] == 8
    went_out = {(series, (T0 + 10 * (SECOND - 3)) * S) for series in SERIES}
    assert went_out <= after.dead


@pytest.mark.parametrize("killed", [True], ids=["pictures"], indirect=True)
def test_r15_names_of_series_are_taken_from_the_head_of_a_broken_snapshot(
    killed: Victim, tmp_path: Path
) -> None:
    """The pieces are damaged and the journal's beginning is gone; the head still says which series is which."""
    victim = copied(killed, tmp_path / "copy")
    _change(
        victim,
        "UPDATE snapshot SET body = zeroblob(9) WHERE section = 2",
        "DELETE FROM journal WHERE tick < 20",
    )
    after = start_again(victim)
    (event,) = _events(victim)
    assert event["reached"] == 0
    late = {key for key in victim.sent if key[1] >= (T0 + 10 * FIRST) * S}
    assert late <= after.counted | after.dead
    assert {series for series, _ in after.dead} == set(SERIES)


def test_r22_an_outbox_row_that_cannot_be_read_is_made_again(victim: Victim) -> None:
    """From the journal, to the last byte, under the identity that it had."""
    before = damaged.tables(victim.folder / FILE, "SELECT seq, hash FROM outbox ORDER BY n")
    _change(victim, "UPDATE outbox SET body = x'0102' WHERE n = (SELECT max(n) FROM outbox)")
    (victim.folder / (FILE + ".suspect")).write_text("the forwarder found it")
    after = start_again(victim)
    assert after.counted == set(victim.sent)
    kept = damaged.tables(victim.folder / FILE, "SELECT seq, hash FROM outbox ORDER BY n")
    assert set(before) <= set(kept)


def test_r23_a_row_that_is_lost_goes_out_empty(killed: Victim, tmp_path: Path) -> None:
    """Where the journal does not reach it, its seq is sent with an empty frame: the cloud side waits for none for ever."""
    victim = copied(killed, tmp_path / "copy")
    (n,) = damaged.tables(victim.folder / FILE, "SELECT max(n) - 4 FROM outbox")[0]
    identity = damaged.tables(victim.folder / FILE, f"SELECT epoch, shard, seq FROM outbox WHERE n = {n}")
    _change(
        victim,
        f"DELETE FROM outbox WHERE n = {n}",
        "DELETE FROM snapshot",
        "DELETE FROM journal WHERE tick = (SELECT max(tick) - 12 FROM journal)",
    )
    after = start_again(victim)
    (event,) = _events(victim)
    assert event["lost_rows"] == 1
    found = damaged.tables(victim.folder / FILE, f"SELECT epoch, shard, seq FROM outbox WHERE n = {n}")
    assert found == identity
    assert after.status["lost_outbox_rows"] == 1


def test_a_crash_while_a_file_is_set_aside(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it dies, the next start goes on: nothing is lost, and the damaged file is there under one name."""
    _behead(victim)

    class Died(Exception):
        pass

    for step in ("aside.made", "aside.moving", "aside.moved"):

        def die(name: str, step: str = step) -> None:
            if name == step:
                raise Died

        monkeypatch.setattr(aside, "reached", die)
        with pytest.raises(Died):
            start_again(victim)
        monkeypatch.undo()
    after = start_again(victim)
    assert _set_aside(victim) == [FILE + ".damaged-1"]
    assert _waiting_before(victim) <= after.counted | after.dead


def test_a_second_damage_has_a_name_of_its_own(victim: Victim) -> None:
    """Each damaged file is kept."""
    for _ in range(2):
        _behead(victim)
        start_again(victim)
    assert _set_aside(victim) == [FILE + ".damaged-1", FILE + ".damaged-2"]


def _waiting_before(victim: Victim) -> set[tuple[str, int]]:
    """Readings that were said in the second life, whose rows stand in the log."""
    return {key for key in victim.sent if (T0 + 10 * (FIRST + 2)) * S <= key[1] < (T0 + 10 * SECOND) * S}


def _events(victim: Victim) -> list[dict[str, object]]:
    rows = damaged.tables(victim.folder / FILE, "SELECT value FROM meta WHERE name = 'was_set_aside'")
    fields = ("file", "why", "tick", "reached", "lost_ticks", "lost_rows", "salvaged")
    return [dict(zip(fields, json.loads(str(text))[1:], strict=False)) for (text,) in rows]


def _change(victim: Victim, *statements: str) -> None:
    """Change a file with SQLite, which closes it and deletes its log."""
    with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
        for statement in (*statements, "DELETE FROM meta WHERE name = 'open'"):
            connection.execute(statement)


def _behead(victim: Victim) -> None:
    """Bring all of a file into one, and overwrite its beginning."""
    _change(victim)
    _overwrite(victim.folder / FILE, 0, b"\xff" * 100)


def _overwrite(path: Path, at: int, what: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


def _flip(path: Path, at: int) -> None:
    body = bytearray(path.read_bytes())
    body[at] ^= 0x10
    path.write_bytes(body)


def test_damage_that_is_found_while_it_runs(victim: Victim) -> None:
    """The agent ends, the file is suspected, and the next start makes the row again that could not be read."""

    async def lived() -> BaseException | None:
        async with running(victim.folder) as box:
            box.bus.away = True
            for at in range(SECOND, SECOND + 4):
                await box.publish(damaged.publish(SERIES[0], at))
                victim.sent[SERIES[0], (T0 + at * 10) * S] = damaged.value_of(at)
            with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
                connection.execute("UPDATE outbox SET body = x'0102' WHERE n = (SELECT max(n) FROM outbox)")
            box.bus.away = False
            box.agent.forward.wake(0)
            await until_async(box.agent.failed.done)
            found: BaseException | None = box.agent.failed.exception()
            return found

    error = asyncio.run(lived())
    assert error is not None
    assert is_damage(error)
    assert "outbox row" in str(error)
    aside.suspect(victim.folder / FILE, str(error))
    after = start_again(victim, more=4)
    assert after.counted == set(victim.sent)
    assert _set_aside(victim) == [FILE + ".damaged-1"]


def test_a_missing_part_of_the_log_is_no_damage_if_it_is_a_torn_end(victim: Victim) -> None:
    """What a power cut leaves of the last transaction is nothing wrong: the file stays where it is."""
    size = (victim.folder / WAL).stat().st_size
    os.truncate(victim.folder / WAL, size - 500)
    start_again(victim)
    assert _set_aside(victim) == []


def test_r15_a_start_that_fails_lets_go_of_the_file(victim: Victim) -> None:
    """What fails in the middle of the journal leaves no cursor open: the connection is closed when it is closed, and not at some
    time after the file was set aside, when it would still write to it and delete the log of the one in its place.
    """

    def fails(*_: object) -> list[str]:
        raise ArithmeticError

    connection, lock = open_store(victim.folder / FILE)
    connection.execute("DELETE FROM snapshot")
    with pytest.raises(ArithmeticError) as failed:
        resume(connection, step_settings(edge_settings()), fails)
    connection.close()
    lock.release()
    assert not (victim.folder / WAL).exists(), f"still open, while someone looks at {failed}"


def test_r06_the_file_of_another_agent_is_refused(victim: Victim) -> None:
    """Its name is in it; nothing is changed."""
    before = (victim.folder / FILE).read_bytes()
    with pytest.raises(StateForeign, match="agent 'a1'"):
        start_again(victim, settings=damaged.settings_with(name="a9"))
    assert (victim.folder / FILE).read_bytes() == before


def test_r06_a_file_bound_to_other_hardware(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts here only once it was adopted; of another kind of name nobody can say whether it is another device."""
    monkeypatch.setenv("HEADWATER_HARDWARE", "one")
    start_again(victim)
    monkeypatch.setenv("HEADWATER_HARDWARE", "two")
    with pytest.raises(StateForeign, match="another device"):
        start_again(victim)
    monkeypatch.delenv("HEADWATER_HARDWARE")
    start_again(victim)
