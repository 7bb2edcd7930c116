"""The step: a pure function from state and one tick's columns to what goes out; no input or output, no clock, no chance.

The order of the calls is the way of a reading through the agent: sessions, duplicates, windows, limits, watermarks,
closing. State is changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge.coverage import packed
from headwater_edge.duplicates import by_meaning, contents_of
from headwater_edge.events import Flush, Settings, Start
from headwater_edge.levels import Piece
from headwater_edge.limits import Change, LimitRule
from headwater_edge.recent import NEVER
from headwater_edge.settings import StepSettings
from headwater_edge.state import State
from headwater_edge.tick import Messages, Tick
from headwater_edge.verdicts import split, verdicts
from headwater_shared.aggregates import Aggregates
from headwater_shared.digest import NO_TIME, reading_digests
from headwater_shared.frame import Frame
from headwater_shared.identity import SHARDS, shard_of, site_of, stable_id
from headwater_shared.parts import Parts, Sketches
from headwater_shared.records import Anomaly, Predecessor

Ints = NDArray[np.int64]

_SAMPLES = 32
_NO_MARK = 2**62


@dataclass(slots=True)
class Output:
    """What one step puts out; it aliases no state."""

    tick: int
    epoch: int
    anomalies: list[Anomaly] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    sessions: dict[int, bool] = field(default_factory=dict)
    """Whether a session was present, by connection that connected."""
    repeated: frozenset[int] = frozenset()
    """Messages that repeated one before, by transport; their dead letters are not written again."""
    warnings: list[str] = field(default_factory=list)
    beyond: list[tuple[int, int]] = field(default_factory=list)
    """(message, reading) of what cannot be told from a resend: dead letters (R4)."""
    age_us: int = 0
    coverage: bytes = b""
    """What every series was heard in, now and then: it stands for the journal's rows up to this tick once they go."""


class Completeness(NamedTuple):
    """What heartbeats say."""

    epoch: int
    shards: dict[int, tuple[int, int]]
    """By shard: every window of every device up to this time is out, and the last seq."""
    previous: tuple[int, dict[int, int]] | None
    """The epoch before this one and its last seqs."""


@dataclass(slots=True)
class _Accepted:
    """A tick's readings that count: columns of n."""

    series: NDArray[np.int32]
    event: Ints
    value: NDArray[np.float64]
    order: Ints
    """A stable argsort of `series`."""


def step(state: State, tick: Tick) -> Output:
    """Take one tick in. The same state and tick give the same output and state, to the last bit."""
    state.tick += 1
    out = Output(state.tick, state.epoch)
    opened_by, levels = state.epoch, list(state.settings.levels)
    pieces = _start(state, tick, out)
    state.add_series(tick.new_series, tick.now)
    _sessions(state, tick, out)
    accepted = _accept(state, tick, out)
    if accepted is not None:
        _detect(state, accepted, out)
    marks = state.watermarks.advance(tick.now)
    pieces += state.levels.close(state.series_watermark(marks), state.tick)
    if any(isinstance(event, Flush) for _, event in tick.events):
        pieces += state.levels.close_all(state.tick)
    state.levels.fine.prune(state.series_watermark(marks), state.settings.held_us)
    out.epoch = state.epoch
    if pieces:
        _frames(state, pieces, opened_by, levels, out)
    state.counters.anomalies += len(out.anomalies)
    state.counters.late = state.levels.fine.late
    if state.grow_older(tick.now):
        out.age_us, out.coverage = state.age_us, packed(state.coverage)
    return out


def _start(state: State, tick: Tick, out: Output) -> list[Piece]:
    """Begin a new epoch: seal what the one before left open, take up the settings (R1, R6, R12)."""
    pieces: list[Piece] = []
    for _, event in tick.events:
        if isinstance(event, Start):
            pieces = state.levels.seal(state.tick)
            state.watermarks.start(state.now, tick.now)
            state.sessions.start(tick.now.wall_us)
            if state.epoch:
                state.previous = (state.epoch, dict(state.seq))
            state.epoch = event.epoch
            state.seq = {}
        elif isinstance(event, Settings):
            settings = msgspec.json.decode(event.body, type=StepSettings)
            if settings != state.settings:
                pieces += state.levels.seal(state.tick)
                for rule, series, begin_us in state.limits.orphans(settings.rules):
                    end = Change(0, 0, begins=False, begin_us=begin_us)
                    _put_anomaly(
                        state, rule, series, end, (begin_us, rule.limit), out, note="the rule is gone"
                    )
                state.configure(settings, tick.now)
    return pieces


def _sessions(state: State, tick: Tick, out: Output) -> None:
    for _, event in tick.events:
        present = state.sessions.take(event, tick.now.wall_us)
        if present is not None:
            out.sessions[event.connection] = present  # type: ignore[union-attr]  # only a Connect answers


