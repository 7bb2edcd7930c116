"""The outbox of a damaged file: rows that are what they were, rows that the journal makes again, and empty frames for the rest.

A seq that never comes would keep windows waiting in the cloud for ever (R23), so one that is lost is sent empty.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from headwater_edge.rows import body_hash
from headwater_edge.state import State
from headwater_edge.store import ANOMALIES, WINDOWS, OutboxRow, epoch_bytes
from headwater_edge.unreached import hear as _hear
from headwater_shared import frame, records
from headwater_shared.frame import Frame
from headwater_shared.parts import Parts
from headwater_shared.records import Anomaly, Command, Device
from headwater_shared.squeeze import squeezed

Identity = tuple[bytes, int, int]
"""Epoch, shard, seq."""
Place = tuple[int, int, int]
"""Where a row stood: its tick or one before, and the numbers of the rows around it (0: none)."""

_INSERT = "INSERT INTO outbox(n, tick, lane, epoch, shard, seq, kind, hash, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def read(kind: str, body: bytes) -> Frame | Anomaly | Command | Device:
    """Decode a row's uncompressed body.

    Raises:
        ValueError: it is damaged, or of another kind.
    """
    if kind == records.FRAME:
        return frame.decode(body)
    if kind == records.ANOMALY:
        return records.decode(Anomaly, body)
    if kind == records.COMMAND:
        return records.decode(Command, body)
    if kind == records.DEVICE:
        return records.decode(Device, body)
    raise ValueError(f"no row of the outbox is a {kind}")


def take_bad_ones_out(connection: sqlite3.Connection, agent: str) -> dict[Identity, int]:
    """Delete rows that cannot be read, and rows of another agent; what a body says of its identity rules.

    Returns:
        Of each row that cannot be read its tick, by identity.
    """
    bad: dict[Identity, int] = {}
    gone: list[tuple[int]] = []
    other: list[tuple[object, ...]] = []
    seen: set[Identity] = set()
    rows = connection.execute(
        "SELECT n, tick, lane, epoch, shard, seq, kind, hash, body FROM outbox ORDER BY n"
    )
    for n, *said, hashed, body in rows:
        tick, _, epoch, shard, seq, kind = said
        try:
            raw = zlib.decompress(body)
            one = read(kind, raw)
        except (zlib.error, ValueError):
            bad[epoch, shard, seq] = tick
            gone.append((n,))
            continue
        lane = WINDOWS if kind == records.FRAME else ANOMALIES
        identity = (epoch_bytes(one.epoch), one.shard, one.seq)
        if one.agent != agent or identity in seen:
            gone.append((n,))
            continue
        seen.add(identity)
        own = body_hash(raw)
        own = hashed if isinstance(hashed, bytes) and hashed.endswith(own) else own  # coalesced: two in one
        true = [one.tick, lane, *identity, kind, own]
        if true != [*said, hashed]:
            other.append((*true, n))
    connection.executemany("DELETE FROM outbox WHERE n = ?", gone)
    connection.executemany(
        "UPDATE outbox SET tick = ?, lane = ?, epoch = ?, shard = ?, seq = ?, kind = ?, hash = ? WHERE n = ?",
        other,
    )
    return {identity: tick for identity, tick in bad.items() if identity not in seen}


def add_missing(
    connection: sqlite3.Connection,
    tick: int,
    rows: Sequence[OutboxRow],
    wanted: Mapping[Identity, Place] | None = None,
) -> None:
    """Put rows of a tick back that the journal made again and the outbox lacks; only those that are wanted, if that is said."""
    for row in rows:
        identity = epoch_bytes(row.epoch), row.shard, row.seq
        if wanted is not None and identity not in wanted:
            continue
        there = connection.execute(
            "SELECT 1 FROM outbox WHERE tick = ? AND epoch = ? AND shard = ? AND seq = ?", (tick, *identity)
        )
        if there.fetchone() is None:
            low, high = wanted[identity][1:] if wanted is not None else _between(connection, tick)
            n = _free_number(connection, low, high)
            connection.execute(_INSERT, (n, tick, row.lane, *identity, row.kind, row.hash, row.body))


def missing(connection: sqlite3.Connection, bad: Mapping[Identity, int]) -> dict[Identity, Place]:
    """Return the identities that the outbox lacks between others, and those of its bad rows, each with where it stood."""
    found: dict[tuple[bytes, int], list[tuple[int, int, int]]] = {}
    for epoch, shard, seq, tick, n in connection.execute("SELECT epoch, shard, seq, tick, n FROM outbox"):
        found.setdefault((epoch, shard), []).append((seq, tick, n))
    wanted: dict[Identity, Place] = {}
    for (epoch, shard), seqs in found.items():
        seqs.sort()
        for (seq, tick, low), (following, _, high) in pairwise(seqs):
            wanted |= {(epoch, shard, hole): (tick, low, high) for hole in range(seq + 1, following)}
    for identity, tick in bad.items():
        if identity not in wanted and identity[2] not in {seq for seq, *_ in found.get(identity[:2], ())}:
            wanted[identity] = (tick, *_between(connection, tick))
    return wanted


def fill(connection: sqlite3.Connection, agent: str, bad: Mapping[Identity, int]) -> int:
    """Put empty frames where seqs are missing; return how many."""
    wanted = missing(connection, bad)
    for (epoch, shard, seq), (tick, low, high) in sorted(wanted.items(), key=lambda item: (item[1], item[0])):
        empty = Frame(agent, int.from_bytes(epoch, "little"), shard, seq, tick, None, Parts.empty())
        body = frame.encode(empty)
        row = (records.FRAME, body_hash(body), squeezed(body))
        n = _free_number(connection, low, high)
        connection.execute(_INSERT, (n, tick, WINDOWS, epoch, shard, seq, *row))
    return len(wanted)


def hear(connection: sqlite3.Connection, state: State, reached: int) -> None:
    """What went out of ticks that were not reached was counted: a resend of it must not count again (R4)."""
    number = {name: at for at, name in enumerate(state.names)}
    query = "SELECT body FROM outbox WHERE tick > ? AND kind = ?"
    for (body,) in connection.execute(query, (reached, records.FRAME)):
        parts = frame.decode(zlib.decompress(body)).parts
        if not len(parts):
            continue
        series = np.array([number.get(name, -1) for name in parts.names], np.int64)[parts.series]
        known = (series >= 0) & (parts.aggregates.count > 0)
        times = np.concatenate([parts.aggregates.first_time[known], parts.aggregates.last_time[known]])
        _hear(state, np.tile(series[known], 2).astype(np.int32), times)


def raise_seqs(connection: sqlite3.Connection, state: State) -> None:
    """The state numbers no row below one that is there already, whatever it was run again without."""
    for shard, seq in connection.execute(
        "SELECT shard, max(seq) FROM outbox WHERE epoch = ? GROUP BY shard", (epoch_bytes(state.epoch),)
    ):
        state.seq[shard] = max(seq, state.seq.get(shard, 0))


def _between(connection: sqlite3.Connection, tick: int) -> tuple[int, int]:
    """Return the numbers of the rows around those of a tick; 0 where there is none."""
    (low,) = connection.execute("SELECT coalesce(max(n), 0) FROM outbox WHERE tick < ?", (tick,)).fetchone()
    (high,) = connection.execute("SELECT coalesce(min(n), 0) FROM outbox WHERE tick > ?", (tick,)).fetchone()
    return int(low), int(high)


def _free_number(connection: sqlite3.Connection, low: int, high: int) -> int | None:
    """Find the number that a lost row had: rows have theirs in order, and the gaps are where the lost ones stood.

    None, a new number, where no row stands behind it: `sent` may be beyond, and it would never be sent.
    """
    if not low or high <= low:
        return None
    taken = {n for (n,) in connection.execute("SELECT n FROM outbox WHERE n > ? AND n < ?", (low, high))}
    return next((n for n in range(low + 1, high) if n not in taken), None)
