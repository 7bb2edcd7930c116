"""Records of the bus become frames, anomalies, commands, status, registry, rules, evidence, actions, clocks; the rest dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import NamedTuple, TypeVar

import msgspec
from isal.isal_zlib import crc32

from headwater_cloud import rule_records
from headwater_cloud.book import Book
from headwater_cloud.outputs import REPLAY_OF, DeadLetter, Why
from headwater_cloud.rule_records import Noted, home_of
from headwater_cloud.told import Told, told_of
from headwater_shared import actions, frame, peers, records, registry, trace
from headwater_shared.alert_records import Action
from headwater_shared.avro import UnknownVersion
from headwater_shared.bus import Stored
from headwater_shared.frame import Frame
from headwater_shared.peers import Finding
from headwater_shared.records import (
    Anomaly,
    ClockRecord,
    Command,
    Device,
    Heartbeat,
    Predecessor,
    RegistryChange,
)

CLOCK_OFF_US = 5_000_000
"""A clock record further than this from the time at which it was appended is ignored (R24)."""


class Arrived(NamedTuple):
    """A row of an agent's stream, with its identity on the bus (R23) and a short hash of its bytes.

    Bytes that cannot be read but bear an identity take their seq too: they are safe in the dead letters.
    """

    agent: str
    epoch: int
    seq: int
    check: int
    what: Frame | Anomaly | Command | Device | DeadLetter
    predecessor: Predecessor | None
    replayed: bool = False
    """Whether a person had it taken again: it was a dead letter."""
    trace: str = ""
    """Its `traceparent`."""
    made_us: int = 0
    """When its tick was, by the agent's clock; 0: it was sent late, or does not say."""


class Taken(msgspec.Struct):
    """What one shard's records of a batch hold, each list in the order of the bus."""

    arrived: list[Arrived] = []
    heartbeats: list[Heartbeat] = []
    registry: list[RegistryChange] = []
    noted: list[Noted] = []
    """Evidence that other shards found."""
    books: list[Book] = []
    actions: list[Action] = []
    """What people did with alerts."""
    findings: list[Finding] = []
    statuses: list[Told] = []
    clock_us: int = 0
    """The largest believable clock record, 0 without one."""
    dead: list[DeadLetter] = []
    """What bears no identity."""
    clocks_ignored: int = 0


def consume(
    batch: Sequence[Stored], wall_of: Callable[[int], int], known: Mapping[int, Why] | None = None
) -> dict[int, Taken]:
    """Decode a batch, by shard.

    Args:
        batch: records of `hw-in`.
        wall_of: the machine's wall time for a time of Headwater's clock, in microseconds.
        known: records that are dead letters without being looked into, by offset: they broke the operators, or were dead letters before.
    """
    shards: dict[int, Taken] = {}
    for stored in batch:
        taken = shards.get(stored.partition)
        if taken is None:
            taken = shards[stored.partition] = Taken()
        kind = records.kind_of(stored.headers)
        if known and stored.offset in known:
            _take(taken, stored, DeadLetter(*known[stored.offset], stored))
        elif (row := _of_stream(stored, kind)) is not None:
            _take(taken, stored, row)
        elif kind == records.HEARTBEAT:
            heartbeat = _record(stored, Heartbeat)
            if isinstance(heartbeat, DeadLetter):
                taken.dead.append(heartbeat)
            else:
                taken.heartbeats.append(heartbeat)
        elif kind == records.CLOCK:
            _clock(taken, stored, wall_of)
        elif kind == records.REGISTRY:
            _registry(taken, stored)
        elif kind in {rule_records.RULES, rule_records.EVIDENCE}:
            _rules(taken, stored, kind)
        elif kind == records.AGENT_STATUS:
            _status(taken, stored, wall_of)
        elif kind in _FROM_US:
            _FROM_US[kind](taken, stored)
        else:
            _take(taken, stored, DeadLetter("unknown-kind", f"no such kind: {kind!r}", stored))
    return shards


def _of_stream(stored: Stored, kind: str) -> Frame | Anomaly | Command | Device | DeadLetter | None:
    """Read a row of an agent's stream; None: it is no such kind."""
    if kind == records.FRAME:
        return _frame(stored)
    if kind == records.ANOMALY:
        return _record(stored, Anomaly)
    if kind == records.COMMAND:
        return _record(stored, Command)
    return _record(stored, Device) if kind == records.DEVICE else None


def _take(taken: Taken, stored: Stored, what: Frame | Anomaly | Command | Device | DeadLetter) -> None:
    check, replayed = crc32(stored.body), REPLAY_OF in stored.headers
    if not isinstance(what, DeadLetter):
        taken.arrived.append(
            Arrived(
                what.agent,
                what.epoch,
                what.seq,
                check,
                what,
                what.predecessor,
                replayed,
                trace.of(stored.headers),
                _made_us(stored),
            )
        )
        return
    identity = records.identity_of(stored.headers.get("ce_id", ""))
    if identity is None or identity[2] != stored.partition or identity[3] < 1:
        taken.dead.append(what)
    else:
        agent, epoch, _, seq = identity
        taken.arrived.append(Arrived(agent, epoch, seq, check, what, None, replayed))


