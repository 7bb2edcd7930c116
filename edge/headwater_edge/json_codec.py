"""Headwater's own JSON: a burst is parsed at once by lines, and one by one where its shapes differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge import payloads as one_by_one
from headwater_edge.decoded import Decoded, Refused
from headwater_edge.source import Burst
from headwater_edge.stamps import column_us
from headwater_edge.taking import Taking
from headwater_edge.topics import Place, SeriesIndex
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable


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


_FEW = 32
"""Lines of a burst."""
Lines = Callable[[bytes], list[Any]]


def _shapes(*kinds: Any) -> list[Lines]:
    return [msgspec.json.Decoder(kind).decode_lines for kind in kinds]


class JsonCodec:
    """Remembers which shape came last, since a site's devices mostly speak alike.

    Its places are the number of a series where the topic names the metric, else a `Place`.
    """

    def __init__(self, index: SeriesIndex) -> None:
        self._index = index
        self._single = _shapes(_TV, float, _TimeValue, _TsValue, _TimestampValue)
        self._bare = self._single[1]
        self._many = _shapes(_TValues, _TimeValues)

    def singles(self, payloads: list[bytes], series: NDArray[np.int32]) -> Decoded | None:
        """Decode messages of one reading each, all alike; None if they are not."""
        parsed = self._parse(self._single, payloads)
        if parsed is None:
            return None
        n = len(parsed)
        if self._single[0] is self._bare:
            value = np.fromiter(parsed, np.float64, n) + 0.0
            sent: NDArray[np.int64] | None = np.full(n, NO_TIME)
        else:
            value = np.fromiter([reading.v for reading in parsed], np.float64, n) + 0.0  # -0 becomes 0
            sent = column_us([reading.t for reading in parsed])
        if sent is None or not np.isfinite(value).all():
            return None
        return Decoded(np.ones(n, np.int32), series, sent, value, [])

    def manies(self, payloads: list[bytes], places: list[Any]) -> Decoded | None:
        """Decode messages that name their values, all alike and all known; None if they are not."""
        parsed = self._parse(self._many, payloads)
        if parsed is None:
            return None
        times = column_us([reading.t for reading in parsed])
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

    def take(self, burst: Burst, which: Sequence[int], places: list[Any], taking: Taking) -> None:
        """Decode messages one by one: the slow and complete way."""
        for message in which:
            topic, payload, place = burst.topics[message], burst.payloads[message], places[message]
            try:
                said, refused, skipped = one_by_one.read(payload, metric_in_topic=type(place) is int)
            except Unreadable as error:
                taking.refuse(message, error, topic, payload)
                continue
            taking.skipped += skipped
            for metric, time, value in said:
                number = place if metric is None else self._number(place, metric)
                if isinstance(number, Unreadable):
                    refused.append(Refused(str(metric), number.message, number.reason))
                    continue
                taking.series.append(number)
                taking.sent.append(time)
                taking.values.append(value)
            taking.took_but(message, refused, topic, payload)

    def _number(self, place: Any, metric: str) -> int | Unreadable:
        if type(place) is int:  # values beside the one that the topic names: they are of the same device
            site, device, _ = self._index.names[place].split("/")
            place = Place(site, device)
        number: int | Unreadable = place.number(self._index, metric)
        return number

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


def _one_a_line(joined: bytes, payloads: list[bytes]) -> bool:
    """Tell whether as many values as payloads can only mean: one each; else one payload could forge another's reading.

    msgspec reads values one after the other, whatever stands between them: `1-2` and an empty payload are two values,
    and so are `{"v":1}{"v":` and `2}`. So no line may be blank and no value go over a line's end: a number cannot, and
    an object cannot where each line begins with { and ends with }, for no JSON has a { right after a }.
    """
    newlines, between = _seams(joined, few=len(payloads) < _FEW)
    if newlines != len(payloads) - 1:
        return False
    if joined[:1] == b"{":
        return joined[-1:] == b"}" and between == newlines
    return all(payloads) and not any(blank in joined for blank in (b" ", b"\t", b"\r"))


def _seams(joined: bytes, *, few: bool) -> tuple[int, int]:
    """Count newlines, and those between } and {, of what is within braces; of many lines numpy does so in half the time."""
    if few:
        return joined.count(b"\n"), joined.count(b"}\n{")
    text = np.frombuffer(joined, np.uint8)
    (at,) = (text == ord("\n")).nonzero()
    if joined[:1] != b"{" or joined[-1:] != b"}":
        return len(at), -1
    between = (text[at - 1] == ord("}")) & (text[at + 1] == ord("{"))
    return len(at), int(np.count_nonzero(between))
