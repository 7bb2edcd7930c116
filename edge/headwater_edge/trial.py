"""Whether a journal row can be run: tried in a child process, which may die of it; and which of its messages cannot (R15)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

import numpy as np

from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.tick import Messages, Readings, Tick

_LONGEST_S = 60
"""What takes longer hangs."""


def survives(act: Callable[[], object]) -> bool:
    """Do something in a copy of this process; tell whether that came to its end. To be called before there are threads."""
    pid = os.fork()
    if not pid:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LONGEST_S)
            act()
        except BaseException:  # noqa: BLE001 - whatever it is, it is this process that must end, at once
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def without_killers(state: State, tick: Tick) -> tuple[Tick, list[int]] | None:
    """Find the messages that a step dies of; return the tick with these emptied, and which they are.

    None if it dies without any message as well. `state` is not changed.
    """
    every = list(range(len(tick.messages)))

    def good(taken: Sequence[int]) -> bool:
        return survives(lambda: step(state, emptied(tick, sorted({*every} - {*taken}))))

    if not good([]):
        return None
    taken: list[int] = []
    left = [every]
    while left:
        some = left.pop()
        if not some:
            continue
        if good([*taken, *some]):
            taken += some
        elif len(some) > 1:
            left += [some[len(some) // 2 :], some[: len(some) // 2]]
    killers = sorted({*every} - {*taken})
    return emptied(tick, killers), killers


def emptied(tick: Tick, messages: Sequence[int]) -> Tick:
    """Return a tick in which some messages bring nothing: no reading, no packet id."""
    m, r = tick.messages, tick.readings
    gone = np.zeros(len(m), np.bool_)
    gone[list(messages)] = True
    kept = ~np.repeat(gone, m.readings)
    number = np.cumsum(kept) - 1
    counts, ids, flags = m.readings.copy(), m.packet_id.copy(), m.flags.copy()
    counts[gone] = ids[gone] = flags[gone] = 0
    return Tick(
        tick.now,
        tick.events,
        tick.new_series,
        Messages(m.run_connection, m.run_end, m.burst_arrived, m.burst_end, ids, flags, counts),
        Readings(r.series[kept], r.sent[kept], r.value[kept]),
        [(at, crc) for at, crc in tick.unreadable if not gone[at]],
        [int(number[at]) for at in tick.known if kept[at]],
        [int(number[at]) for at in tick.beyond if kept[at]],
        tick.arrival,
        tick.numbers,
        tick.returned,
    )


def readings_of(tick: Tick, messages: Sequence[int]) -> Readings:
    """Return the readings of some messages."""
    wanted = np.zeros(len(tick.messages), np.bool_)
    wanted[list(messages)] = True
    kept = np.repeat(wanted, tick.messages.readings)
    return Readings(tick.readings.series[kept], tick.readings.sent[kept], tick.readings.value[kept])
