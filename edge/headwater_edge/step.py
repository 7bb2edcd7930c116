"""The step: a pure function from state and one tick's columns to what goes out; no input or output, no clock, no chance.

The order of the calls is the way of a reading through the agent: sessions, duplicates, windows, rules, watermarks,
closing, acting. State is changed in place.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge.accept import accept
from headwater_edge.act import act
from headwater_edge.anomalies import put_changes, put_found
from headwater_edge.coverage import packed
from headwater_edge.event_time import CLAMPED, HELD, RESTAMPED, Stamped, joined, was_set_back
from headwater_edge.events import Coalesced, DetectorSlow, Flush, SeriesEvicted, SetAside, Settings, Start
from headwater_edge.fine import Rows
from headwater_edge.levels import Piece
from headwater_edge.numbering import numbered
from headwater_edge.output import Completeness, Output
from headwater_edge.presence import REASONS, STATUSES
from headwater_edge.recent import NEVER
from headwater_edge.ring import Panes
from headwater_edge.settings import StepSettings
from headwater_edge.state import State, moves_windows
from headwater_edge.tick import Tick
from headwater_shared.aggregates import Aggregates
from headwater_shared.clock import SYNCHRONISED, Now
from headwater_shared.frame import Frame
from headwater_shared.identity import SHARDS
from headwater_shared.parts import Parts, Sketches
from headwater_shared.records import Device, device_id

Ints = NDArray[np.int64]

_NO_MARK = 2**62
_LET_GO = "the series is let go: it was not heard for so long"


def step(state: State, tick: Tick) -> Output:
    """Take one tick in. The same state and tick give the same output and state, to the last bit."""
    state.tick += 1
    out = Output(state.tick, state.epoch)
    opened_by, levels = state.epoch, state.levels.names
    sealed = _start(state, tick, out)
    _let_go(state, tick, out)
    state.add_series(tick.new_series, tick.now, tick.numbers, tick.returned)
    _sessions(state, tick, out)
    back = was_set_back(state.now, tick.now) and state.watermarks.set_back(tick.now.wall_us)
    if back:
        state.detectors.set_back(state.watermarks.newest[state.device])
    _devices(state, tick, out)
    accepted = _count(state, tick, accept(state, tick, out))
    _detect(state, accepted, tick.now, out)
    marks = state.series_watermark(state.watermarks.advance(tick.now))
    pieces = state.levels.close(marks, state.tick)
    if any(isinstance(event, Flush) for _, event in tick.events):
        pieces += state.levels.close_all(state.tick)
    if sealed:
        _judge(state, sealed, levels, marks, out, sealed=True)
    _judge(state, pieces, state.levels.names, marks, out)  # while their readings are there
    late: list[Piece] = []
    if back:  # windows that our clock had passed begin anew (R8): last, so that none is opened again under this tick (R1)
        state.counters.set_back += 1
        late += state.levels.seal(state.tick)
    state.levels.prune(marks)
    out.epoch = state.epoch
    others = _other_settings(state, tick)
    if others is not None and moves_windows(state.settings, others):
        late += state.levels.seal(state.tick)
    if late:
        _judge(state, late, state.levels.names, marks, out, sealed=True)
    if sealed or pieces or late:
        _frames(state, sealed, pieces + late, opened_by, levels, out)
    if others is not None:
        _follow(state, others, tick, out)
    starts = any(isinstance(event, Start) and event.announces for _, event in tick.events)
    if starts:
        _announce(state, out)
    act(state, tick, out)
    state.counters.anomalies += len(out.anomalies)
    state.counters.late = state.levels.fine.late
    if state.grow_older(tick.now) or starts:
        out.age_us, out.coverage = state.age_us, packed(state.coverage, state.names)
    return out


def _start(state: State, tick: Tick, out: Output) -> list[Piece]:
    """Begin a new epoch: seal what the one before left open, take up the settings (R1, R6, R12)."""
    pieces: list[Piece] = []
    for _, event in tick.events:
        if isinstance(event, Start):
            pieces = state.levels.seal(state.tick)
            state.watermarks.start(state.now, tick.now)
            state.sessions.start(state.now, tick.now)
            state.commands.start(state.now, tick.now)
            if state.now is not None:
                state.detectors.start(tick.now.mono_us - state.now.mono_us)
            state.presence.start(state.now, tick.now)
            if state.epoch:
                state.previous = (state.epoch, dict(state.seq))
            state.epoch = event.epoch
            state.seq = {}
        elif isinstance(event, SetAside) and event.epoch:
            state.previous = (event.epoch, dict(event.seqs))
        elif isinstance(event, DetectorSlow):
            state.detection.set_aside(event, tick.now.wall_us)
        elif isinstance(event, Coalesced):
            state.counters.coalesced += event.parts
        elif isinstance(event, Settings) and _has_start(tick):  # which has closed all windows
            settings = msgspec.json.decode(event.body, type=StepSettings)
            if settings != state.settings:
                _follow(state, settings, tick, out)
    return pieces


def _has_start(tick: Tick) -> bool:
    return any(isinstance(event, Start) for _, event in tick.events)


def _other_settings(state: State, tick: Tick) -> StepSettings | None:
    """Return those that a running agent takes up, None if there are none.

    That is the last thing that a tick does, as with a clock that was set back: nothing that it seals is opened again under this tick.
    """
    bodies = [event.body for _, event in tick.events if isinstance(event, Settings)]
    if not bodies or _has_start(tick):
        return None
    settings = msgspec.json.decode(bodies[-1], type=StepSettings)
    return settings if settings != state.settings else None


def _follow(state: State, settings: StepSettings, tick: Tick, out: Output) -> None:
    """Take up other settings; what rules that are gone found broken ends."""
    gone = state.detectors.orphans(settings.rules, settings.more_rules, state.names)
    put_changes(state, gone, out, note="the rule is gone")
    put_found(state, state.detection.orphans(settings.detect), out)
    out.warnings += state.detection.anew(settings.detect)
    state.configure(settings, tick.now)


def _let_go(state: State, tick: Tick, out: Output) -> None:
    """Let go of series that were idle for long; a silence of theirs that was told ends, for nobody waits any longer."""
    for _, event in tick.events:
        if isinstance(event, SeriesEvicted):
            series = np.array(event.series, np.int64)
            put_changes(state, state.detectors.silences(series), out, note=_LET_GO)
            put_found(state, state.detection.ends(series, _LET_GO), out)
            out.evicted, out.devices_gone = state.let_go(series)


def _announce(state: State, out: Output) -> None:
    """Put an empty frame into each shard that the epoch before used and this one has not, so that no link of the chain is
    missing: an epoch that says nothing in a shard would leave open where the one before it ended there (R6, R23).
    """
    for shard in sorted(state.previous[1] if state.previous else ()):
        if shard not in state.seq:
            out.frames.append(Frame(*numbered(state, shard), Parts.empty()))


def _sessions(state: State, tick: Tick, out: Output) -> None:
    for _, event in tick.events:
        present = state.sessions.take(event, tick.now.mono_us)
        if present is not None:
            out.sessions[event.connection] = present  # type: ignore[union-attr]  # only a Connect answers
    state.sessions.wills.ripen(tick.now.mono_us)


def _devices(state: State, tick: Tick, out: Output) -> None:
    """Say whose status changed; numbered as anomalies are, so that it reaches the cloud once (R23)."""
    changes = state.presence.step(tick, state.device)
    names = list(state.device_numbers) if changes else []
    for change in changes:
        name = names[change.device]
        shard = state.spreading.map.shard(name, tick.now.wall_us)
        status = STATUSES[change.status]
        out.devices.append(
            Device(
                *numbered(state, shard),
                id=device_id(name, status, tick.now.wall_us),
                device=name,
                status=status,  # type: ignore[arg-type]  # one of the three
                before=STATUSES[change.before],
                before_us=change.before_us,
                reason=REASONS[change.reason],
                time_us=tick.now.wall_us,
                heard_us=change.heard_us,
            )
        )


def _count(state: State, tick: Tick, taken: Stamped | None) -> Stamped | None:
    """Count readings in their windows: those that were taken now and need not wait, and those that have waited."""
    flush = any(isinstance(event, Flush) for _, event in tick.events)
    released = state.waiting.release(state.now, tick.now, state.settings.clock_wait_us, flush=flush)
    waits = tick.now.quality != SYNCHRONISED and state.settings.clock_wait_us > 0 and not flush
    if taken is not None and waits:
        taken = state.waiting.keep(taken, tick.now)
    rows = joined(released, taken)
    if rows is None or not len(rows.series):
        return None
    if rows.mark.any():
        state.counters.clamped += int((rows.mark & CLAMPED > 0).sum())
        state.counters.held += int((rows.mark & HELD > 0).sum())
        state.counters.restamped += int((rows.mark & RESTAMPED > 0).sum())
    state.watermarks.hear(state.device[rows.series], rows.event, rows.event != rows.sent, tick.now)
    rows = joined(rows, state.meaning.rates(rows)) or rows
    state.levels.add(rows.series, rows.sent, rows.event, rows.value, rows.mark, state.tick)
    return rows


def _detect(state: State, accepted: Stamped | None, now: Now, out: Output) -> None:
    """Judge the raw columns by the rules, and the passing of time."""
    changes = []
    if accepted is not None:
        value = state.meaning.of(accepted.series, accepted.value)
        changes = state.detectors.run(accepted.series, accepted.event, value, now.mono_us)
    changes += state.detectors.passed(now.mono_us, state.waiting.series)
    put_changes(state, changes, out)


def _judge(
    state: State, pieces: list[Piece], levels: list[str], marks: Ints, out: Output, *, sealed: bool = False
) -> None:
    """Judge windows that closed, of these levels; `sealed`: a start, or other settings, closed them before their end."""
    if not state.detection.judges:
        return
    found = state.detection.take(_by_level(pieces, levels), marks[: len(state.names)], sealed=sealed)
    put_found(state, found, out)
    out.warnings += state.detection.failures()


def _by_level(pieces: list[Piece], names: list[str]) -> dict[str, list[Rows]]:
    found: dict[str, list[Rows]] = {}
    for piece in pieces:
        found.setdefault(names[piece.level], []).append(piece.rows)
    return found


def _frames(
    state: State, sealed: list[Piece], own: list[Piece], opened_by: int, levels: list[str], out: Output
) -> None:
    """Make one frame a shard of all that went out of the windows; a part's shard is that of its series at its start (R25).

    Args:
        sealed: of the epoch `opened_by`, at `levels`: those of before, if the agent has started in this tick.
        own: of the epoch and the levels of now.
    """
    pieces, names = sealed + own, list(dict.fromkeys([*levels, *state.levels.names]))
    epochs = list(dict.fromkeys([opened_by] * bool(sealed) + [state.epoch] * bool(own)))
    place = [names.index(levels[piece.level]) for piece in sealed]
    place += [names.index(state.levels.names[piece.level]) for piece in own]
    sizes = [len(piece.rows.panes) for piece in pieces]
    panes = Panes.concatenate([piece.rows.panes for piece in pieces])
    whole = Parts(
        state.names,
        names,
        epochs,
        panes.series,
        np.repeat(place, sizes),
        panes.start,
        np.repeat([0] * len(sealed) + [len(epochs) - 1] * len(own), sizes),
        panes.tick,
        panes.revision,
        panes.flags.astype(np.int64),
        Aggregates.concatenate([piece.rows.aggregates for piece in pieces]),
        _concatenated([piece.rows.sketches for piece in pieces]),
    )
    state.counters.parts += len(whole)
    state.counters.revisions += int((whole.revision > 0).sum())
    shard = state.spreading.shards(state.shard, panes.series, panes.start)
    for number in np.flatnonzero(np.bincount(shard)).tolist():
        parts = whole.take(shard == number)
        used, parts.series = np.unique(parts.series, return_inverse=True)
        parts.names = [state.names[i] for i in used.tolist()]
        out.frames.append(Frame(*numbered(state, number), parts))


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
    marks = np.where(state.watermarks.mark > NEVER, state.watermarks.mark, _NO_MARK)
    least = np.full(SHARDS, _NO_MARK)
    np.minimum.at(least, state.device_shard, marks)
    for shard, devices in state.spreading.elsewhere.items():
        least[shard] = min(least[shard], marks[devices].min())
    shards = np.flatnonzero(least < _NO_MARK).tolist()
    return Completeness(
        state.epoch, {shard: (int(least[shard]), state.seq.get(shard, 0)) for shard in shards}, state.previous
    )
