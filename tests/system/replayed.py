"""A run's journal, run again without kills from an empty state: equal to the last bit (R31)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from headwater_edge import snapshot
from headwater_edge.detection.key import FileSeal, key_path
from headwater_edge.replay import steps
from headwater_edge.restart import resume
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_edge.state import State
from headwater_edge.store import epoch_bytes, read_store
from headwater_shared.settings import load

KEPT = {
    "journal": ("tick", "body"),
    "outbox": ("n", "tick", "lane", "epoch", "shard", "seq", "kind", "hash"),
    "snapshot": ("tick", "section", "body"),
}
"""Tables that the agent deletes from, with the columns that are compared."""


class Replayed(NamedTuple):
    """What was compared."""

    ticks: int
    deleted: int
    """Of their journal rows, those that the agent no longer had."""
    rows: int
    snapshots: int
    epochs: int


def keep_all_rows(file: Path) -> None:
    """Have a copy kept of each row that the agent deletes; to be called while no agent has the file."""
    connection = sqlite3.connect(file)
    for table, columns in KEPT.items():
        names = ", ".join(columns)
        old = ", ".join(f"OLD.{column}" for column in columns)
        connection.execute(f"CREATE TABLE kept_{table} AS SELECT {names} FROM {table} WHERE false")
        connection.execute(
            f"CREATE TRIGGER keep_{table} BEFORE DELETE ON {table} BEGIN INSERT INTO kept_{table} VALUES ({old}); END"
        )
    connection.commit()
    connection.close()


def _all(connection: sqlite3.Connection, table: str) -> list[Any]:
    """Return every row that a table ever had, in the order of the first two columns."""
    names = ", ".join(KEPT[table])
    query = f"SELECT {names} FROM {table} UNION SELECT {names} FROM kept_{table} ORDER BY 1, 2"
    return connection.execute(query).fetchall()


def assert_replays(file: Path, settings: Path) -> Replayed:
    """Run every journal row of a file again, and compare what the agent wrote: the outbox, its state in each snapshot,
    and the state that a start would bring back.
    """
    edge = load(settings, "edge", EdgeSettings)
    empty = State(step_settings(edge))
    seal = FileSeal(key_path(file.parent, edge.state_key), edge.name)
    with _copied(file) as connection:
        pictures = _snapshots(connection)
        stored = _outbox(connection)
        state, ticks, rows, seen = empty, 0, 0, 0
        for tick, _, _, again, same_row in steps(state, _all(connection, "journal")):
            assert same_row, f"tick {tick}: encoded again, it is another row"
            made = [(r.lane, epoch_bytes(r.epoch), r.shard, r.seq, r.kind, r.hash) for r in again.outbox]
            assert made == stored.pop(tick, []), f"tick {tick} put out something else"
            ticks, rows = ticks + 1, rows + len(made)
            if tick in pictures:
                restored = snapshot.restore(snapshot.decode(tick, pictures[tick], seal))
                assert snapshot.fingerprint(restored) == snapshot.fingerprint(state), (
                    f"the snapshot of tick {tick}"
                )
                seen += 1
        assert not stored
        assert seen == len(pictures)
        deleted = connection.execute("SELECT count(*) FROM kept_journal").fetchone()[0]
        resumed = resume(connection, empty.settings, seal=seal)
        assert snapshot.fingerprint(resumed.state) == snapshot.fingerprint(state)
        (epochs,) = connection.execute("SELECT count(*) FROM epoch").fetchone()
    return Replayed(ticks, deleted, rows, seen, epochs)


def _snapshots(connection: sqlite3.Connection) -> dict[int, list[bytes]]:
    """Return the rows of each snapshot that has its head: the others a kill cut short."""
    found: dict[int, dict[int, bytes]] = {}
    for tick, section, body in _all(connection, "snapshot"):
        found.setdefault(tick, {})[section] = body
    return {tick: [body for _, body in sorted(rows.items())] for tick, rows in found.items() if 0 in rows}


def _outbox(connection: sqlite3.Connection) -> dict[int, list[tuple[object, ...]]]:
    found: dict[int, list[tuple[object, ...]]] = {}
    for _, tick, *row in _all(connection, "outbox"):
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
