"""Which readings of a tick count: each once, without what repeats by transport (R3) or by meaning (R2, R4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headwater_edge import stamps
from headwater_edge.duplicates import by_meaning, contents_of
from headwater_edge.event_time import Stamped, stamped
from headwater_edge.output import Output
from headwater_edge.state import State
from headwater_edge.tick import Messages, Tick
from headwater_edge.unreleased import releases_of
from headwater_edge.verdicts import split, verdicts
from headwater_shared.digest import NO_TIME, reading_digests

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def accept(state: State, tick: Tick, out: Output) -> Stamped | None:
    """Take a tick's readings once each: without what repeats by transport (R3) or by meaning (R2); with their event time."""
    messages, readings, counters = tick.messages, tick.readings, state.counters
    counters.messages += len(messages)
    counters.readings += len(readings)
    releases = releases_of(tick.events, state.sessions.numbers)
    if not len(messages) and not releases.said:
        state.sessions.end_tick()
        return None
    digests = reading_digests(readings.sent, readings.value)
    contents = contents_of(messages, readings, state.serial, digests, tick.unreadable)
    state.heard_us[readings.series] = state.age_us
    repeated, out.unknown = state.transport.duplicates(
        _session_of(state, messages), messages, contents, releases
    )
    repeated |= state.idempotency.judge(tick, out.verdicts)
    _forget_sessions(state)
    series, sent, value = readings.series, readings.sent, readings.value
    message = np.repeat(np.arange(len(messages)), messages.readings)
    said = verdicts(tick)
    if repeated.any():
        out.repeated = frozenset(np.flatnonzero(repeated).tolist())
        kept = ~repeated[message]
        counters.by_transport += len(kept) - int(kept.sum())
        series, sent, value, message = series[kept], sent[kept], value[kept], message[kept]
        said = said[kept] if said is not None else None
    counters.dead += sum(1 for at, _ in tick.unreadable if at not in out.repeated)
    if not len(series):
        return None
    sent, after_arrival = stamps.split(sent)
    if state.settings.by_meaning:
        found, coarse = by_meaning(state.levels.fine.recent, state.last_sent, series, sent, value, message)
        _warn_coarse(state, coarse, out)
        counters.by_meaning += int(found.sum())
        if said is not None:
            _by_horizon(state, said, found, message, out)
        if found.any():
            kept = ~found
            series, sent, value, message = series[kept], sent[kept], value[kept], message[kept]
            after_arrival = after_arrival[kept] if after_arrival is not None else None
            if not len(series):
                return None
        timed = sent != NO_TIME
        if timed.all():
            state.coverage.hear(series, sent)
        elif timed.any():
            state.coverage.hear(series[timed], sent[timed])
    counters.accepted += len(series)

    def arrived() -> Ints:
        at = arrived_at(messages)[message]
        return at if after_arrival is None or by_arrival else at + after_arrival

    by_arrival = state.levels.fine.level.arrival
    return stamped(series, sent, value, arrived, tick.now, state.settings.future_us, by_arrival=by_arrival)


def _by_horizon(state: State, said: Ints, found: Mask, message: Ints, out: Output) -> None:
    """What had arrived within the horizon is a duplicate; what cannot be told from one is a dead letter. Adds to `found`."""
    known, beyond, at = split(said, found)
    state.counters.by_horizon += int(known.sum())
    state.counters.beyond_horizon += int(beyond.sum())
    out.beyond = list(zip(message[beyond].tolist(), at.tolist(), strict=True))
    found |= known | beyond


def _session_of(state: State, messages: Messages) -> Ints:
    """Return the session of each message; connections from before an end that is not yet noticed have theirs still."""
    numbers = state.sessions.numbers
    of_run = np.array([numbers.get(c, 0) for c in messages.run_connection.tolist()], np.int64)
    return np.repeat(of_run, _sizes(messages.run_end))


def _forget_sessions(state: State) -> None:
    """Drop the packet ids of sessions that ended, once they are many."""
    state.sessions.end_tick()
    if state.sessions.ended > max(64, len(state.sessions.by_client)):
        state.sessions.ended = 0
        state.transport.end_sessions(np.array(state.sessions.live_numbers(), np.int64))


def arrived_at(messages: Messages) -> Ints:
    """Return when each message was read."""
    return np.repeat(messages.burst_arrived, _sizes(messages.burst_end))


def _sizes(ends: Ints) -> Ints:
    """Return how long each run is of which the ends are given."""
    sizes = ends.copy()
    sizes[1:] -= ends[:-1]
    return sizes


def _warn_coarse(state: State, coarse: NDArray[np.int32], out: Output) -> None:
    for series in coarse.tolist():
        if not state.coarse[series]:
            state.coarse[series] = True
            out.warnings.append(
                f"{state.names[series]} sent two values at one time: its clock is coarser than its rate; both count. "
                'If it resends readings as new messages, set duplicates = "transport" in [edge.windows]'
            )
