"""Which series may be let go: idle for long, of which nothing is under way. A pure look at the state between two ticks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge.recent import NEVER
from headwater_edge.state import State

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def may_go(state: State, idle_us: int, gone_us: int, most: int) -> Ints:
    """Return the numbers of series that may be let go now, rising.

    Every window of theirs is out, none of their readings is in the journal, which knows series by number, and no rule watches
    them but one that told their silence. A device that is connected, or of which it is still to be said that it is silent, keeps
    all it has if nothing of it speaks; and so does the device of each shard that was heard last, for heartbeats go by devices.

    Args:
        idle_us: after so long without a reading they may go.
        gone_us: age of the agent up to which journal rows are gone.
        most: beyond so many series the longest unheard go, however long that is.
    """
    live = state.serial >= 0
    heard = _heard(state)
    until = min(max(state.age_us - idle_us, _pressed(heard[live], most)), gone_us - 1)
    go = live & (heard <= until)
    if not go.any():
        return np.zeros(0, np.int64)
    go &= ~state.levels.unfinished()[: len(go)]
    go[state.waiting.series] = False
    go[state.detectors.busy()] = go[state.detection.busy()] = False
    _with_counters(state, go)
    _keep_devices(state, live, go)
    return np.flatnonzero(go)


def _heard(state: State) -> Ints:
    """Return when each series was heard last; the rate of a counter is heard with it."""
    rate = state.meaning.rate
    (counters,) = np.nonzero(rate >= 0)
    if not len(counters):
        return state.heard_us
    heard = state.heard_us.copy()
    np.maximum.at(heard, rate[counters], heard[counters])
    return heard


def _pressed(heard: Ints, most: int) -> int:
    """Return the time up to which series must have been heard last to be among those that are too many."""
    many = len(heard) - most
    return int(np.partition(heard, many - 1)[many - 1]) if many > 0 else NEVER


def _with_counters(state: State, go: Mask) -> None:
    """Keep the rates of counters that stay."""
    rate = state.meaning.rate
    (counters,) = np.nonzero(rate >= 0)
    go[rate[counters]] &= go[counters]


def _keep_devices(state: State, live: Mask, go: Mask) -> None:
    devices = len(state.device_numbers)
    stays = np.bincount(state.device[live & ~go], minlength=devices) > 0
    keep = ~stays & state.presence.waits()
    held = np.zeros(devices, np.bool_)
    held[state.device[live]] = True
    stays |= keep
    heard, shard = state.watermarks.heard, state.device_shard
    on = {one: np.flatnonzero(shard == one) for one in np.unique(shard).tolist()}
    for one, more in state.spreading.elsewhere.items():
        on[one] = np.union1d(on.get(one, more), more)
    for ever in on.values():
        of_shard = ever[held[ever]]
        if len(of_shard) and not (stays | keep)[of_shard].any():
            keep[of_shard[np.argmax(heard[of_shard])]] = True
    go &= ~keep[state.device]
