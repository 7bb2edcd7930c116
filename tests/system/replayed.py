"""A run's journal, run again without kills from an empty state: equal to the last bit (R31)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from headwater_edge import journal, snapshot
from headwater_edge.restart import resume
from headwater_edge.rows import commit_of
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import epoch_bytes, read_store
from headwater_shared.settings import load

KEPT = ("journal", "outbox", "snapshot")


class Replayed(NamedTuple):
    """What was compared."""

    ticks: int
    rows: int
    snapshots: int
    epochs: int


def keep_all_rows(file: Path) -> None:
    """Let the agent's file keep what the agent deletes of it; to be called while no agent has it."""
    connection = sqlite3.connect(file)
    for table in KEPT:
        connection.execute(
            f"CREATE TRIGGER keep_{table} BEFORE DELETE ON {table} BEGIN SELECT RAISE(IGNORE); END"
        )
    connection.commit()
    connection.close()


def assert_replays(file: Path, settings: Path) -> Replayed:
    """Run every journal row of a file again, and compare what the agent wrote: the outbox, its state in each snapshot,
    and the state that a start would bring back.
    """
    empty = State(step_settings(load(settings, "edge", EdgeSettings)))
    with _copied(file) as connection:
        pictures = dict.fromkeys(snapshot.ticks(connection), "")
        stored = _outbox(connection)
        state, ticks, rows = empty, 0, 0
        for tick, body in connection.execute("SELECT tick, body FROM journal ORDER BY tick"):
            assert tick == state.tick + 1, f"the journal lacks ticks {state.tick + 1} to {tick - 1}"
            decoded = journal.decode(body)
            again = commit_of(decoded, step(state, decoded), [])
            assert again.journal == body, f"tick {tick}: encoded again, it is another row"
            made = [(r.lane, epoch_bytes(r.epoch), r.shard, r.seq, r.kind, r.hash) for r in again.outbox]
            assert made == stored.pop(tick, []), f"tick {tick} put out something else"
            ticks, rows = ticks + 1, rows + len(made)
            if tick in pictures:
                pictures[tick] = snapshot.fingerprint(state)
        assert not stored
        for tick, fingerprint in pictures.items():
            found = snapshot.fingerprint(snapshot.restore(snapshot.read(connection, tick)))
            assert found == fingerprint, f"the snapshot of tick {tick} holds another state"
        assert snapshot.fingerprint(resume(connection, empty.settings).state) == snapshot.fingerprint(state)
        (epochs,) = connection.execute("SELECT count(*) FROM epoch").fetchone()
    return Replayed(ticks, rows, len(pictures), epochs)


def _outbox(connection: sqlite3.Connection) -> dict[int, list[tuple[object, ...]]]:
    found: dict[int, list[tuple[object, ...]]] = {}
    for tick, *row in connection.execute(
        "SELECT tick, lane, epoch, shard, seq, kind, hash FROM outbox ORDER BY n"
    ):
        found.setdefault(tick, []).append(tuple(row))
    repeated = Counter((row[1], row[2], row[3]) for rows in found.values() for row in rows)
    assert not [name for name, times in repeated.items() if times > 1], "one identity names two rows"
    return found


@contextmanager
def _copied(file: Path) -> Iterator[sqlite3.Connection]:
    """Copy a file into memory: a start cleans up in it."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(copy), closing(read_store(file)) as reader:
        reader.backup(copy)
        yield copy