def _made_us(stored: Stored) -> int:
    text = "" if REPLAY_OF in stored.headers else stored.headers.get(records.MADE, "")
    return int(text) if text.isdecimal() and len(text) < 18 else 0


def _frame(stored: Stored) -> Frame | DeadLetter:
    try:
        found = frame.decode(stored.body)
    except ValueError as error:
        return _unreadable(stored, error)
    return _misplaced(found, found.seq, stored) or found


T = TypeVar("T", Anomaly, Command, Device, Heartbeat)


def _record(stored: Stored, kind: type[T]) -> T | DeadLetter:
    try:
        found = records.decode(kind, stored.body)
    except ValueError as error:
        return _unreadable(stored, error)
    if isinstance(found, Anomaly) and not isfinite(found.value):
        return DeadLetter("damaged", f"the value {found.value} is no number", stored)
    seq = found.last_seq + 1 if isinstance(found, Heartbeat) else found.seq
    return _misplaced(found, seq, stored) or found


def _clock(taken: Taken, stored: Stored, wall_of: Callable[[int], int]) -> None:
    try:
        time_us = records.decode(ClockRecord, stored.body).time_us
    except ValueError as error:
        taken.dead.append(_unreadable(stored, error))
        return
    if abs(wall_of(time_us) - stored.time_us) > CLOCK_OFF_US:
        taken.clocks_ignored += 1
    else:
        taken.clock_us = max(taken.clock_us, time_us)


def _registry(taken: Taken, stored: Stored) -> None:
    try:
        change = records.decode(RegistryChange, stored.body)
    except ValueError as error:
        taken.dead.append(_unreadable(stored, error))
        return
    why = registry.wrong(change.device, registry.entry_of(change) or registry.Entry())
    if why:
        taken.dead.append(DeadLetter("damaged", why, stored))
    else:  # in whatever shard: a site may be on several (R25), and one that does not need it loses nothing by it
        taken.registry.append(change)


def _rules(taken: Taken, stored: Stored, kind: str) -> None:
    try:
        if kind == rule_records.RULES:
            taken.books.append(rule_records.book_of(stored.body))
            return
        noted = rule_records.noted_of(stored.body)
    except ValueError as error:
        taken.dead.append(_unreadable(stored, error))
        return
    home = home_of(noted.key)
    if home != stored.partition:
        taken.dead.append(DeadLetter("wrong-shard", f"{noted.key} is decided in shard {home}", stored))
    else:
        taken.noted.append(noted)


def _action(taken: Taken, stored: Stored) -> None:
    try:
        action = records.decode(Action, stored.body)
        why = actions.wrong(action)
    except ValueError as error:
        taken.dead.append(_unreadable(stored, error))
        return
    if action.shard != stored.partition:
        taken.dead.append(DeadLetter("wrong-shard", f"it is of shard {action.shard}", stored))
    elif why:
        taken.dead.append(DeadLetter("damaged", why, stored))
    else:
        taken.actions.append(action)


def _finding(taken: Taken, stored: Stored) -> None:
    try:
        found = peers.decode_finding(stored.body)
    except ValueError as error:
        taken.dead.append(_unreadable(stored, error))
        return
    if found.shard != stored.partition:
        taken.dead.append(DeadLetter("wrong-shard", f"it is of shard {found.shard}", stored))
    else:
        taken.findings.append(found)


def _status(taken: Taken, stored: Stored, wall_of: Callable[[int], int]) -> None:
    try:
        told = told_of(stored, wall_of)
    except ValueError as error:
        taken.dead.append(_unreadable(stored, error))
        return
    if told.shard != stored.partition:
        taken.dead.append(DeadLetter("wrong-shard", f"{told.agent} tells shard {told.shard}", stored))
    else:
        taken.statuses.append(told)


_FROM_US: dict[str, Callable[[Taken, Stored], None]] = {
    records.ACTION: _action,
    peers.FINDING: _finding,
}
"""Not of an agent's stream: they have no seq, and may be read as often as they come."""


def _unreadable(stored: Stored, error: ValueError) -> DeadLetter:
    reason = "unknown-version" if isinstance(error, UnknownVersion) else "damaged"
    return DeadLetter(reason, str(error), stored)


def _misplaced(
    found: Frame | Anomaly | Command | Device | Heartbeat, seq: int, stored: Stored
) -> DeadLetter | None:
    """State is by shard: what says another one than its partition's would be kept where nobody looks for it."""
    if found.shard != stored.partition:
        return DeadLetter("wrong-shard", f"it is of shard {found.shard}", stored)
    if seq < 1:
        return DeadLetter("damaged", f"seq {seq} is none", stored)
    return None
