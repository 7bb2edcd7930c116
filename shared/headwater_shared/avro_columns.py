"""Avro by hand, for records of columns: what is written straight from numpy memory, and cut off a body again.

Integers and digests are `array<fixed(8)>` little-endian, floats `array<double>`: both are the memory of a little-endian numpy
column between a block count and an end mark.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SENDERS, _LISTS = 256, 4


def long_bytes(n: int) -> bytes:
    """Encode an Avro long: zigzag, then seven bits a byte."""
    z = (n << 1) ^ (n >> 63)
    out = bytearray()
    while z > 0x7F:
        out.append((z & 0x7F) | 0x80)
        z >>= 7
    out.append(z)
    return bytes(out)


@lru_cache(32_768)  # the same series and devices are named again and again
def text_bytes(text: str) -> bytes:
    """Encode a string."""
    raw = text.encode()
    return long_bytes(len(raw)) + raw


def array_bytes(items: list[bytes]) -> bytes:
    """Encode an array of items that are encoded."""
    return long_bytes(len(items)) + b"".join(items) + b"\x00" if items else b"\x00"


def column_bytes(column: NDArray[Any]) -> bytes:
    """Encode a column of 8-byte items: its memory, as one block."""
    if not len(column):
        return b"\x00"
    body = column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join([long_bytes(len(column)), body, b"\x00"])


class Cut:
    """A place in a body, moving on as values are cut off. Its calls raise ValueError, IndexError, UnicodeDecodeError on damage."""

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
                raise ValueError("a damaged record: a number that does not end")
        number = (z >> 1) ^ -(z & 1)
        if not -(2**63) <= number < 2**63:
            raise ValueError("a damaged record: a number of more than 64 bits")
        return number

    def is_there(self) -> bool:
        """Cut the branch of a union of null and something."""
        branch = self.long()
        if branch not in (0, 1):
            raise ValueError(f"a damaged record: a union has no branch {branch}")
        return branch == 1

    def raw(self, n: int) -> bytes:
        if n < 0 or self.at + n > len(self.body):
            raise ValueError("a damaged record: it ends too early")
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
            raise ValueError("a damaged record: columns of different lengths")
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
            raise ValueError("a damaged record: a block larger than the record")
        return count


class NameLists:
    """Arrays of names: a sender names the same ones again and again, and the same bytes are the same list (nobody changes it)."""

    def __init__(self) -> None:
        self._known: dict[object, list[tuple[bytes, list[str]]]] = {}
        self._blocks: dict[int, tuple[list[str], bytes]] = {}

    def encoded(self, names: list[str]) -> bytes:
        """Encode an array of strings; the same list again is not looked at again."""
        known = self._blocks.get(id(names))
        if known is None or known[0] is not names:
            if len(self._blocks) >= _SENDERS:
                self._blocks.clear()
            known = self._blocks[id(names)] = names, array_bytes(list(map(text_bytes, names)))
        return known[1]

    def cut(self, sender: object, cut: Cut) -> list[str]:
        """Cut an array of strings; `sender` is whose lists it is looked for among."""
        lists = self._known.get(sender)
        if lists is None:
            if len(self._known) >= _SENDERS:
                self._known.clear()
            lists = self._known[sender] = []
        for block, names in lists:
            if cut.body.startswith(block, cut.at):
                cut.at += len(block)
                return names
        begin = cut.at
        names = cut.array(cut.text)
        lists.insert(0, (cut.body[begin : cut.at], names))
        del lists[_LISTS:]
        return names
