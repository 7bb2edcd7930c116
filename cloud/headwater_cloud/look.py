"""How the cloud side is, seen from outside: lag and holder of each shard, what it has of each agent, gaps, skew, dead letters.

From the bus, from Kafka's group, and from the consumer's file where it is on this machine; nothing is asked of a process.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from headwater_cloud import dead_letters
from headwater_cloud.history import History
from headwater_cloud.skew import ratio
from headwater_cloud.views import ProgressView
from headwater_shared import records, topics
from headwater_shared.bus import Bus
from headwater_shared.identity import SHARDS
from headwater_shared.records import Have

LETTERS = 10_000
"""Dead letters that are counted, from the newest back."""
_RECENT_US = 60_000_000


class Holder(msgspec.Struct, frozen=True):
    """A process that works on shards."""

    name: str
    where: str
    shards: list[int]


class ShardState(msgspec.Struct, frozen=True):
    """How far a shard is: records on `hw-in`, worked on, and those between."""

    shard: int
    end: int
    done: int
    lag: int
    holder: str
    """Empty: nobody works on it."""


class AgentState(msgspec.Struct, frozen=True):
    """What the cloud has of an agent in a shard. Times in microseconds, 0: not known."""

    agent: str
    shard: int
    epoch: str
    last_seq: int
    missing: int
    """Seqs before it that are not there, of all its epochs."""
    complete_us: int
    silent_us: int
    """When it was heard last, if it is silent."""


class State(msgspec.Struct, frozen=True):
    """All of it."""

    bus: str
    lag: int
    holders: list[Holder]
    shards: list[ShardState]
    """Those that ever had a record."""
    skew: float | None
    """The rows of the busiest shard against the mean, in the latest minute of windows; None: no file is here."""
    busiest: int | None
    agents: list[AgentState]
    reports: dict[str, int]
    """Of all that are kept, by kind."""
    dead: dict[str, int]
    """Dead letters that were not taken again, by reason; at most the last `LETTERS`."""


def look(
    bus: Bus, address: str, file: Path, holders: Sequence[Holder], committed: Mapping[int, int]
) -> State:
    """Look once.

    Args:
        file: the consumer's; it need not be there.
        holders, committed: of Kafka's group, or whoever else works on the bus.
    """
    ends = bus.ends(topics.IN.name)
    letters = islice(dead_letters.back(bus), LETTERS)
    dead = Counter(letter.reason for letter in letters if not letter.replayed)
    haves = _haves(bus)
    done = dict(committed)
    progress: list[ProgressView] = []
    reports: Counter[str] = Counter()
    rows: dict[int, int] = {}
    if file.exists():
        history = History(file)
        try:
            progress = history.progress()
            reports = Counter(report.kind for report in history.reports())
            rows = _recent_rows(history)
            for shard, offset in history.connection.execute('SELECT partition, next FROM "offset"'):
                done[shard] = max(done.get(shard, 0), offset)
        finally:
            history.close()
    held = {shard: holder.name for holder in holders for shard in holder.shards}
    shards = [
        ShardState(n, end, done.get(n, 0), max(0, end - done.get(n, 0)), held.get(n, ""))
        for n, end in sorted(ends.items())
    ]
    return State(
        address, sum(one.lag for one in shards), list(holders), shards, ratio(rows) if file.exists() else None,
        max(rows, key=lambda shard: rows[shard]) if rows else None, _agents(haves, progress), dict(sorted(reports.items())),
        dict(sorted(dead.items())),
    )  # fmt: skip


def local_holder(place: Path) -> list[Holder]:
    """Return the local runner, if it runs: it works on all shards. `place`: where it says how it can be reached."""
    try:
        pid = int(msgspec.json.decode(place.read_bytes())["pid"])
        os.kill(pid, 0)
    except PermissionError:
        pass  # it runs, as somebody else
    except (OSError, msgspec.DecodeError, KeyError):
        return []
    return [Holder("cloud", f"pid {pid}", list(range(SHARDS)))]


def _haves(bus: Bus) -> list[Have]:
    """The last word on each agent, epoch and shard, the latest last."""
    topic = topics.HAVE
    found: dict[str, Have] = {}
    for stored in bus.read(topic.name, dict.fromkeys(range(topic.partitions), 0), 2**30):
        found.pop(stored.key, None)
        found[stored.key] = records.decode(Have, stored.body)
    return list(found.values())


def _agents(haves: Sequence[Have], progress: Sequence[ProgressView]) -> list[AgentState]:
    known = {(one.agent, one.shard): one for one in progress}
    out: dict[tuple[str, int], AgentState] = {}
    missing: Counter[tuple[str, int]] = Counter()
    for have in haves:
        at = (have.agent, have.shard)
        bounds = [0, *have.intervals]
        missing[at] += sum(first - last - 1 for last, first in zip(bounds[::2], bounds[1::2], strict=False))
        about = known.get(at)
        newest = about.epoch if about else ""
        if at in out and out[at].epoch == newest:
            continue  # what came later of an older epoch is its backlog
        last_seq = have.intervals[-1] if have.intervals else 0
        out[at] = AgentState(
            have.agent, have.shard, f"{have.epoch:016x}", last_seq, 0, about.complete_us if about else 0,
            about.heard_us if about and about.silent else 0,
        )  # fmt: skip
    return [msgspec.structs.replace(one, missing=missing[at]) for at, one in sorted(out.items())]


def _recent_rows(history: History) -> dict[int, int]:
    """Count the finest windows of the latest minute by shard; rollups are nobody's input."""
    levels = history.levels()
    if not levels:
        return {}
    query = (
        "SELECT shard, count(*) FROM window JOIN level ON level.id = level WHERE name = ?1 AND shard >= 0"
        " AND start > (SELECT max(start) FROM window JOIN level ON level.id = level WHERE name = ?1) - ?2 GROUP BY shard"
    )
    return dict(history.connection.execute(query, (levels[0], _RECENT_US)).fetchall())
