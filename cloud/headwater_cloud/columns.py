"""Columns become rows of SQLite and rows become columns: the digest signed, a sketch packed into bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater_cloud.merge import Windows
from headwater_cloud.rows import PartRows
from headwater_shared.aggregates import COLUMNS, Aggregates
from headwater_shared.parts import Sketches

_IDENTITY = ("opener", "tick", "revision", "flags")
_WINDOW = ("level", "start", "series")

WINDOW_COLUMNS = (*_WINDOW, "parts", *_IDENTITY, *COLUMNS, "sketch", "shard")
"""Of the table `window`, in this order."""
PART_COLUMNS = (*_WINDOW, *_IDENTITY, *COLUMNS, "sketch")
"""Of the table `part`, in this order."""

REALS = frozenset({"mean", "m2", "min", "max", "first", "last"})

_BUCKET_BITS = 46  # of a packed sketch: the bucket above, its count below


def to_rows(names: Sequence[str], rows: Windows | PartRows) -> zip[tuple[Any, ...]]:
    """Return tuples to bind, in the order of `names`."""
    return zip(*(_bound(name, rows) for name in names), strict=True)


def part_rows(rows: Sequence[tuple[Any, ...]]) -> PartRows:
    """Make columns of rows in the order of `PART_COLUMNS`."""
    if not rows:
        return PartRows.empty()
    columns = dict(zip(PART_COLUMNS, zip(*rows, strict=True), strict=True))
    integers = {name: np.array(columns[name], np.int64) for name in (*_WINDOW, *_IDENTITY)}
    return PartRows(
        **integers, aggregates=aggregates_of(columns), sketches=unpack_sketches(columns["sketch"])
    )


def window_rows(rows: Sequence[tuple[Any, ...]]) -> Windows:
    """Make columns of at least one row in the order of `WINDOW_COLUMNS`."""
    columns = dict(zip(WINDOW_COLUMNS, zip(*rows, strict=True), strict=True))
    integers = {name: np.array(columns[name], np.int64) for name in (*_WINDOW, "parts", *_IDENTITY, "shard")}
    return Windows(**integers, aggregates=aggregates_of(columns), sketches=unpack_sketches(columns["sketch"]))


def aggregates_of(columns: Mapping[str, Sequence[Any]]) -> Aggregates:
    """Make aggregates of columns as SQLite gives them."""
    arrays: dict[str, Any] = {
        name: np.array(columns[name], np.float64 if name in REALS else np.int64) for name in COLUMNS
    }
    arrays["digest"] = arrays["digest"].view(np.uint64)
    return Aggregates(**arrays)


def words_of(windows: Windows) -> list[NDArray[np.int64]]:
    """Return all values but the sketches as words of 64 bits, in the order of `WINDOW_COLUMNS`: columns, and matrices of several."""
    before = [getattr(windows, name) for name in (*_WINDOW, "parts", *_IDENTITY)]
    return [*before, windows.aggregates.words, windows.shard]


def packed_words(sketches: Sketches) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each row's words end, and the words: see `pack_sketches`."""
    return sketches.end, sketches.bucket << _BUCKET_BITS | sketches.count


def pack_sketches(sketches: Sketches) -> list[bytes]:
    """Encode each row: uint64 little-endian, ascending, a bucket in the upper 18 bits and its count in the lower 46."""
    end, words = packed_words(sketches)
    packed = words.astype("<i8").tobytes()
    ends = (end * 8).tolist()
    return [packed[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []


def unpack_sketches(packed: Sequence[bytes]) -> Sketches:
    """Decode what `pack_sketches` made."""
    ends = np.cumsum(np.array([len(row) // 8 for row in packed], np.int64))
    words = np.frombuffer(b"".join(packed), "<u8").astype(np.uint64)
    bucket = (words >> np.uint64(_BUCKET_BITS)).astype(np.int64)
    return Sketches(ends, bucket, (words & np.uint64((1 << _BUCKET_BITS) - 1)).astype(np.int64))


def _bound(name: str, rows: Windows | PartRows) -> list[Any]:
    if name == "sketch":
        return pack_sketches(rows.sketches)
    column: NDArray[Any] = getattr(rows.aggregates if name in COLUMNS else rows, name)
    values: list[Any] = (column.view(np.int64) if name == "digest" else column).tolist()
    return values
