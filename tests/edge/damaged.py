"""An agent that was killed, its file damaged in some way, and the account of what became of every reading after the next start."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_edge import keeping
from headwater_edge.settings import EdgeSettings
from headwater_edge.store import read_store
from headwater_shared.clock import SetClock
from tests.edge.running import FILE, LOG, Publish, Running, as_after_a_kill, edge_settings, on_bus, running
from tests.reference import digest
from tests.support import until_async

T0 = 1_800_000_000
"""Event time of the first reading, seconds."""
S = 1_000_000
APART = 10
"""Seconds between readings of a series: one in each window of the base."""
SERIES = ("s1/d1/temp", "s2/d2/flow")
FIRST, SECOND = 18, 30
"""Readings of each series in the first life (closed as it should be) and up to the kill in the second."""

Sent = dict[tuple[str, int], float]
"""By series and time as sent."""


def value_of(at: int) -> float:
    return at + 0.25


def publish(series: str, at: int, packet_id: int = 0, *, dup: bool = False) -> Publish:
    site, device, metric = series.split("/")
    payload = b'{"t":%d,"v":%s}' % ((T0 + at * APART) * S, repr(value_of(at)).encode())
    return Publish(f"hw/{site}/{device}/data/{metric}", payload, packet_id, dup)


class Victim(NamedTuple):
    """A folder with an agent's file as a kill left it, and the log; and what was acknowledged."""

    folder: Path
    sent: Sent


async def _lived(folder: Path, settings: EdgeSettings | None, *, away: bool) -> Victim:
    live = folder / "live"
    live.mkdir()
    sent: Sent = {}

    async def say(box: Running, at: int) -> None:
        for series in SERIES:
            await box.publish(publish(series, at, at + 1))
            sent[series, (T0 + at * APART) * S] = value_of(at)
            await until_async(lambda: not box.agent.keeping._picturing)

    async with running(live, settings) as box:
        await _quick(box)
        await box.connect(1, "c1", expiry_s=0xFFFFFFFF)
        for at in range(FIRST):
            await say(box, at)
        await box.forwarded()
    async with running(live, settings) as box:
        await _quick(box)
        await box.connect(1, "c1", expiry_s=0xFFFFFFFF)
        await box.publish(Publish("hw/s1/d1/data", b'{"temp": "warm"', 500))  # a dead letter
        for at in range(FIRST, SECOND):
            if at == SECOND - 6:
                await box.forwarded()
                box.bus.away = away
            await say(box, at)
        killed = as_after_a_kill(live, folder / "killed")
        shutil.copyfile(live / LOG, killed / LOG)
    return Victim(killed, sent)


async def _quick(box: Running) -> None:
    """Sync nothing, from the first moment between two transactions on: no power is cut here."""

    def off() -> bool:
        with suppress(sqlite3.OperationalError):
            box.agent._writer._connection.execute("PRAGMA synchronous=OFF")
            return True
        return False

    await until_async(off)


def victim(
    folder: Path, *, pictures: bool, settings: EdgeSettings | None = None, away: bool = True
) -> Victim:
    """Let an agent live, and be killed while rows wait; with a snapshot after every tick, or with none."""
    before = keeping._REPLAY_US
    keeping._REPLAY_US = 0 if pictures else 10**12
    try:
        return asyncio.run(_lived(folder, settings, away=away))
    finally:
        keeping._REPLAY_US = before


def copied(of: Victim, folder: Path) -> Victim:
    """Make a copy to be damaged."""
    shutil.copytree(of.folder, folder)
    return Victim(folder, dict(of.sent))


class After(NamedTuple):
    """What became of the readings."""

    counted: set[tuple[str, int]]
    dead: set[tuple[str, int]]
    tick: int
    """The first tick of the new life."""
    status: dict[str, object]


