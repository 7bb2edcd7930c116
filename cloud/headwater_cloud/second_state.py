"""The state of second stages in the consumer's own file: rows of `state` under numbers that are no shards, written with the batch's commit (R27)."""

from __future__ import annotations

import sqlite3

from headwater_cloud.cohorts import Cohorts


def number_of(partition: int) -> int:
    """Return what stands in the place of a shard's number in `state` for a partition of `hw-by-cohort`."""
    return -1 - partition


class TablePieces:
    """The pieces of one partition: what is set is seen at once, and goes on with `taken`."""

    def __init__(self, connection: sqlite3.Connection, number: int) -> None:
        self._connection, self._number = connection, number
        self._set: dict[str, bytes | None] = {}

    def get(self, name: str) -> bytes | None:
        if name in self._set:
            return self._set[name]
        query = "SELECT body FROM state WHERE shard = ? AND name = ?"
        row = self._connection.execute(query, (self._number, name)).fetchone()
        return None if row is None else bytes(row[0])

    def set(self, name: str, body: bytes) -> None:
        self._set[name] = body

    def delete(self, name: str) -> None:
        self._set[name] = None

    def taken(self) -> dict[str, bytes | None]:
        """Return what was set, None for what was deleted: it must be committed before the next `get`."""
        taken, self._set = self._set, {}
        return taken


class SecondState:
    """That of all partitions, as far as they had input."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[int, tuple[TablePieces, Cohorts]] = {}

    def cohorts(self, partition: int) -> Cohorts:
        """Return the state of a partition, to be changed in place."""
        if partition not in self._known:
            pieces = TablePieces(self._connection, number_of(partition))
            self._known[partition] = pieces, Cohorts(pieces)
        return self._known[partition][1]

    def taken(self) -> dict[int, dict[str, bytes | None]]:
        """Return what changed, by partition and name, for the commit of the batch."""
        taken = {partition: pieces.taken() for partition, (pieces, _) in self._known.items()}
        return {partition: some for partition, some in taken.items() if some}

    def clear(self) -> None:
        """Forget what is in memory: it went ahead of the file."""
        self._known.clear()
