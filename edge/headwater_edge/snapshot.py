"""The snapshot: the state as sections of raw arrays under one head, written piece by piece, format 3 (R15).

Of older formats, what was not there yet is taken as empty.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from headwater_edge.detection.judge import under
from headwater_edge.detection.models import Models, digests
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.meaning import Meaning
from headwater_edge.ring import Ring
from headwater_edge.settings import StepSettings
from headwater_edge.state import Counters, State
from headwater_shared.aggregates import Aggregates
from headwater_shared.clock import Now
from headwater_shared.squeeze import squeezed

FORMAT = 3
KNOWN = (1, 2, 3)
_PIECE = 256 * 1024
_MARKS = ("mark", "newest", "heard")
_OWN = ("device", "shard", "device_shard", "last_sent", "coarse", "serial", "heard_us")

_SIGNED = "signed"
"""In the place of a dtype: models that are objects, with their signatures."""

Arrays = dict[str, Any]
"""By section, an array; or the models of a detector (`models.Models`)."""


class _Section(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    shape: list[int]
    pieces: int


class _Head(msgspec.Struct):
    format: int
    scalars: dict[str, Any]
    sections: list[_Section]
    hashes: list[bytes]
    """blake2b of each piece, 16 bytes."""


@dataclass(slots=True)
class Picture:
    """A copy of the state between two ticks, ready to be written while the state goes on; models follow by and by."""

    tick: int
    scalars: dict[str, Any]
    arrays: Arrays

    @property
    def size(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def some(self, seconds: float) -> bool:
        """Copy some more of what is too much to be copied at once, for so long; tell whether all is there (R15)."""
        return all(one.some(seconds) for one in self.arrays.values() if isinstance(one, Models))


def take(state: State) -> Picture:
    """Copy the state."""
    keys, key_columns = state.idempotency.dump()
    presence, presence_columns = state.presence.dump()
    scalars: dict[str, Any] = {
        "settings": msgspec.to_builtins(state.settings),
        "tick": state.tick,
        "epoch": state.epoch,
        "now": list(state.now) if state.now else None,
        "names": list(state.names),
        "devices": list(state.device_numbers),
        "seq": dict(state.seq),
        "previous": [state.previous[0], dict(state.previous[1])] if state.previous else None,
        "sessions": state.sessions.dump(),
        "idempotency": keys,
        "commands": state.commands.dump(),
        "orders": state.orders.dump(),
        "presence": presence,
        "counters": msgspec.to_builtins(state.counters),
        "late": state.levels.fine.late,
        "prune_at": state.levels.fine.recent.prune_at,
        "age_us": state.age_us,
        "frozen_us": state.frozen_us,
        "made": state.made,
    }
    scalars = msgspec.msgpack.decode(
        msgspec.msgpack.encode(scalars), strict=False
    )  # nothing shared with the state
    arrays: Arrays = {name: getattr(state, name).copy() for name in _OWN}
    arrays |= {f"marks.{name}": getattr(state.watermarks, name).copy() for name in _MARKS}
    arrays |= {f"meaning.{name}": getattr(state.meaning, name).copy() for name in Meaning.KEPT}
    arrays["marks.by_us"] = state.watermarks.by_us.copy()
    arrays |= {f"transport.{name}": column for name, column in state.transport.dump().items()}
    arrays |= {f"waiting.{name}": column for name, column in state.waiting.dump().items()}
    arrays |= {f"coverage.{name}": column for name, column in state.coverage.dump().items()}
    arrays |= {f"idempotency.{name}": column for name, column in key_columns.items()}
    arrays |= {f"presence.{name}": column for name, column in presence_columns.items()}
    arrays |= {f"recent.{name}": column for name, column in state.levels.fine.recent.dump()}
    arrays |= {f"detection.{name}": column for name, column in state.detection.dump().items()}
    arrays |= {f"rules.{name}": column for name, column in state.detectors.dump().items()}
    for at, ring in enumerate(_rings(state)):
        arrays |= {f"ring{at}.{name}": getattr(ring, name).copy() for name in ring.COLUMNS}
    for at, level in enumerate(state.levels.coarser):
        arrays[f"coarse{at}.aggregates"] = level.aggregates.words.copy()
        arrays |= {f"coarse{at}.{name}": column for name, column in level.log.dump().items()}
    for at, some in enumerate(state.levels.some):
        arrays[f"some{at}.series"] = some.series.copy()
    for at, sessions in enumerate(state.levels.sessions):
        arrays |= {f"session{at}.{name}": column for name, column in sessions.dump().items()}
    return Picture(state.tick, scalars, arrays)


def restore(picture: Picture) -> State:
    """Make the state of which a picture was taken."""
    scalars, arrays = picture.scalars, dict(picture.arrays)
    state = State(msgspec.convert(scalars["settings"], StepSettings))
    state.tick, state.epoch = scalars["tick"], scalars["epoch"]
    state.now = Now(*scalars["now"]) if scalars["now"] else None
    state.names = list(scalars["names"])
    state.device_numbers = {device: number for number, device in enumerate(scalars["devices"])}
    state.seq = {int(shard): seq for shard, seq in scalars["seq"].items()}
    if scalars["previous"]:
        epoch, seqs = scalars["previous"]
        state.previous = (epoch, {int(shard): seq for shard, seq in seqs.items()})
    state.sessions.load(scalars["sessions"])
    state.commands.load(scalars.get("commands", {}))
    state.orders.load(scalars.get("orders", {}))
    state.counters = msgspec.convert(scalars["counters"], Counters)
    arrays.setdefault("serial", np.arange(len(state.names)))  # no series had been let go
    arrays.setdefault("heard_us", np.full(len(state.names), scalars.get("age_us", 0)))
    state.made = scalars.get("made", len(state.names))
    for name in _OWN:
        setattr(state, name, arrays[name].copy())
    for name in _MARKS:
        setattr(state.watermarks, name, arrays[f"marks.{name}"].copy())
    state.spread(state.settings)
    known = np.zeros(len(state.watermarks.mark), np.bool_)
    state.watermarks.by_us = arrays.get("marks.by_us", known).copy()  # not in the pictures of format 1
    state.transport.load(under("transport", arrays))
    state.levels.grow(state.names)
    state.age_us, state.frozen_us = scalars.get("age_us", 0), scalars.get("frozen_us", 0)
    if "coverage.begin" in arrays:  # nor is this
        state.coverage.load(under("coverage", arrays))
        state.waiting.load(under("waiting", arrays))
    state.coverage.grow(len(state.names))
    state.idempotency.load(scalars.get("idempotency", {}), under("idempotency", arrays))
    if "presence" in scalars:  # nor are devices' status
        state.presence.load(scalars["presence"], under("presence", arrays))
    if state.now is not None:
        state.presence.grow(state.device_numbers, state.now)
    state.meaning.grow(state.names)
    for name, column in under("meaning", arrays).items():
        setattr(state.meaning, name, column.copy())
    state.detectors.grow(state.names)
    if "limits.active" in arrays:  # of format 2 and before
        state.detectors.load_dense(arrays["limits.active"], arrays["limits.begin"])
    state.detectors.load(under("rules", arrays))
    state.anew = state.detection.load(under("detection", arrays), state.names, state.device)
    _levels_of(state, scalars, arrays)
    return state


def _levels_of(state: State, scalars: dict[str, Any], arrays: Arrays) -> None:
    state.levels.fine.late = scalars["late"]
    for at, some in enumerate(state.levels.some):
        if f"some{at}.series" in arrays:  # which were not always there
            some.load(arrays[f"some{at}.series"])
    state.levels.fine.recent.load(under("recent", arrays), scalars["prune_at"])
    for at, ring in enumerate(_rings(state)):
        columns = under(f"ring{at}", arrays)
        columns.setdefault("flags", np.zeros(len(columns["status"]), np.uint8))  # which were not always there
        for name in ring.COLUMNS:
            setattr(ring, name, columns[name].copy())
    for at, level in enumerate(state.levels.coarser):
        level.aggregates = Aggregates.of_words(arrays[f"coarse{at}.aggregates"].copy())
        level.log.load(under(f"coarse{at}", arrays))
    for at, sessions in enumerate(state.levels.sessions):
        sessions.load(under(f"session{at}", arrays))


def _rings(state: State) -> list[Ring]:
    return [state.levels.fine.ring, *(level.ring for level in state.levels.coarser)]


def encode(picture: Picture, seal: Seal = NO_KEY) -> list[bytes]:
    """Return the rows of a snapshot: the head, then the pieces; the head is to be written last.

    Models are written with the signatures of `seal`, or not at all (R21).
    """
    picture.some(math.inf)
    pieces: list[bytes] = []
    sections: list[_Section] = []
    for name, array in picture.arrays.items():
        models = isinstance(array, Models)
        packed = squeezed(seal.write(array) if models else np.ascontiguousarray(array).tobytes())
        cuts = [packed[at : at + _PIECE] for at in range(0, len(packed), _PIECE)]
        kind, shape = (_SIGNED, []) if models else (array.dtype.str, list(array.shape))
        sections.append(_Section(name, kind, shape, len(cuts)))
        pieces += cuts
    head = _Head(FORMAT, picture.scalars, sections, [_hash(piece) for piece in pieces])
    return [bytes([FORMAT]) + squeezed(msgspec.msgpack.encode(head)), *pieces]


def decode(tick: int, rows: list[bytes], seal: Seal = NO_KEY) -> Picture:
    """Read the rows of a snapshot back; of models those that `seal` has signed (R21).

    Raises:
        ValueError: another format, damaged or incomplete.
    """
    if not rows or not rows[0] or rows[0][0] not in KNOWN:
        raise ValueError(f"snapshot of tick {tick}: no head of a known format")
    try:
        head = msgspec.msgpack.decode(zlib.decompress(rows[0][1:]), type=_Head, strict=False)
        pieces = rows[1:]
        if [_hash(piece) for piece in pieces] != head.hashes:
            raise ValueError(f"snapshot of tick {tick}: damaged or incomplete")
        arrays: Arrays = {}
        at = 0
        for section in head.sections:
            raw = zlib.decompress(b"".join(pieces[at : at + section.pieces]))
            if section.dtype == _SIGNED:
                arrays[section.name] = seal.read(raw)
            else:
                arrays[section.name] = np.frombuffer(raw, np.dtype(section.dtype)).reshape(section.shape)
            at += section.pieces
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"snapshot of tick {tick}: {error}") from error
    return Picture(tick, head.scalars, arrays)


def names_in(tick: int, head: bytes) -> list[str]:
    """Return the names of the series, which the head of a snapshot holds, whatever became of its pieces.

    Raises:
        ValueError: the head is damaged.
    """
    if not head or head[0] not in KNOWN:
        raise ValueError(f"snapshot of tick {tick}: no head of a known format")
    try:
        found = msgspec.msgpack.decode(zlib.decompress(head[1:]), type=_Head, strict=False)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"snapshot of tick {tick}: {error}") from error
    return msgspec.convert(found.scalars.get("names", []), list[str])


def read(connection: sqlite3.Connection, tick: int, seal: Seal = NO_KEY) -> Picture:
    """Read a snapshot from the file.

    Raises:
        ValueError: see `decode`.
    """
    rows = connection.execute("SELECT body FROM snapshot WHERE tick = ? ORDER BY section", (tick,)).fetchall()
    return decode(tick, [body for (body,) in rows], seal)


def ticks(connection: sqlite3.Connection) -> list[int]:
    """Return the ticks of snapshots that have their head, newest first."""
    found = connection.execute("SELECT tick FROM snapshot WHERE section = 0 ORDER BY tick DESC").fetchall()
    return [tick for (tick,) in found]


def fingerprint(state: State) -> str:
    """Hash the whole state: two runs of one journal agree in it to the last bit (R31)."""
    picture = take(state)
    whole = hashlib.blake2b(msgspec.msgpack.encode(picture.scalars), digest_size=16)
    picture.some(math.inf)
    for name, array in picture.arrays.items():
        if isinstance(array, Models):
            whole.update(msgspec.msgpack.encode([name, *digests(array)]))
            continue
        whole.update(name.encode() + array.dtype.str.encode() + repr(array.shape).encode() + array.tobytes())
    return whole.hexdigest()


def _hash(piece: bytes) -> bytes:
    return hashlib.blake2b(piece, digest_size=16).digest()
