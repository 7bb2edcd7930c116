"""Each row of an agent's stream once: intervals of seqs by (agent, epoch), what is missing, and what went back (R6, R23).

A short cut, not the guard of promise 1: rows are idempotent by themselves (R1), so what is let through twice changes
nothing. A seq whose bytes are known and the same is dropped; the same identity with other bytes is kept and reported. A dead letter
that a person has taken again goes on, though its seq was taken when its bytes were safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from headwater_cloud import intervals
from headwater_cloud.consume import Arrived
from headwater_cloud.outputs import DeadLetter, Report
from headwater_shared.records import Have, Heartbeat, Predecessor

REMEMBERED = 1024
"""Of so many seqs, the newest of an epoch, the hash is known."""

_GAPS_WATCHED = 16  # of an epoch at once; more are one trouble, not many
_HAVE_BOUNDS = 2_000
"""Of the intervals, those told to the agent at most: it lets go of its oldest rows first, the rest is told when they join."""


class Epoch(msgspec.Struct, array_like=True):
    """What a shard has of one epoch of one agent."""

    intervals: list[int] = []
    checks: bytearray = msgspec.field(default_factory=bytearray)
    """Hashes of the newest seqs, four bytes each, that of a seq at (seq % REMEMBERED)."""
    predecessor: tuple[int, int] | None = None
    """The epoch before and its last seq, as this epoch's first row or a heartbeat said."""
    last: int = -1
    """The last seq, as a successor said; -1 while none did."""
    gaps: dict[int, int] = {}
    """The first seq of each gap that is watched: since when, by the shard's clock; negative once it was reported."""
    went_back: bool = False
    in_steps: bool = False
    """Only in a piece of state: `intervals` holds the steps from bound to bound instead of the bounds."""


Epochs = dict[tuple[str, int], Epoch]
"""The state of one shard: by agent and epoch."""


class Deduped(NamedTuple):
    """What goes on, in order, and what to say."""

    fresh: list[Arrived]
    haves: list[Have]
    reports: list[Report]
    changed: set[tuple[str, int]]
    """Epochs of the state that are to be written."""
    repeats: int


def step(
    epochs: Epochs,
    shard: int,
    arrived: Sequence[Arrived],
    heartbeats: Sequence[Heartbeat],
    now_us: int,
    gap_after_us: int,
) -> Deduped:
    """Take a shard's rows of one batch; `epochs` is changed in place.

    Args:
        heartbeats: only for the predecessors that they name.
        now_us: the shard's clock after the batch, 0 if it has none yet.
        gap_after_us: how long a seq may be missing, while lanes overtake each other, before it is reported.
    """
    out = Deduped([], [], [], set(), 0)
    grown: dict[tuple[str, int], None] = {}
    repeats = 0
    for row in arrived:
        at = (row.agent, row.epoch)
        epoch = epochs.get(at)
        if epoch is None:
            epoch = epochs[at] = Epoch()
        if row.predecessor is not None:
            _link(epochs, at, row.predecessor, shard, now_us, out)
        if intervals.add(epoch.intervals, row.seq):
            grown[at] = None
            _remember(epoch, row)
            # What cannot be read may name a predecessor all the same.
            names_none = row.predecessor is None and not isinstance(row.what, DeadLetter)
            if row.seq == 1 and names_none and _begins_anew(epochs, at):
                text = "this epoch follows none, and there were others: the agent's file is a new one, what the former still held will not come"
                out.reports.append(Report("began-anew", shard, row.agent, row.epoch, text, now_us))
        elif row.replayed:
            pass  # its seq is had because its bytes were safe; whether it counts yet is its rows' business (R1)
        elif _known(epoch, row.seq) == row.check:
            repeats += 1
            continue
        elif _known(epoch, row.seq) is not None:
            text = f"seq {row.seq} came again with other bytes; both are kept"
            out.reports.append(Report("another-body", shard, row.agent, row.epoch, text, now_us))
        out.fresh.append(row)
    for heartbeat in heartbeats:
        if heartbeat.predecessor is not None:
            _link(epochs, (heartbeat.agent, heartbeat.epoch), heartbeat.predecessor, shard, now_us, out)
    out.changed.update(grown)
    _watch(epochs, shard, now_us, gap_after_us, out)
    return out._replace(haves=[have_of(shard, at, epochs[at]) for at in grown], repeats=repeats)


def have_of(shard: int, at: tuple[str, int], epoch: Epoch) -> Have:
    """What an agent may know of what is here; never more than that."""
    return Have(*at, shard, epoch.intervals[:_HAVE_BOUNDS])


