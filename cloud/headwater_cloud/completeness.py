"""Up to when an agent's windows are complete in a shard: heartbeats that every seq before them bears out (R23).

A heartbeat says "complete up to T, last seq N". It takes effect once every seq up to N, and of the epochs before, is
there. An agent that is silent for too long, by the shard's clock, is no longer waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headwater_cloud import intervals
from headwater_cloud.dedupe import Epochs, before
from headwater_shared.records import Heartbeat

_WAITING = 64  # heartbeats of one agent that wait for a gap to close


class Progress(msgspec.Struct, array_like=True):
    """How far one agent is in one shard; times in microseconds, 0 for never."""

    epoch: int = 0
    """Of the heartbeat that took effect last."""
    complete_us: int = 0
    heard_us: int = 0
    """By the shard's clock when it was heard last."""
    silent: bool = False
    waiting: list[tuple[int, int, int]] = []
    """Heartbeats that have no effect yet: epoch, last seq, complete up to."""
    since_us: int = 0
    """When it fell silent last: up to when it was complete then or, if it never was, was heard; 0: never, or not known."""


Agents = dict[str, Progress]
"""The state of one shard: by agent."""


def step(
    agents: Agents,
    epochs: Epochs,
    heard: Sequence[str],
    heartbeats: Sequence[Heartbeat],
    now_us: int,
    silent_after_us: int,
) -> set[str]:
    """Take a shard's heartbeats of one batch; `agents` is changed in place.

    Args:
        epochs: what dedupe has after the batch.
        heard: agents whose rows came in the batch.
        now_us: the shard's clock after the batch.
        silent_after_us: silence after which nobody waits for an agent.

    Returns:
        The agents whose progress changed.
    """
    changed: set[str] = set()
    for heartbeat in heartbeats:
        waiting = agents.setdefault(heartbeat.agent, Progress()).waiting
        waiting.append((heartbeat.epoch, heartbeat.last_seq, heartbeat.complete_us))
        if len(waiting) > _WAITING:
            del waiting[
                1:-1:2
            ]  # thin out the middle: the first shows progress soon, the last shows all of it
    for agent in {*heard, *(heartbeat.agent for heartbeat in heartbeats)}:
        progress = agents.setdefault(agent, Progress())
        progress.heard_us = max(progress.heard_us, now_us)
        progress.silent = False
        _take_effect(progress, epochs, agent)
        changed.add(agent)
    for agent, progress in agents.items():
        if (
            now_us and not progress.heard_us
        ):  # heard before the first clock record: its silence begins with that
            progress.heard_us = now_us
            changed.add(agent)
        if not progress.silent and 0 < progress.heard_us < now_us - silent_after_us:
            progress.silent = True
            progress.since_us = progress.complete_us or progress.heard_us
            changed.add(agent)
    return changed


def _take_effect(progress: Progress, epochs: Epochs, agent: str) -> None:
    still = []
    for epoch, last_seq, complete_us in progress.waiting:
        state = epochs.get((agent, epoch))
        own = state.intervals if state else []
        if intervals.whole(own, last_seq) and all(
            intervals.whole(older.intervals, max(older.last, older.intervals[-1] if older.intervals else 0))
            for _, older in before(epochs, agent, epoch)
        ):
            if complete_us >= progress.complete_us:
                progress.epoch, progress.complete_us = epoch, complete_us
        else:
            still.append((epoch, last_seq, complete_us))
    progress.waiting = still
