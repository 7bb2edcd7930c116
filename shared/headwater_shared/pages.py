"""Rows of a damaged SQLite file, page by page, without its b-trees: what stands on a good page is found, wherever it hangs.

Read-only, and never through SQLite. Pages of the write-ahead log count if their checksum holds, also behind a damaged one:
each frame's checksum begins with the one that is stored before it, so every frame can be judged by itself.
Formats: https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"SQLite format 3\x00"
_WAL_MAGIC = {b"\x37\x7f\x06\x82": "<u4", b"\x37\x7f\x06\x83": ">u4"}
_WAL_HEADER, _FRAME_HEADER = 32, 24
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_AT_ONCE = 4096
_MOST_COLUMNS = 64
_SIZES = tuple(2**n for n in range(9, 17))

Flags = NDArray[np.bool_]


class Cell(NamedTuple):
    """One row: its rowid (None of a table without), and its columns in the order in which they are stored."""

    rowid: int | None
    values: tuple[Any, ...]


class Log(NamedTuple):
    """What a write-ahead log holds: where the newest good image of each page lies in it."""

    pages: dict[int, int]
    """By page number, the offset of its image."""
    size: int
    """Pages of the file after the last commit; 0 if there was none."""
    broken: str
    """What is wrong with it, if commits follow that SQLite would not see; a torn end is nothing wrong."""


_NO_LOG = Log({}, 0, "")


def read_log(path: Path, page_size: int) -> Log:
    """Read the write-ahead log of a file of this page size; never raises for what the log holds."""
    try:
        raw = path.read_bytes()
    except OSError:
        return _NO_LOG
    each = _FRAME_HEADER + page_size
    count = (len(raw) - _WAL_HEADER) // each
    if count <= 0:
        return _NO_LOG
    order = _WAL_MAGIC.get(raw[:4], "<u4")
    header_good = raw[:4] in _WAL_MAGIC and _header_good(raw, page_size, order)
    frames = np.frombuffer(raw, np.uint8, count * each, _WAL_HEADER).reshape(count, each)
    words = np.ascontiguousarray(frames[:, :_FRAME_HEADER]).view(">u4")  # shape (count, 6)
    salts = (words[:, 2].astype(np.uint64) << np.uint64(32)) | words[:, 3]
    # Without a good head: the first frame is of the log's last beginning, whatever follows it.
    salt = np.uint64(int.from_bytes(raw[16:24], "big")) if header_good else salts[0]
    seeds = np.vstack([np.frombuffer(raw, ">u4", 2, 24), words[:-1, 4:6]]).astype(np.uint32)
    good = (salts == salt) & _sums_hold(frames, words[:, 4:6].astype(np.uint32), seeds, order)
    commits = np.flatnonzero(words[:, 1] != 0)
    kept = np.flatnonzero(good & (words[:, 1] != 0))
    if not len(kept):
        return _NO_LOG
    last = int(kept[-1])
    bad = np.flatnonzero(~good[: last + 1])
    broken = ""
    if not header_good:
        broken = "the head of the write-ahead log is damaged"
    elif len(bad):
        end = commits[
            commits >= bad[0]
        ]  # of the transaction that is hit: a power cut may leave the last one torn
        if len(end) and last > int(end[0]):
            broken = "the write-ahead log is damaged in its middle"
        else:
            last = int(kept[kept < bad[0]][-1]) if (kept < bad[0]).any() else -1
    pages = {
        int(words[at, 0]): _WAL_HEADER + at * each + _FRAME_HEADER
        for at in np.flatnonzero(good[: last + 1]).tolist()
    }
    size = int(words[last, 1]) if last >= 0 else 0
    return Log(pages, size, broken)


def _header_good(raw: bytes, page_size: int, order: str) -> bool:
    words = np.frombuffer(raw, order, 6).tolist()
    s0 = s1 = 0
    for at in range(0, 6, 2):
        s0 = (s0 + words[at] + s1) & 0xFFFFFFFF
        s1 = (s1 + words[at + 1] + s0) & 0xFFFFFFFF
    return (s0, s1) == struct.unpack_from(">II", raw, 24) and page_size == _size_of(raw[8:12])


def _size_of(word: bytes) -> int:
    size = int.from_bytes(word, "big")
    return 65536 if size == 1 else size


def _sums_hold(
    frames: NDArray[np.uint8], stored: NDArray[np.uint32], seeds: NDArray[np.uint32], order: str
) -> Flags:
    """Tell of which frames the checksum holds, each begun with the one stored before it."""
    out = np.zeros(len(frames), np.bool_)
    for at in range(0, len(frames), _AT_ONCE):
        some = frames[at : at + _AT_ONCE]
        summed = np.ascontiguousarray(np.hstack([some[:, :8], some[:, _FRAME_HEADER:]])).view(order)
        columns = np.ascontiguousarray(summed.T).astype(np.uint32)
        s0, s1 = seeds[at : at + _AT_ONCE, 0].copy(), seeds[at : at + _AT_ONCE, 1].copy()
        for i in range(0, len(columns), 2):
            s0 += columns[i] + s1
            s1 += columns[i + 1] + s0
        out[at : at + _AT_ONCE] = (s0 == stored[at : at + _AT_ONCE, 0]) & (
            s1 == stored[at : at + _AT_ONCE, 1]
        )
    return out


def page_size_of(path: Path, default: int) -> int:
    """Return the page size that a file names, or the default where its head cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return default
    size = _size_of(b"\x00\x00" + head[16:18]) if len(head) >= 18 else 0
    return size if head[:16] == _MAGIC and size in _SIZES else default


