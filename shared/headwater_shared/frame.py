"""The frame on the wire: a batch of part columns as Avro, version 1, packed straight from and to numpy memory.

Any Avro reader reads it (`schemas/frame-1.avsc`); this module is the fast way for the newest version, and fastavro
reads every other one. Integers and digests are `array<fixed(8)>` little-endian, floats `array<double>`: both are the
memory of a little-endian numpy column between a block count and an end mark.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_shared import avro
from headwater_shared.aggregates import COLUMNS, Aggregates
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
    out = [avro.MARKER, avro.fingerprint(SCHEMA), _text(frame.agent), frame.epoch.to_bytes(8, "little")]
    out += [_long(frame.shard), _long(frame.seq), _long(frame.tick)]
    if frame.predecessor is None:
        out.append(b"\x00")
    else:
        out += [b"\x02", frame.predecessor.epoch.to_bytes(8, "little"), _long(frame.predecessor.seq)]
    out.append(_array([_text(name) for name in parts.names]))
    out.append(_array([_text(level) for level in parts.levels]))
    out.append(_array([epoch.to_bytes(8, "little") for epoch in parts.epochs]))
    columns = [getattr(parts, name) for name in _PART_COLUMNS]
    columns += [getattr(parts.aggregates, name) for name in COLUMNS]
    columns += [getattr(parts.sketches, name) for name in _SKETCH_COLUMNS]
    for column in columns:
        if len(column):
            out += [_long(len(column)), column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()]
        out.append(b"\x00")
    return b"".join(out)


def decode(body: bytes) -> Frame:
    """Decode a frame of any known version.

    Raises:
        ValueError: no frame, a version unknown here, or damaged.
    """
    avro.written_as((SCHEMA,), body)
    cut = _Cut(body, 10)
    try:
        return _decoded(cut)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged frame: {error}") from error


def _decoded(cut: _Cut) -> Frame:
    agent, epoch = cut.text(), cut.int8()
    shard, seq, tick = cut.long(), cut.long(), cut.long()
    predecessor = Predecessor(cut.int8(), cut.long()) if cut.is_there() else None
    names = _names(agent, cut)
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


_KNOWN: dict[str, list[tuple[bytes, list[str]]]] = {}
_AGENTS, _LISTS = 256, 4


def _names(agent: str, cut: _Cut) -> list[str]:
    """Cut the names; an agent names the same series tick after tick, and the same bytes are the same list (nobody changes it)."""
    lists = _KNOWN.get(agent)
    if lists is None:
        if len(_KNOWN) >= _AGENTS:
            _KNOWN.clear()
        lists = _KNOWN[agent] = []
    for block, names in lists:
        if cut.body.startswith(block, cut.at):
            cut.at += len(block)
            return names
    begin = cut.at
    names = cut.array(cut.text)
    lists.insert(0, (cut.body[begin : cut.at], names))
    del lists[_LISTS:]
    return names


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


def _long(n: int) -> bytes:
    """Encode an Avro long: zigzag, then seven bits a byte."""
    z = (n << 1) ^ (n >> 63)
    out = bytearray()
    while z > 0x7F:
        out.append((z & 0x7F) | 0x80)
        z >>= 7
    out.append(z)
    return bytes(out)


@lru_cache(32_768)  # a frame names the same series again and again
def _text(text: str) -> bytes:
    raw = text.encode()
    return _long(len(raw)) + raw


def _array(items: list[bytes]) -> bytes:
    return _long(len(items)) + b"".join(items) + b"\x00" if items else b"\x00"


class _Cut:
    """A place in a body, moving on as values are cut off."""

    def __init__(self, body: bytes, at: int) -> None:
        self.body = body
        self.at = at

    def long(self) -> int:
        z = shift = 0
        while True:
            byte = self.body[self.at]
            self.at += 1
            z |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise ValueError("a damaged frame: a number that does not end")
        number = (z >> 1) ^ -(z & 1)
        if not -(2**63) <= number < 2**63:
            raise ValueError("a damaged frame: a number of more than 64 bits")
        return number

    def is_there(self) -> bool:
        """Cut the branch of a union of null and something."""
        branch = self.long()
        if branch not in (0, 1):
            raise ValueError(f"a damaged frame: a union has no branch {branch}")
        return branch == 1

    def raw(self, n: int) -> bytes:
        if n < 0 or self.at + n > len(self.body):
            raise ValueError("a damaged frame: it ends too early")
        self.at += n
        return self.body[self.at - n : self.at]

    def text(self) -> str:
        return self.raw(self.long()).decode()

    def int8(self) -> int:
        return int.from_bytes(self.raw(8), "little")

    def array(self, item: Any) -> list[Any]:
        out: list[Any] = []
        while count := self._block():
            out += [item() for _ in range(count)]
        return out

    def columns(self, n: int) -> NDArray[np.int64]:
        """Cut n columns of one length, of 8-byte items, as words: a matrix of n rows."""
        begin, count = self.at, self._block()
        head, size = self.at - begin, 8 * max(count, 0)
        width = head + size + (1 if count else 0)
        if begin + n * width <= len(self.body):  # as we write them: a block each, one after the other
            octets = np.frombuffer(self.body, np.uint8, n * width, begin).reshape(n, width)
            if (octets[:, :head] == octets[0, :head]).all() and (not count or not octets[:, -1].any()):
                self.at = begin + n * width
                return octets[:, head : head + size].copy().view("<i8").astype(np.int64, copy=False)
        self.at = begin
        columns = [self._column() for _ in range(n)]
        if len({len(column) for column in columns}) != 1:
            raise ValueError("a damaged frame: columns of different lengths")
        return np.array(columns)

    def _column(self) -> NDArray[np.int64]:
        """Cut a column that other writers may have split into blocks."""
        blocks = []
        while count := self._block():
            blocks.append(self.raw(8 * count))
        return np.frombuffer(b"".join(blocks), "<i8").astype(np.int64)

    def _block(self) -> int:
        count = self.long()
        if count < 0:  # an Avro writer may say the block's size in bytes after a negated count
            self.long()
            count = -count
        if count > len(self.body):
            raise ValueError("a damaged frame: a block larger than the frame")
        return count