def start_again(
    after: Victim,
    *,
    resend: int = 4,
    settings: EdgeSettings | None = None,
    more: int = 3,
    act: Callable[[Running], None] | None = None,
) -> After:
    """Start an agent from the file; devices send again what they may not have heard of; then all windows are closed.

    Raises:
        AssertionError: a reading is counted twice.
    """
    return asyncio.run(_started(after, resend, settings, more, act))


async def _started(
    victim: Victim,
    resend: int,
    settings: EdgeSettings | None,
    more: int,
    act: Callable[[Running], None] | None,
) -> After:
    from headwater_edge import health

    async with running(victim.folder, settings, SetClock()) as box:
        await _quick(box)
        first = box.agent.committed
        await box.connect(1, "c1", expiry_s=0xFFFFFFFF)
        for at in range(SECOND - resend, SECOND + more):
            for series in SERIES:
                await box.publish(publish(series, at, at + 1, dup=at < SECOND))
                victim.sent[series, (T0 + at * APART) * S] = value_of(at)
        if act:
            act(box)
        await box.agent.flush()
        await box.forwarded()
        status = health.status(box.agent)
    return After(counted(victim), dead(victim.folder / FILE), first, status)


def dead(file: Path) -> set[tuple[str, int]]:
    """Return the readings that dead letters hold."""
    reader = read_store(file)
    rows = reader.execute("SELECT readings FROM dead_letter WHERE readings IS NOT NULL").fetchall()
    reader.close()
    return {
        (series, sent)
        for (packed,) in rows
        for series, sent, _ in msgspec.msgpack.decode(packed, type=list[tuple[str, int, float]])
    }


def counted(victim: Victim) -> set[tuple[str, int]]:
    """Return the readings that the windows of 10 s and 1 min on the bus both hold; none may hold one twice, or a stranger."""
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for (series, level, start), (count, hashed) in windows(victim.folder / LOG).items():
        if level not in {"10s", "1m"}:
            continue
        length = 10 * S if level == "10s" else 60 * S
        inside = [t for (name, t) in victim.sent if name == series and start <= t < start + length]
        which = _which(inside, [victim.sent[series, t] for t in inside], count, hashed)
        assert which is not None, f"{series} {level} at {start}: {count} readings, of {len(inside)} sent"
        found[level] |= {(series, t) for t in which}
    return found["10s"] & found["1m"]


def windows(log: Path) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Return count and digest of each window, merged as the cloud side does (R1): of a part the highest revision, then the
    larger count.
    """
    parts: dict[tuple[object, ...], tuple[int, int, int]] = {}
    for one in on_bus(log)[0]:
        p = one.parts
        columns = (
            p.series,
            p.level,
            p.start,
            p.epoch,
            p.tick,
            p.revision,
            p.aggregates.count,
            p.aggregates.digest,
        )
        for series, level, start, epoch, tick, revision, count, hashed in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            identity = (p.names[series], p.levels[level], start, p.epochs[epoch], tick)
            parts[identity] = max(parts.get(identity, (-1, 0, 0)), (revision, count, hashed))
    merged: dict[tuple[str, str, int], tuple[int, int]] = {}
    for (series, level, start, *_), (_, count, hashed) in parts.items():
        before = merged.get((str(series), str(level), int(str(start))), (0, 0))
        merged[str(series), str(level), int(str(start))] = before[0] + count, before[1] + hashed
    return merged


def _which(times: list[int], values: list[float], count: int, wanted: int) -> list[int] | None:
    hashes = [digest(t, v) for t, v in zip(times, values, strict=True)]
    for some in combinations(range(len(times)), count):
        if sum(hashes[at] for at in some) % 2**64 == wanted % 2**64:
            return [times[at] for at in some]
    return None


def tables(file: Path, query: str) -> list[tuple[object, ...]]:
    reader = read_store(file)
    try:
        return reader.execute(query).fetchall()
    finally:
        reader.close()


def settings_with(**more: object) -> EdgeSettings:
    return edge_settings(**more)
