"""The frame on the wire: a batch of part columns as Avro, version 1, packed straight from and to numpy memory.

Any Avro reader reads it (`schemas/frame-1.avsc`); this module is the fast way for the newest version, and fastavro
reads every other one.
"""

from __future__ import annotations

import struct

import msgspec

from headwater_shared import avro
from headwater_shared.aggregates import COLUMNS, Aggregates
from headwater_shared.avro_columns import Cut, NameLists, array_bytes, column_bytes, long_bytes, text_bytes
from headwater_shared.parts import Parts, Sketches
from headwater_shared.records import Predecessor
from headwater_shared.sketch import BUCKETS

SCHEMA = "frame-1"

_PART_COLUMNS = ("series", "level", "start", "epoch", "tick", "revision", "flags")
_SKETCH_COLUMNS = ("end", "bucket", "count")
_MOST = 2**45  # readings of one part: more than a year of 1 MHz


class Frame(msgspec.Struct, frozen=True):
    """The parts that one agent closed at one tick, for one shard, with their identity on the bus (R23)."""

    agent: str
    epoch: int
    shard: int
    seq: int
    tick: int
    predecessor: Predecessor | None
    parts: Parts


def encode(frame: Frame) -> bytes:
    """Encode a frame in Avro single-object encoding."""
    parts = frame.parts
    out = [avro.MARKER, avro.fingerprint(SCHEMA), text_bytes(frame.agent), frame.epoch.to_bytes(8, "little")]
    out += [long_bytes(frame.shard), long_bytes(frame.seq), long_bytes(frame.tick)]
    if frame.predecessor is None:
        out.append(b"\x00")
    else:
        out += [b"\x02", frame.predecessor.epoch.to_bytes(8, "little"), long_bytes(frame.predecessor.seq)]
    out.append(array_bytes([text_bytes(name) for name in parts.names]))
    out.append(array_bytes([text_bytes(level) for level in parts.levels]))
    out.append(array_bytes([epoch.to_bytes(8, "little") for epoch in parts.epochs]))
    columns = [getattr(parts, name) for name in _PART_COLUMNS]
    columns += [getattr(parts.aggregates, name) for name in COLUMNS]
    columns += [getattr(parts.sketches, name) for name in _SKETCH_COLUMNS]
    out += map(column_bytes, columns)
    return b"".join(out)


def decode(body: bytes) -> Frame:
    """Decode a frame of any known version.

    Raises:
        ValueError: no frame, a version unknown here, or damaged.
    """
    avro.written_as((SCHEMA,), body)
    cut = Cut(body, 10)
    try:
        return _decoded(cut)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged frame: {error}") from error


def _decoded(cut: Cut) -> Frame:
    agent, epoch = cut.text(), cut.int8()
    shard, seq, tick = cut.long(), cut.long(), cut.long()
    predecessor = Predecessor(cut.int8(), cut.long()) if cut.is_there() else None
    names = _NAMES.cut(agent, cut)
    levels = cut.array(cut.text)
    epochs = cut.array(cut.int8)
    words = cut.columns(len(_PART_COLUMNS) + len(COLUMNS))
    ends = cut.columns(1)[0]
    buckets, counts = cut.columns(2)
    if cut.at != len(cut.body):
        raise ValueError(f"a damaged frame: {len(cut.body) - cut.at} bytes too many")
    if words.shape[1] != len(ends):
        raise ValueError("a damaged frame: columns of different lengths")
    own = dict(zip(_PART_COLUMNS, words, strict=False))
    aggregates = Aggregates.of_words(words[len(_PART_COLUMNS) :].T.copy())
    sketches = Sketches(ends, buckets, counts)
    parts = Parts(names, levels, epochs, **own, aggregates=aggregates, sketches=sketches)
    _check(parts)
    return Frame(agent, epoch, shard, seq, tick, predecessor, parts)


_NAMES = NameLists()


def _check(parts: Parts) -> None:
    """Refuse columns that do not fit each other: a damaged frame must not become windows."""
    n, sketches = len(parts), parts.sketches
    for index, limit in (
        (parts.series, parts.names),
        (parts.level, parts.levels),
        (parts.epoch, parts.epochs),
    ):
        if n and not 0 <= int(index.min()) <= int(index.max()) < len(limit):
            raise ValueError("a damaged frame: an index outside its dictionary")
    last, ends = len(sketches.bucket), sketches.end
    begins, over = (int(ends[0]), int(ends[-1])) if n else (0, 0)
    if begins < 0 or over != last or (ends[1:] < ends[:-1]).any():
        raise ValueError("a damaged frame: sketches that do not fit")
    if last and not (0 <= int(sketches.bucket.min()) <= int(sketches.bucket.max()) < BUCKETS):
        raise ValueError("a damaged frame: a bucket that no float has")
    counts = (parts.aggregates.count, sketches.count)
    if any(len(column) and not 0 <= int(column.min()) <= int(column.max()) <= _MOST for column in counts):
        raise ValueError("a damaged frame: a count that cannot be")
