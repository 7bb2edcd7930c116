"""Parts as one piece of state: columns behind a short head that names what they number, so that a piece stands alone (R24).

An integer column is stored less its minimum in as few bytes as its largest value needs, none if all are equal; the
aggregates as the words that they are. A row takes about 95 bytes and its sketch.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud.names import Names
from headwater_cloud.pieces import PIECE_BYTES
from headwater_cloud.rows import PartRows
from headwater_shared.aggregates import COLUMNS, Aggregates
from headwater_shared.parts import Sketches

Ints = NDArray[np.int64]

_VERSION = 1
_PLAIN = ("start", "tick", "revision", "flags")
_ROW_BYTES, _BUCKET_BYTES = 120, 4
"""What a row takes mostly, with its series' name, and each bucket of its sketch."""


class _Head(msgspec.Struct, array_like=True):
    version: int
    rows: int
    buckets: int
    levels: list[str]
    series: msgspec.Raw
    openers: list[tuple[str, int]]
    columns: list[tuple[int, int]]
    """Bytes an item, and what was taken off, of each integer column."""


def pieces_of(rows: PartRows, names: Names) -> Iterator[bytes]:
    """Write rows as pieces, each small enough."""
    most = max(
        1, len(rows) * PIECE_BYTES // (len(rows) * _ROW_BYTES + len(rows.sketches.bucket) * _BUCKET_BYTES + 1)
    )
    for first in range(0, len(rows), most):
        run = rows.run(first, min(first + most, len(rows)))
        body = encode(run, names)
        if len(body) <= PIECE_BYTES * 5 // 4 or len(run) == 1:
            yield body
        else:  # wider than most
            half = len(run) // 2
            yield from pieces_of(run.run(0, half), names)
            yield from pieces_of(run.run(half, len(run)), names)


def encode(rows: PartRows, names: Names) -> bytes:
    """Write rows as a piece."""
    levels, level = _distinct(rows.level)
    series, of_series = _distinct(rows.series)
    openers, opener = _distinct(rows.opener)
    sketches = rows.sketches
    plain = np.array([level, of_series, opener, *(getattr(rows, name) for name in _PLAIN), sketches.sizes()])
    narrow = [*_narrow(plain), *_narrow(np.array([sketches.bucket, sketches.count]))]
    specs, bodies = zip(*narrow, strict=True)
    head = _Head(
        _VERSION,
        len(rows),
        len(sketches.bucket),
        [names.levels[n] for n in levels.tolist()],
        names.packed_series(series),
        [names.openers[n] for n in openers.tolist()],
        list(specs),
    )
    words = rows.aggregates.words.astype("<i8", copy=False).tobytes()
    packed = msgspec.msgpack.encode(head)
    return b"".join([len(packed).to_bytes(4, "little"), packed, words, *bodies])


def decode(body: bytes, names: Names) -> PartRows:
    """Read what `encode` wrote, under the numbers of `names`, which grows."""
    begin = 4 + int.from_bytes(body[:4], "little")
    head = msgspec.msgpack.decode(body[4:begin], type=_Head)
    if head.version != _VERSION:
        raise ValueError(f"a piece of parts of version {head.version} is not known here")
    n, width = head.rows, len(COLUMNS)
    words = np.frombuffer(body, "<i8", n * width, begin).astype(np.int64).reshape(n, width)
    at = begin + words.nbytes
    columns: list[Ints] = []
    for number, (size, base) in enumerate(head.columns):
        length = n if number < len(head.columns) - 2 else head.buckets
        if size:
            columns.append(np.frombuffer(body, f"<u{size}", length, at).astype(np.int64) + base)
            at += size * length
        else:
            columns.append(np.full(length, base, np.int64))
    level, series, opener, *plain, sizes, bucket, count = columns
    openers = [int(names.opener_numbers(agent, [epoch])[0]) for agent, epoch in head.openers]
    return PartRows(
        names.level_numbers(head.levels)[level],
        series=names.series_numbers(msgspec.msgpack.decode(head.series, type=list[str]))[series],
        opener=np.array(openers, np.int64)[opener],
        **dict(zip(_PLAIN, plain, strict=True)),
        aggregates=Aggregates.of_words(words),
        sketches=Sketches(np.cumsum(sizes), bucket, count),
    )


def _distinct(column: Ints) -> tuple[Ints, Ints]:
    """As `np.unique` with the inverse; a column that is constant, or ascends, is told without sorting."""
    if len(column) and column[0] == column[-1] and (column == column[0]).all():
        return column[:1], np.zeros(len(column), np.int64)
    if (column[1:] > column[:-1]).all():
        return column, np.arange(len(column))
    values, at = np.unique(column, return_inverse=True)
    return values, at


def _narrow(columns: NDArray[np.int64]) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield how each column is kept, and its bytes; all of one length."""
    if not columns.size:
        yield from [((0, 0), b"")] * len(columns)
        return
    for column, base, top in zip(
        columns, columns.min(axis=1).tolist(), columns.max(axis=1).tolist(), strict=True
    ):
        size = next(size for size in (0, 1, 2, 4, 8) if top - base < 1 << 8 * size)
        yield (size, base), (column - base).astype(f"<u{size}").tobytes() if size else b""