def _accept(state: State, tick: Tick, out: Output) -> _Accepted | None:
    """Count a tick's readings once each: without what repeats by transport (R3) or by meaning (R2)."""
    messages, readings, counters = tick.messages, tick.readings, state.counters
    counters.messages += len(messages)
    counters.readings += len(readings)
    if not len(messages):
        state.sessions.end_tick()
        return None
    digests = reading_digests(readings.sent, readings.value)
    contents = contents_of(messages, readings, digests, tick.unreadable)
    repeated = state.transport.duplicates(_session_of(state, messages), messages, contents)
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
    order = np.argsort(series, kind="stable")
    if state.settings.by_meaning:
        found, coarse = by_meaning(
            state.levels.fine.recent, state.last_sent, series, sent, value, message, order
        )
        _warn_coarse(state, coarse, out)
        counters.by_meaning += int(found.sum())
        if said is not None:
            _by_horizon(state, said, found, message, out)
        if found.any():
            kept = ~found
            series, sent, value, message = series[kept], sent[kept], value[kept], message[kept]
            if not len(series):
                return None
            order = np.argsort(series, kind="stable")
        timed = sent != NO_TIME
        if timed.all():
            state.coverage.hear(series, sent)
        elif timed.any():
            state.coverage.hear(series[timed], sent[timed])
    event = (
        sent if not (sent == NO_TIME).any() else np.where(sent == NO_TIME, _arrived(messages)[message], sent)
    )
    counters.accepted += len(series)
    state.levels.add(series, sent, event, value, state.tick)
    state.watermarks.hear(state.device[series], event, tick.now)
    return _Accepted(series, event, value, order)


def _by_horizon(state: State, said: Ints, found: NDArray[np.bool_], message: Ints, out: Output) -> None:
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


def _arrived(messages: Messages) -> Ints:
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


def _detect(state: State, accepted: _Accepted, out: Output) -> None:
    """Judge the raw columns by the limit rules."""
    changes = state.limits.run(accepted.series, accepted.event, accepted.value, accepted.order)
    for change in changes:
        rule = state.limits.rules[change.rule]
        evidence = int(accepted.event[change.reading]), float(accepted.value[change.reading])
        _put_anomaly(state, rule, int(accepted.series[change.reading]), change, evidence, out)


def _put_anomaly(
    state: State,
    rule: LimitRule,
    series: int,
    change: Change,
    evidence: tuple[int, float],
    out: Output,
    note: str = "",
) -> None:
    name = state.names[series]
    shard = shard_of(site_of(name))
    seq, predecessor = _next_seq(state, shard)
    recent = state.levels.fine.recent
    rows = recent.last_of(series, _SAMPLES)
    out.anomalies.append(
        Anomaly(
            agent=state.settings.agent,
            epoch=state.epoch,
            shard=shard,
            seq=seq,
            tick=state.tick,
            predecessor=predecessor,
            id=stable_id(rule.name, name, change.begin_us),
            rule=rule.name,
            series=name,
            phase="begin" if change.begins else "end",
            begin_us=change.begin_us,
            time_us=evidence[0],
            value=evidence[1],
            limit=rule.limit,
            severity=rule.severity,
            text=note or rule.text,
            sample_times=recent.event[rows].tolist(),
            sample_values=recent.value[rows].tolist(),
        )
    )


def _next_seq(state: State, shard: int) -> tuple[int, Predecessor | None]:
    """Number a row for the bus; an epoch's first in a shard names the epoch before and its last seq (R6)."""
    first = shard not in state.seq
    seq = state.seq[shard] = state.seq.get(shard, 0) + 1
    if not first or state.previous is None:
        return seq, None
    epoch, seqs = state.previous
    return seq, Predecessor(epoch, seqs.get(shard, 0))


def _frames(state: State, pieces: list[Piece], opened_by: int, levels: list[str], out: Output) -> None:
    """Make one frame a shard of all that went out of the windows."""
    panes = [piece.rows.panes for piece in pieces]
    series = np.concatenate([p.series for p in panes])
    level = np.concatenate([np.full(len(piece.rows.panes), piece.level) for piece in pieces])
    whole = Parts(
        state.names,
        levels,
        [opened_by],
        series,
        level,
        np.concatenate([p.start for p in panes]),
        np.zeros(len(series), np.int64),
        np.concatenate([p.tick for p in panes]),
        np.concatenate([p.revision for p in panes]),
        np.zeros(len(series), np.int64),
        Aggregates.concatenate([piece.rows.aggregates for piece in pieces]),
        _concatenated([piece.rows.sketches for piece in pieces]),
    )
    state.counters.parts += len(whole)
    state.counters.revisions += int((whole.revision > 0).sum())
    shard = state.shard[series]
    for number in np.flatnonzero(np.bincount(shard)).tolist():
        parts = whole.take(shard == number)
        used, parts.series = np.unique(parts.series, return_inverse=True)
        parts.names = [state.names[i] for i in used.tolist()]
        seq, predecessor = _next_seq(state, number)
        out.frames.append(
            Frame(state.settings.agent, state.epoch, number, seq, state.tick, predecessor, parts)
        )


def _concatenated(sketches: list[Sketches]) -> Sketches:
    ends, before = [], 0
    for sketch in sketches:
        ends.append(sketch.end + before)
        before += len(sketch.bucket)
    return Sketches(
        np.concatenate(ends),
        np.concatenate([s.bucket for s in sketches]),
        np.concatenate([s.count for s in sketches]),
    )


def completeness(state: State) -> Completeness:
    """Return how far the agent's windows are complete, as of its last tick."""
    marks = state.watermarks.mark
    least = np.full(SHARDS, _NO_MARK)
    np.minimum.at(least, state.device_shard, np.where(marks > NEVER, marks, _NO_MARK))
    shards = np.flatnonzero(least < _NO_MARK).tolist()
    return Completeness(
        state.epoch, {shard: (int(least[shard]), state.seq.get(shard, 0)) for shard in shards}, state.previous
    )
