"""A step's output becomes what its transaction writes: encoded, compressed, hashed; nothing is decided here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from headwater_edge import journal
from headwater_edge.decode import Births, DeadLetter
from headwater_edge.events import LetterGone, Start
from headwater_edge.output import Output
from headwater_edge.store import ANOMALIES, WINDOWS, AlertRow, Commit, DeadRow, OutboxRow, Rewrite
from headwater_edge.tick import Tick
from headwater_shared import frame, records
from headwater_shared.squeeze import squeezed


def commit_of(
    tick: Tick,
    output: Output,
    dead: list[DeadLetter],
    births: Births = (),
    rewrites: Sequence[Rewrite] = (),
    alerts: Sequence[AlertRow] = (),
) -> Commit:
    """Make the transaction of one tick; `rewrites`: what its event coalesced; `alerts`: local ones that are to be sent."""
    outbox = [_row(ANOMALIES, records.ANOMALY, a, records.encode(a)) for a in output.anomalies]
    outbox += [_row(ANOMALIES, records.COMMAND, c, records.encode(c)) for c in output.commands]
    outbox += [_row(ANOMALIES, records.DEVICE, d, records.encode(d)) for d in output.devices]
    outbox += [_row(WINDOWS, records.FRAME, f, frame.encode(f)) for f in output.frames]
    starts = [event for _, event in tick.events if isinstance(event, Start)]
    return Commit(
        tick=output.tick,
        journal=journal.encode(tick),
        outbox=outbox,
        dead=[
            _dead_row(tick.now.wall_us, letter) for letter in dead if letter.message not in output.repeated
        ],
        births=dict(births),
        epoch=(starts[0].epoch, tick.now.wall_us, starts[0].version) if starts else None,
        arrival=tick.arrival,
        coverage=(output.age_us, output.coverage) if output.coverage else None,
        letters_gone=[(event.tick, event.n) for _, event in tick.events if isinstance(event, LetterGone)],
        rewrites=list(rewrites),
        alerts=list(alerts),
        evicted=[(one.name, one.serial, msgspec.msgpack.encode(one.heard)) for one in output.evicted],
    )


def _dead_row(time_us: int, letter: DeadLetter) -> DeadRow:
    readings = None if letter.readings is None else msgspec.msgpack.encode(letter.readings)
    return DeadRow(time_us, letter.reason, letter.detail, letter.topic, letter.body, readings)


def body_hash(body: bytes) -> bytes:
    """Hash an uncompressed body: what a replay compares, whatever zlib made of it."""
    return hashlib.blake2b(body, digest_size=8).digest()


def _row(
    lane: int, kind: str, of: records.Anomaly | records.Command | records.Device | frame.Frame, body: bytes
) -> OutboxRow:
    return OutboxRow(lane, of.epoch, of.shard, of.seq, kind, body_hash(body), squeezed(body))
