"""What ends the agent at every start: found message by message, or set aside; a start that was only cut off costs nothing (R15)."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headwater_edge import aside, opening
from headwater_edge import step as step_module
from headwater_edge.accept import accept
from headwater_edge.output import Output
from headwater_edge.settings import step_settings
from headwater_edge.state import State
from headwater_edge.tick import Tick
from headwater_edge.trial import survives
from headwater_shared.clock import SetClock
from tests.edge import damaged
from tests.edge.damaged import SECOND, SERIES, T0, S, Victim, copied, start_again
from tests.edge.running import FILE, edge_settings

KILLER = damaged.value_of(SECOND - 8)
AT = ("s1/d1/temp", (T0 + 10 * (SECOND - 8)) * S)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return damaged.victim(tmp_path_factory.mktemp("victim"), pictures=False)


@pytest.fixture
def victim(killed: Victim, tmp_path: Path) -> Victim:
    return copied(killed, tmp_path / "copy")


def _deadly(
    monkeypatch: pytest.MonkeyPatch, kills: Callable[[State, Tick], bool], *, hard: bool = True
) -> None:
    """Let the step die of some ticks: the process by SIGKILL, or with a programming error."""

    def accepted(state: State, tick: Tick, out: Output) -> object:
        if kills(state, tick):
            if hard:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError("a programming error")
        return accept(state, tick, out)

    monkeypatch.setattr(step_module, "accept", accepted)


def _of_a_message(_: State, tick: Tick) -> bool:
    return bool(((tick.readings.value == KILLER) & (tick.readings.series == 0)).any())


def _tries(victim: Victim) -> bool:
    """Start in a process of its own, as far as the state; tell whether it lived."""
    settings = step_settings(edge_settings())
    return survives(lambda: opening.open_state(victim.folder / FILE, settings, SetClock().now()))


def _attempts(victim: Victim) -> list[tuple[object, ...]]:
    return damaged.tables(victim.folder / FILE, "SELECT value FROM meta WHERE name = 'attempts'")


def test_r15_a_message_that_kills_every_start_becomes_a_dead_letter(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two starts die; the third finds the message, and the agent goes on without it: nothing else is lost, nothing set aside."""
    _deadly(monkeypatch, _of_a_message)
    assert [_tries(victim), _tries(victim)] == [False, False]
    assert _attempts(victim) == [("2",)]
    after = start_again(victim)
    assert after.dead == {AT}
    assert set(victim.sent) - after.counted <= {AT}
    assert aside.all_aside(victim.folder / FILE) == []
    assert _attempts(victim) == []
    again = start_again(victim)  # the row is written anew without it: the next start knows nothing of it
    assert again.dead == {AT}


def test_r15_a_programming_error_is_found_at_the_first_start(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that can be caught needs no second death."""
    _deadly(monkeypatch, _of_a_message, hard=False)
    after = start_again(victim)
    assert after.dead == {AT}
    assert aside.all_aside(victim.folder / FILE) == []


def test_r15_a_row_that_kills_without_its_messages_has_the_file_set_aside(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies behind it becomes dead letters, which may be counted already; nothing is lost, ticks go on."""
    (last,) = damaged.tables(victim.folder / FILE, "SELECT max(tick) FROM journal")[0]
    assert isinstance(last, int)
    _deadly(monkeypatch, lambda state, _: state.tick == last - 5)
    assert [_tries(victim), _tries(victim)] == [False, False]
    after = start_again(victim)
    assert [path.name for path in aside.all_aside(victim.folder / FILE)] == [FILE + ".damaged-1"]
    assert after.tick == last + 1
    assert set(victim.sent) - after.counted <= after.dead
    assert len(after.dead) == 6


def test_r15_the_fourth_start_sets_a_file_aside_that_nobody_can_blame(victim: Victim) -> None:
    """Three starts were cut off, by a power that comes and goes, say: the file is made anew, and nothing at all is lost."""
    with closing(sqlite3.connect(victim.folder / FILE, isolation_level=None)) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('attempts', '3')")
        connection.execute("DELETE FROM meta WHERE name = 'open'")
    after = start_again(victim)
    assert [path.name for path in aside.all_aside(victim.folder / FILE)] == [FILE + ".damaged-1"]
    assert after.counted == set(victim.sent)
    assert after.dead == set()
    assert after.status["lost_ticks"] == 0


def test_an_attempt_is_counted_before_anything_is_run(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count is committed first, and a start that comes to its end clears it."""
    seen: list[object] = []

    def look(name: str) -> None:
        if name == "start.counted":
            seen.extend(_attempts(victim))

    monkeypatch.setattr(opening, "reached", look)
    start_again(victim)
    assert seen == [("1",)]
    assert _attempts(victim) == []
    assert len(SERIES) == 2
