"""Payloads become columns: a burst is parsed at once by lines, and one by one where its shapes differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge import payloads as one_by_one
from headwater_edge.source import Burst
from headwater_edge.stamps import FARTHEST_US, column_us
from headwater_edge.topics import Place, SeriesIndex
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable


class DeadLetter(NamedTuple):
    """What could not be taken of a message: all of it, or the readings that `detail` names (R20)."""

    message: int
    reason: str
    detail: str
    topic: bytes
    body: bytes
    readings: list[tuple[str, int, float]] | None = None
    """Those that were not taken (series, time as sent, value); None: nothing of the message was, or `detail` names them."""


class Decoded(NamedTuple):
    """A burst as columns: how many readings each message brought, then the readings message by message."""

    readings: NDArray[np.int32]
    series: NDArray[np.int32]
    sent: NDArray[np.int64]
    value: NDArray[np.float64]
    dead: list[DeadLetter]

    def unreadable(self) -> list[tuple[int, int]]:
        """Return (message, crc32 of its payload) of the dead letters: what R3 compares of them."""
        return [(letter.message, crc32(letter.body)) for letter in self.dead]


class _TV(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    t: int
    v: float


class _TimeValue(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    t: int = msgspec.field(name="time")
    v: float = msgspec.field(name="value")


class _TsValue(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    t: int = msgspec.field(name="ts")
    v: float = msgspec.field(name="value")


class _TimestampValue(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    t: int = msgspec.field(name="timestamp")
    v: float = msgspec.field(name="value")


class _TValues(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    t: int
    values: dict[str, float]


class _TimeValues(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    t: int = msgspec.field(name="time")
    values: dict[str, float]


Lines = Callable[[bytes], list[Any]]


def _shapes(*kinds: Any) -> list[Lines]:
    return [msgspec.json.Decoder(kind).decode_lines for kind in kinds]


class Decode:
    """Decodes bursts; remembers which shape came last, since a site's devices mostly speak alike."""

    def __init__(self, index: SeriesIndex) -> None:
        self.index = index
        self._single = _shapes(_TV, float, _TimeValue, _TsValue, _TimestampValue)
        self._bare = self._single[1]
        self._many = _shapes(_TValues, _TimeValues)

    def burst(self, burst: Burst) -> Decoded:
        """Turn a burst to columns; new series are numbered by `index`, which keeps them for the tick."""
        places = self.index.places(burst.topics)
        fast = None
        try:
            fast = self._singles(burst.payloads, np.array(places, np.int32))
        except TypeError:  # not all are numbers of series
            if set(map(type, places)) == {Place}:
                fast = self._manies(burst.payloads, places)
        return fast if fast is not None else self._mixed(burst, places)

    def _parse(self, shapes: list[Lines], payloads: list[bytes]) -> list[Any] | None:
        """Parse payloads as lines of one shape; None if they are not of one (R16)."""
        joined = b"\n".join(payloads)
        if not _one_a_line(joined, payloads):
            return None
        for at, lines in enumerate(shapes):
            try:
                parsed = lines(joined)
            except one_by_one.NOT_PARSED:
                continue
            if len(parsed) != len(payloads):
                return None
            if at:
                shapes.insert(0, shapes.pop(at))
            return parsed
        return None

    def _singles(self, payloads: list[bytes], series: NDArray[np.int32]) -> Decoded | None:
        parsed = self._parse(self._single, payloads)
        if parsed is None:
            return None
        n = len(parsed)
        if self._single[0] is self._bare:
            value = np.array(parsed, np.float64) + 0.0
            sent: NDArray[np.int64] | None = np.full(n, NO_TIME)
        else:
            value = np.array([reading.v for reading in parsed], np.float64) + 0.0  # -0 becomes 0
            sent = _times([reading.t for reading in parsed])
        if sent is None or not np.isfinite(value).all():
            return None
        return Decoded(np.ones(n, np.int32), series, sent, value, [])

    def _manies(self, payloads: list[bytes], places: list[Any]) -> Decoded | None:
        parsed = self._parse(self._many, payloads)
        if parsed is None:
            return None
        times = _times([reading.t for reading in parsed])
        counts = np.array([len(reading.values) for reading in parsed], np.int32)
        if times is None or not counts.all():
            return None
        series: list[int] = []
        values: list[float] = []
        try:
            for place, reading in zip(places, parsed, strict=True):
                metrics = place.metrics
                series += [metrics[name] for name in reading.values]
                values += reading.values.values()
        except KeyError:
            return None  # a metric's first sight: the slow way numbers it
        value = np.array(values, np.float64) + 0.0
        if not np.isfinite(value).all():
            return None
        return Decoded(counts, np.array(series, np.int32), np.repeat(times, counts), value, [])

    def _mixed(self, burst: Burst, places: list[Any]) -> Decoded:
        """Decode a burst of both kinds of topic, each kind at once if it can be; what cannot goes one by one."""
        single = [i for i, place in enumerate(places) if type(place) is int]
        many = [i for i, place in enumerate(places) if type(place) is Place]
        parts: list[tuple[list[int], Decoded]] = []
        slow = set(range(len(places)))
        if single and many:
            numbers = np.array([places[i] for i in single], np.int32)
            for which, fast in (
                (single, self._singles([burst.payloads[i] for i in single], numbers)),
                (many, self._manies([burst.payloads[i] for i in many], [places[i] for i in many])),
            ):
                if fast is not None:
                    parts.append((which, fast))
                    slow.difference_update(which)
        rest = sorted(slow)
        if rest:
            parts.append((rest, self._slowly(burst, rest, places)))
        return _woven(parts, len(places))

    def _slowly(self, burst: Burst, which: list[int], places: list[Any]) -> Decoded:
        counts: list[int] = []
        series: list[int] = []
        sent: list[int] = []
        values: list[float] = []
        dead: list[DeadLetter] = []
        for message in which:
            topic, payload, place = burst.topics[message], burst.payloads[message], places[message]
            before = len(series)
            refused: list[str] = []
            try:
                if isinstance(place, Unreadable):
                    raise place
                said, refused = one_by_one.read(payload, metric_in_topic=type(place) is int)
                for metric, time, value in said:
                    number = place if metric is None else self.index.number(topic, metric)
                    if isinstance(number, Unreadable):
                        refused.append(f"{metric}: {number.message}")
                        continue
                    series.append(number)
                    sent.append(time)
                    values.append(value)
            except Unreadable as error:
                del series[before:], sent[before:], values[before:]
                dead.append(DeadLetter(message, error.reason, error.message, topic, payload))
            else:
                if refused:
                    dead.append(DeadLetter(message, "not-taken", "; ".join(refused), topic, payload))
            counts.append(len(series) - before)
        return Decoded(
            np.array(counts, np.int32),
            np.array(series, np.int32),
            np.array(sent, np.int64),
            np.array(values, np.float64) + 0.0,
            dead,
        )