def _link(
    epochs: Epochs, at: tuple[str, int], named: Predecessor, shard: int, now_us: int, out: Deduped
) -> None:
    """Note which epoch came before, and where it says that that one ended; two that followed one had one file (R6)."""
    epoch = epochs.setdefault(at, Epoch())
    if epoch.predecessor is not None:
        return
    epoch.predecessor = (named.epoch, named.seq)
    before = epochs.setdefault((at[0], named.epoch), Epoch())
    # Two successors that name different ends: the file went back between them, and the smaller end is the story to tell.
    before.last = named.seq if before.last < 0 else min(before.last, named.seq)
    out.changed.update((at, (at[0], named.epoch)))
    follows = sum(
        name == at[0] and state.predecessor is not None and state.predecessor[0] == named.epoch
        for (name, _), state in epochs.items()
    )
    if follows > 1 and not before.went_back:
        before.went_back = True
        text = "two epochs say that they follow this one: the agent's file went back to it, or was copied"
        out.reports.append(Report("went-back", shard, at[0], named.epoch, text, now_us))


def _remember(epoch: Epoch, row: Arrived) -> None:
    newest = epoch.intervals[-1]
    if row.seq <= newest - REMEMBERED:
        return  # its place belongs to a newer one
    place = row.seq % REMEMBERED * 4
    if len(epoch.checks) < place + 4:
        epoch.checks.extend(bytes(place + 4 - len(epoch.checks)))
    epoch.checks[place : place + 4] = row.check.to_bytes(4, "little")


def _known(epoch: Epoch, seq: int) -> int | None:
    """The hash of a seq that is there, None where it is too old to be remembered."""
    place = seq % REMEMBERED * 4
    if seq <= epoch.intervals[-1] - REMEMBERED or len(epoch.checks) < place + 4:
        return None
    return int.from_bytes(epoch.checks[place : place + 4], "little")


def _watch(epochs: Epochs, shard: int, now_us: int, gap_after_us: int, out: Deduped) -> None:
    """Report each gap that stays, and each file that went back, once."""
    for at, epoch in epochs.items():
        newest = epoch.intervals[-1] if epoch.intervals else 0
        if 0 <= epoch.last < newest and not epoch.went_back:
            epoch.went_back = True
            out.changed.add(at)
            text = f"the next epoch says that this one ended at seq {epoch.last}, but seq {newest} is here: the agent's file went back"
            out.reports.append(Report("went-back", shard, *at, text, now_us))
        if not now_us:
            continue  # no clock record yet, so a gap's time has not begun
        if len(epoch.intervals) > 2 or epoch.gaps or epoch.last > newest or epoch.intervals[:1] > [1]:
            _watch_gaps(at, epoch, shard, now_us, gap_after_us, out)


def _watch_gaps(
    at: tuple[str, int], epoch: Epoch, shard: int, now_us: int, gap_after_us: int, out: Deduped
) -> None:
    newest = epoch.intervals[-1] if epoch.intervals else 0
    found = dict(intervals.gaps(epoch.intervals, max(newest, epoch.last))[:_GAPS_WATCHED])
    watched = {first: epoch.gaps.get(first, now_us) for first in found}
    for first, since in watched.items():
        if 0 < since <= now_us - gap_after_us:
            watched[first] = -since
            text = f"seqs {first} to {found[first]} are missing"
            out.reports.append(Report("gap", shard, *at, text, now_us))
    if watched != epoch.gaps:
        epoch.gaps = watched
        out.changed.add(at)


def _begins_anew(epochs: Epochs, at: tuple[str, int]) -> bool:
    """Tell whether an epoch without a predecessor is not its agent's first: others are there that do not follow it."""
    agent, epoch = at
    return any(
        name == agent and number != epoch and state.intervals and not _follows(epochs, agent, number, epoch)
        for (name, number), state in epochs.items()
    )


def before(epochs: Epochs, agent: str, epoch: int) -> Iterable[tuple[int, Epoch]]:
    """The epochs of an agent that came before one: all that are known but those that followed it."""
    for (name, number), state in epochs.items():
        if name == agent and number != epoch and not _follows(epochs, agent, number, epoch):
            yield number, state


def _follows(epochs: Epochs, agent: str, number: int, epoch: int) -> bool:
    """Tell whether the chain of predecessors leads from `number` back to `epoch`."""
    seen = set()
    while number not in seen:
        seen.add(number)
        state = epochs.get((agent, number))
        if state is None or state.predecessor is None:
            return False
        number = state.predecessor[0]
        if number == epoch:
            return True
    return False
