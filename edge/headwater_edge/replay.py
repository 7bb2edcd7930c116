"""A journal run again, tick by tick: what each took in, what it puts out, and whether that is what is stored (R12, R31)."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from headwater_edge import journal, snapshot
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.output import Output
from headwater_edge.restart import BrokenJournal
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import Commit, epoch_bytes
from headwater_edge.tick import Tick


class Stepped(NamedTuple):
    """One tick that was run again."""

    number: int
    took: Tick
    put_out: Output
    again: Commit
    """What its transaction would write, dead letters left out."""
    same_row: bool
    """Encoded again, it is the row that it was."""


class Compared(NamedTuple):
    """A tick, and how what it puts out compares with the file."""

    stepped: Stepped
    same: int
    """Outbox rows that are stored just so."""
    gone: int
    """Those that are not there any more: the cloud side has them."""
    differences: list[str]


def steps(state: State, rows: Iterable[tuple[int, bytes]]) -> Iterator[Stepped]:
    """Run rows of a journal, each the next tick of `state`, which is changed.

    Raises:
        BrokenJournal: ticks are missing.
        journal.Damaged: a row cannot be read.
    """
    for number, body in rows:
        if number != state.tick + 1:
            raise BrokenJournal(f"the journal lacks ticks {state.tick + 1} to {number - 1}")
        took = journal.decode(body)
        put_out = step(state, took)
        again = commit_of(took, put_out, [])
        yield Stepped(
            number, took, put_out, again, zlib.decompress(again.journal[1:]) == zlib.decompress(body[1:])
        )


def begin(
    connection: sqlite3.Connection, settings: StepSettings, from_tick: int = 0, seal: Seal = NO_KEY
) -> State:
    """Return the state to begin with: that of nothing, if the journal has its beginning, else that of a snapshot.

    Args:
        from_tick: the newest one before this tick, 0: as far back as there is one.
        seal: of the models in snapshots; those that it has not signed are learnt anew, and say other things than they did (R21).

    Raises:
        BrokenJournal: there is no good snapshot to begin from.
    """
    (first,) = connection.execute("SELECT coalesce(min(tick), 1) FROM journal").fetchone()
    good = []
    for tick in snapshot.ticks(connection):
        if from_tick and tick >= from_tick:
            continue
        try:
            picture = snapshot.read(connection, tick, seal)
        except ValueError:
            continue
        good.append(picture)
    if good and (from_tick or first > 1):
        return snapshot.restore(good[0] if from_tick else good[-1])
    if first > 1:
        raise BrokenJournal(f"the journal begins at tick {first}, and no snapshot before it can be read")
    return State(settings)


def compared(connection: sqlite3.Connection, state: State, seal: Seal = NO_KEY) -> Iterator[Compared]:
    """Run what the journal has after `state`, and compare it with the outbox and the snapshots of a file."""
    pictures = {tick for tick in snapshot.ticks(connection) if tick > state.tick}
    rows = connection.execute("SELECT tick, body FROM journal WHERE tick > ? ORDER BY tick", (state.tick,))
    for one in steps(state, rows):
        same, gone, differences = _with_outbox(connection, one)
        if not one.same_row:
            differences.append("encoded again, its journal row is another one")
        if one.number in pictures:
            differences += _with_picture(connection, one.number, state, seal)
        yield Compared(one, same, gone, differences)


def _with_outbox(connection: sqlite3.Connection, one: Stepped) -> tuple[int, int, list[str]]:
    stored: dict[tuple[Any, ...], bytes] = {
        tuple(identity): hashed
        for *identity, hashed in connection.execute(
            "SELECT epoch, shard, seq, hash FROM outbox WHERE tick = ?", (one.number,)
        )
    }
    same = gone = 0
    differences = []
    for row in one.again.outbox:
        hashed = stored.pop((epoch_bytes(row.epoch), row.shard, row.seq), None)
        if hashed is None:
            gone += 1
        elif hashed[: len(row.hash)] == row.hash:  # coalesced since: more follows
            same += 1
        else:
            differences.append(f"shard {row.shard}, seq {row.seq}: another {row.kind} is stored")
    differences += [f"shard {shard}, seq {seq}: stored, and not put out" for _, shard, seq in stored]
    return same, gone, differences


def _with_picture(connection: sqlite3.Connection, tick: int, state: State, seal: Seal) -> list[str]:
    try:
        restored = snapshot.restore(snapshot.read(connection, tick, seal))
    except ValueError as error:
        return [str(error)]
    return (
        []
        if snapshot.fingerprint(restored) == snapshot.fingerprint(state)
        else ["its snapshot is of another state"]
    )
