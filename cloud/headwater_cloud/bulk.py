"""Many rows into a table of SQLite at once, without a Python object a value: numpy writes them down as a database, SQLite copies them.

`executemany` makes, binds and frees an object a value: 20 columns cost 3 us a row. Here the rows become the image of a
database in memory (the file format that SQLite keeps stable: https://sqlite.org/fileformat2.html), which is opened
beside the file, and one `INSERT ... SELECT` takes them over: SQLite itself writes the table. A row in the image is a
cell whose parts all begin at words of 64 bits: its varints are as wide as that needs, and values are never shortened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CAN = hasattr(sqlite3.Connection, "deserialize")
"""Whether SQLite was built with what this needs."""
WIDEST = 7_000
"""Words of a row's blob: what is wider has no room in a page."""

_SCHEMA = "bulk"
_PAGE = 65_536
_WORDS = _PAGE // 8
_CHUNK = 8_192
"""Rows of one image: two megabytes, which stay in the processor's cache."""
_LEAF, _INTERIOR = 13, 5
_INTEGER, _REAL, _BLOB = 6, 7, 12
"""Serial types: 64 bits each, and the type of an empty blob."""


def attach(connection: sqlite3.Connection) -> None:
    """Give a connection the place of the images; once, outside a transaction."""
    connection.execute(f"ATTACH ':memory:' AS {_SCHEMA}")


def insert(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], blob: str, reals: Collection[str],
    words: Sequence[Ints], ends: Ints, blobs: Ints,
) -> None:  # fmt: skip
    """Insert or replace rows, in the open transaction.

    Args:
        columns: all that the table has, in its order: SQLite copies each value once more where they come in another one.
        blob: which of them is the blob.
        reals: those whose words are floats; the others' are integers.
        words: of the columns but the blob, 64 bits a value: pieces side by side, each of one column or several; shapes (n,) or (n, k).
        ends: where each row's blob ends in `blobs`; none is longer than `WIDEST`. Shape (n,).
        blobs: all blobs, as little-endian words.
    """
    names = [name for name in columns if name != blob]
    kinds = tuple(name in reals for name in names)
    numbers = {name: n for n, name in enumerate([*names, blob])}
    taken = f"SELECT {', '.join(f'c{numbers[name]}' for name in columns)} FROM {_SCHEMA}.row"
    for at in range(0, len(ends), _CHUNK):
        end = ends[at : at + _CHUNK]
        before = int(ends[at - 1]) if at else 0
        some = [piece[at : at + _CHUNK] for piece in words]
        image = _image(kinds, some, end - before, blobs[before : int(end[-1])])
        connection.deserialize(image.data, name=_SCHEMA)
        found = connection.execute(f"INSERT OR REPLACE INTO main.{table}({', '.join(columns)}) {taken}")
        assert found.rowcount == len(end), (found.rowcount, len(end))