def _one_a_line(joined: bytes, payloads: list[bytes]) -> bool:
    """Tell whether as many values as payloads can only mean: one each; else one payload could forge another's reading.

    msgspec reads values one after the other, whatever stands between them: `1-2` and an empty payload are two values,
    and so are `{"v":1}{"v":` and `2}`. So no line may be blank and no value go over a line's end: a number cannot, and
    an object cannot where each line begins with { and ends with }, for no JSON has a { right after a }.
    """
    newlines = len(payloads) - 1
    if joined.count(b"\n") != newlines:
        return False
    if joined[:1] == b"{":
        return joined[-1:] == b"}" and joined.count(b"}\n{") == newlines
    return all(payloads) and not any(blank in joined for blank in (b" ", b"\t", b"\r"))


def _times(times: list[int]) -> NDArray[np.int64] | None:
    column = column_us(times)
    if column is None or bool((np.abs(column) >= FARTHEST_US).any()):
        return None
    return column


def _woven(parts: list[tuple[list[int], Decoded]], n: int) -> Decoded:
    """Put the readings of messages that were decoded apart back into the order of arrival."""
    if len(parts) == 1 and len(parts[0][0]) == n:
        return parts[0][1]
    counts = np.zeros(n, np.int32)
    for which, decoded in parts:
        counts[which] = decoded.readings
    message = np.concatenate([np.repeat(which, decoded.readings) for which, decoded in parts])
    order = np.argsort(message, kind="stable")
    dead = sorted(
        (letter for _, decoded in parts for letter in decoded.dead), key=lambda letter: letter.message
    )
    return Decoded(
        counts,
        np.concatenate([decoded.series for _, decoded in parts])[order],
        np.concatenate([decoded.sent for _, decoded in parts])[order],
        np.concatenate([decoded.value for _, decoded in parts])[order],
        dead,
    )
