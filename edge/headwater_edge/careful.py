"""A start that tries each journal row before it runs it: messages that end the process become dead letters (R15)."""

from __future__ import annotations

import sqlite3

from headwater_edge import journal, snapshot
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.outbox_rows import raise_seqs
from headwater_edge.restart import BrokenJournal, Resumed, reach, replay
from headwater_edge.salvaged import Salvaged
from headwater_edge.settings import StepSettings
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import DeadRow, write_letters, write_snapshot
from headwater_edge.tick import Tick, with_new
from headwater_edge.trial import readings_of, survives, without_killers
from headwater_shared.logs import get_logger

log = get_logger()

_DETAIL = "its message ended the agent at each start; possibly counted already"


def resume_carefully(connection: sqlite3.Connection, settings: StepSettings, seal: Seal = NO_KEY) -> Resumed:
    """Bring the state back as `restart.resume` does, without the messages that a step does not survive.

    Their rows are written anew without them, their readings become dead letters, and a snapshot behind them is taken at
    once, all in one transaction.

    Raises:
        BrokenJournal: a row cannot be run, with none of its messages either.
    """
    letters: list[DeadRow] = []
    rows: list[tuple[bytes, int]] = []

    def run(connection: sqlite3.Connection, state: State, tick: Tick) -> list[str]:
        if survives(lambda: step(state, tick)):
            return replay(connection, state, tick)
        number = state.tick + 1
        found = without_killers(state, tick)
        if found is None:
            raise BrokenJournal(f"tick {number} ends the agent at each start")
        left, killers = found
        log.error(
            "messages end the agent at each start: they become dead letters",
            tick=number,
            messages=len(killers),
        )
        made = Salvaged(_DETAIL, by_meaning=False)
        names = with_new(state.names, tick)
        letters.extend(made.take(readings_of(tick, killers), names, tick.now.wall_us))
        letters.extend(made.rest())
        rows.append((journal.encode(left), number))
        return replay(connection, state, left)

    resumed = reach(connection, settings, run, survives, seal=seal)
    if resumed.stopped:
        raise BrokenJournal(resumed.stopped)
    if rows:
        state = resumed.state
        raise_seqs(connection, state)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE journal SET body = ? WHERE tick = ?", rows)
        write_letters(connection, state.tick, letters)
        write_snapshot(connection, state.tick, snapshot.encode(snapshot.take(state), seal))
        connection.execute("COMMIT")
        resumed.snapshots = [state.tick, *resumed.snapshots][:2]
    return resumed