class Pages:
    """The pages of a file with its log; close it after use."""

    def __init__(self, path: Path, page_size: int, *, with_log: bool = True) -> None:
        self.page_size = page_size_of(path, page_size)
        log = path.with_name(path.name + "-wal")
        self.log = read_log(log, self.page_size) if with_log else _NO_LOG
        self._log = log.read_bytes() if self.log.pages else b""
        size = path.stat().st_size if path.exists() else 0
        self._file = None
        if size:
            with path.open("rb") as file:
                self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._in_file = size // self.page_size
        self.count = self.log.size or max([self._in_file, *self.log.pages])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def page(self, number: int) -> bytes:
        """Return a page, empty if there is none."""
        at = self.log.pages.get(number)
        if at is not None:
            return self._log[at : at + self.page_size]
        if self._file is None or not 1 <= number <= self._in_file:
            return b""
        return self._file[(number - 1) * self.page_size : number * self.page_size]

    def cells(self) -> Iterator[Cell]:
        """Yield every row that stands on a page in use; what is damaged is left out."""
        free = self._free()
        maps = self.page_size // 5 + 1  # pages that only say what hangs where (auto_vacuum)
        for number in range(1, self.count + 1):
            if number in free or (number >= 2 and (number - 2) % maps == 0):
                continue
            yield from self._cells(self.page(number), 100 if number == 1 else 0)

    def _free(self) -> set[int]:
        """Return the pages of the free list, which may still show rows that are gone."""
        first = self.page(1)
        free: set[int] = set()
        if first[:16] != _MAGIC:
            return free
        trunk = int.from_bytes(first[32:36], "big")
        while trunk and trunk not in free:
            body = self.page(trunk)
            if len(body) < 8:
                break
            free.add(trunk)
            following, leaves = struct.unpack_from(">II", body)
            most = min(leaves, self.page_size // 4 - 2)
            free.update(struct.unpack_from(f">{most}I", body, 8))
            trunk = following
        return free

    def _cells(self, page: bytes, head: int) -> Iterator[Cell]:
        kind = page[head] if len(page) > head + 12 else 0
        if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
            return
        (count,) = struct.unpack_from(">H", page, head + 3)
        start = head + (12 if kind == _INDEX_INTERIOR else 8)
        if start + 2 * count > len(page):
            return
        for at in struct.unpack_from(f">{count}H", page, start):
            try:
                cell = self._cell(page, at + (4 if kind == _INDEX_INTERIOR else 0), kind)
            except (IndexError, struct.error, UnicodeDecodeError, ValueError):
                continue
            yield cell

    def _cell(self, page: bytes, at: int, kind: int) -> Cell:
        size, at = _varint(page, at)
        rowid: int | None = None
        if kind == _TABLE_LEAF:
            rowid, at = _varint(page, at)
            rowid -= (rowid >> 63) << 64
        usable = self.page_size
        least = (usable - 12) * 32 // 255 - 23
        most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
        if size <= most:
            payload = page[at : at + size]
        else:
            local = least + (size - least) % (usable - 4)
            local = local if local <= most else least
            (following,) = struct.unpack_from(">I", page, at + local)
            payload = page[at : at + local] + self._overflow(following, size - local)
        if len(payload) != size:
            raise ValueError("a row that ends too early")
        return Cell(rowid, _record(payload))

    def _overflow(self, number: int, size: int) -> bytes:
        out: list[bytes] = []
        while size > 0:
            page = self.page(number)
            if len(page) < 8 or size > self.count * self.page_size:
                raise ValueError("a row whose rest is not there")
            (number,) = struct.unpack_from(">I", page)
            out.append(page[4 : 4 + size])
            size -= len(out[-1])
        return b"".join(out)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    number = 0
    for n in range(9):
        byte = raw[at + n]
        if n == 8:
            return number << 8 | byte, at + 9
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + n + 1
    raise AssertionError


def _record(payload: bytes) -> tuple[Any, ...]:
    size, at = _varint(payload, 0)
    kinds = []
    while at < size:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    if at != size or len(kinds) > _MOST_COLUMNS:
        raise ValueError("no record")
    values: list[Any] = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload):
        raise ValueError("no record")
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    length = {5: 6, 6: 8, 7: 8}.get(kind, kind) if kind < 8 else (kind - 12) // 2
    raw = payload[at : at + length]
    if kind in (10, 11) or len(raw) != length:
        raise ValueError("no record")
    if kind == 7:
        return struct.unpack(">d", raw)[0], at + 8
    if kind < 7:
        return int.from_bytes(raw, "big", signed=True), at + length
    return (raw.decode() if kind & 1 else raw), at + length


def log_trouble(path: Path, page_size: int) -> str:
    """Say what is wrong with the write-ahead log beside a file; empty if nothing is, or there is none."""
    return read_log(path.with_name(path.name + "-wal"), page_size_of(path, page_size)).broken


def cells_of(path: Path, page_size: int, *, with_log: bool = True) -> Iterator[Cell]:
    """Yield every row that can be read of a file, with its log or without."""
    with closing(Pages(path, page_size, with_log=with_log)) as pages:
        yield from pages.cells()