def _image(reals: tuple[bool, ...], words: Sequence[Ints], ends: Ints, blobs: Ints) -> NDArray[np.uint64]:
    """Write rows down as a database with the table `row`: its first page, a root above the leaves if these are several, leaves."""
    n, width = len(ends), len(reals)
    begin, head = _template(reals)
    sizes = np.diff(ends, prepend=0)
    cells = len(head) + width + sizes  # words of each row
    firsts = _pages(cells)
    pages = len(firsts)
    ends_of_pages = np.append(firsts[1:], n)
    counts = ends_of_pages - firsts
    page = np.repeat(np.arange(pages), counts)
    along = np.cumsum(cells)
    starts = along - cells
    filled = along[ends_of_pages - 1] - starts[firsts]
    place = starts + (_WORDS - filled - starts[firsts])[page]  # within the page: cells end where it ends
    leaf = 2 if pages > 1 else 1  # pages before the first leaf
    out = np.zeros((leaf + pages) * _WORDS, np.uint64)
    at = place + (page + leaf) * _WORDS

    payload = 8 * (len(head) - 1 + width + sizes)
    rows = np.empty((n, len(head) + width), np.uint64)
    rows[:, : len(head)] = head
    rows[:, 0] |= _varint(payload, 3) | _varint(np.arange(1, n + 1), 5) << np.uint64(24)
    rows[:, len(head) - 1] |= _varint(_BLOB + 16 * sizes, 3) << np.uint64(40)
    values = rows.view(">i8")[:, len(head) :]
    first = 0
    for piece in words:
        several = piece.reshape(n, -1)
        values[:, first : first + several.shape[1]] = several
        first += several.shape[1]
    # All places where a row may begin, each as one value as long as a row, so that a row is copied as a whole.
    whole = np.dtype((np.void, rows.itemsize * rows.shape[1]))
    np.ndarray(len(out) - rows.shape[1] + 1, whole, out, strides=8)[at] = rows.view(whole)[:, 0]
    out[np.arange(len(blobs)) + np.repeat(at + rows.shape[1] - (ends - sizes), sizes)] = blobs.view(np.uint64)

    out[:_WORDS] = begin
    out.view(">u4")[7] = leaf + pages
    if leaf > 1:
        out[_WORDS : 2 * _WORDS] = _root(ends_of_pages)
    leaves = out[leaf * _WORDS :]
    leaves[::_WORDS] = _LEAF
    halves = leaves.view(">u2")
    halves[np.arange(n) - firsts[page] + 4 + page * (_PAGE // 2)] = place * 8  # where each cell begins
    octets = leaves.view(np.uint8).reshape(pages, _PAGE)
    octets[:, 3:5] = counts.astype(">u2")[:, None].view(np.uint8)
    octets[:, 5:7] = (_PAGE - 8 * filled).astype(">u2")[:, None].view(np.uint8)
    return out


def _pages(cells: Ints) -> Ints:
    """Return the first row of each page: as many as have room, with two bytes each for where they begin."""
    cost = np.cumsum(4 * cells + 1)
    firsts = [0]
    while True:
        before = int(cost[firsts[-1] - 1]) if firsts[-1] else 0
        after = int(np.searchsorted(cost, before + 4 * (_WORDS - 2), side="right"))
        if after == len(cells):
            return np.array(firsts)
        firsts.append(after)


def _root(lasts: Ints) -> NDArray[np.uint64]:
    """The page above the leaves, which are the pages from 3 on: of each but the last one its number and its last row."""
    out = np.zeros(_PAGE, np.uint8)
    n = len(lasts) - 1
    cells = np.zeros((n, 9), np.uint8)
    cells[:, :4] = np.arange(3, 3 + n).astype(">u4")[:, None].view(np.uint8)
    cells[:, 4:] = _varint(lasts[:-1], 5)[:, None].view(np.uint8)[:, :5]
    begin = _PAGE - cells.size
    out[begin:] = cells.ravel()
    out[0] = _INTERIOR
    out[3:5] = np.frombuffer(n.to_bytes(2, "big"), np.uint8)
    out[5:7] = np.frombuffer(begin.to_bytes(2, "big"), np.uint8)
    out[8:12] = np.frombuffer((3 + n).to_bytes(4, "big"), np.uint8)
    out[12 : 12 + 2 * n] = (begin + 9 * np.arange(n)).astype(">u2").view(np.uint8)
    return out.view(np.uint64)


def _varint(values: Ints, size: int) -> NDArray[np.uint64]:
    """Spread values over varints of `size` bytes, the first of them the lowest byte of each word."""
    value = values.view(np.uint64)
    out = np.zeros(len(value), np.uint64)
    for n in range(size):
        octet = value >> np.uint64(7 * (size - 1 - n)) & np.uint64(0x7F)
        if n < size - 1:
            octet |= np.uint64(0x80)
        out |= octet << np.uint64(8 * n)
    return out


@lru_cache(4)
def _template(reals: tuple[bool, ...]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the first page of a database with the table, and the words before a row's values, without what differs from row to row:
    3 bytes for its length, 5 for its number, one for the length of the types that follow, and at the end 3 for the blob's.
    """
    empty = sqlite3.connect(":memory:", isolation_level=None)
    empty.execute(f"PRAGMA page_size={_PAGE}")
    kinds = [*("REAL" if real else "INTEGER" for real in reals), "BLOB"]
    empty.execute(f"CREATE TABLE row({', '.join(f'c{n} {kind}' for n, kind in enumerate(kinds))})")
    first = empty.serialize()[:_PAGE]
    empty.close()
    types = [_REAL if real else _INTEGER for real in reals]
    leading = -(len(types) + 4) % 8  # the blob's type is as wide as fills a word
    assert leading <= 5, leading
    length = 1 + len(types) + leading + 3
    octets = bytes([0] * 8 + [length, *types, *[0x80] * leading, 0, 0, 0])
    return np.frombuffer(first, np.uint64), np.frombuffer(octets, np.uint64)
