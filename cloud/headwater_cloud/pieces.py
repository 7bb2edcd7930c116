"""Pieces of state, by name: what an engine keeps for one shard, each a value below 256 KB (R24)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol
from zlib import crc32

import msgspec

_LISTS = 16
PIECE_BYTES = 200_000
"""Large values are cut here: with its names a piece stays below what every engine can keep as one value (R24)."""


class Pieces(Protocol):
    """The state of one shard; what is set is seen at once, and is durable with the engine's next commit."""

    def get(self, name: str) -> bytes | None: ...

    def set(self, name: str, body: bytes) -> None: ...

    def delete(self, name: str) -> None: ...


class Listed:
    """Pieces whose names are kept beside them, for engines give a value by its name only."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._lists: dict[int, set[str]] = {}
        for number in range(_LISTS):
            body = pieces.get(f"list/{number}")
            self._lists[number] = set(msgspec.msgpack.decode(body, type=list[str])) if body else set()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for names in self._lists.values():
            for name in sorted(names):
                body = self._pieces.get(name)
                assert body is not None, name
                yield name, body

    def update(self, bodies: Iterable[tuple[str, bytes]]) -> None:
        """Set pieces; new names are listed in the same commit."""
        grown: set[int] = set()
        for name, body in bodies:
            self._pieces.set(name, body)
            number = crc32(name.encode()) % _LISTS
            if name not in self._lists[number]:
                self._lists[number].add(name)
                grown.add(number)
        for number in sorted(grown):
            self._pieces.set(f"list/{number}", msgspec.msgpack.encode(sorted(self._lists[number])))


class Staged:
    """Pieces over pieces: what is set goes on at `apply` only, so that an error in between changes nothing."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._set: dict[str, bytes | None] = {}

    def get(self, name: str) -> bytes | None:
        return self._set[name] if name in self._set else self._pieces.get(name)

    def set(self, name: str, body: bytes) -> None:
        self._set[name] = body

    def delete(self, name: str) -> None:
        self._set[name] = None

    def apply(self) -> None:
        """Set and delete in the pieces below."""
        for name, body in self._set.items():
            if body is None:
                self._pieces.delete(name)
            else:
                self._pieces.set(name, body)
        self._set.clear()
