"""Readings that no state holds any more become dead letters `salvaged`, which a person can have taken: possibly counted already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from headwater_edge.stamps import STAMPED
from headwater_edge.store import DeadRow
from headwater_edge.tick import Readings
from headwater_shared.digest import NO_TIME, value_bits

REASON = "salvaged"
DETAIL = "of a damaged file, possibly counted already"

_EACH = 500
"""Readings of one letter."""

_Said = tuple[int, float]


class Salvaged:
    """Gathers readings series by series, each once; a letter is a message as its device might have sent it."""

    def __init__(self, detail: str = DETAIL, *, by_meaning: bool = True) -> None:
        self.readings = 0
        self._detail = detail
        self._by_meaning = by_meaning
        self._seen: set[tuple[str, int, int]] = set()
        self._timed: dict[str, list[_Said]] = {}
        self._latest: dict[str, int] = {}

    def take(self, readings: Readings, names: Sequence[str], arrived_us: int) -> Iterator[DeadRow]:
        """Take the readings of a row, all of whose series have a name; yield the letters that are full."""
        columns = readings.series.tolist(), readings.sent.tolist(), readings.value.tolist()
        bits = value_bits(readings.value).tolist()
        untimed: dict[str, list[_Said]] = {}
        for number, sent, value, pattern in zip(*columns, bits, strict=True):
            name = names[number]
            if sent < STAMPED:
                untimed.setdefault(name, []).append((sent, value))
                continue
            if self._by_meaning:
                if (name, sent, pattern) in self._seen:
                    continue
                self._seen.add((name, sent, pattern))
            said = self._timed.setdefault(name, [])
            said.append((sent, value))
            self._latest[name] = arrived_us
            if len(said) >= _EACH:
                yield self._letter(name, self._timed.pop(name), arrived_us)
        for name, said in untimed.items():
            yield self._letter(name, said, arrived_us)

    def rest(self) -> Iterator[DeadRow]:
        """Yield what is left."""
        for name, said in self._timed.items():
            yield self._letter(name, said, self._latest[name])
        self._timed = {}

    def _letter(self, name: str, said: list[_Said], arrived_us: int) -> DeadRow:
        site, device, metric = name.split("/")
        self.readings += len(said)
        body = msgspec.json.encode(
            [{"v": value} | ({"t": _iso(sent)} if sent >= STAMPED else {}) for sent, value in said]
        )
        named = [(name, sent if sent >= STAMPED else NO_TIME, value) for sent, value in said]
        topic = f"hw/{site}/{device}/data/{metric}".encode()
        return DeadRow(arrived_us, REASON, self._detail, topic, body, msgspec.msgpack.encode(named))


def raw_letter(tick: int, row: bytes, arrived_us: int) -> DeadRow:
    """Keep a journal row whose series have no name any more."""
    return DeadRow(arrived_us, REASON, f"journal row of tick {tick}; its series have no name", b"", row)


def named_only(readings: Readings, names: Sequence[str]) -> bool:
    """Tell whether all series of some readings have a name."""
    return all(number < len(names) and names[number] for number in np.unique(readings.series).tolist())


def timed(readings: Readings) -> Readings:
    """Return those with a time of their own."""
    at = np.flatnonzero(readings.sent >= STAMPED)
    return Readings(readings.series[at], readings.sent[at], readings.value[at])


def _iso(us: int) -> str | int:
    """Write a time so that it reads back to the microsecond; numbers near 1970 would be taken for seconds."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()
    except OverflowError:
        return us  # of no year that ISO 8601 has: large enough to be told by its size
