"""The journal row: one tick's input in few bytes, format 2 (R12). Format 1 had no verdicts of look-ups.

A format byte, then, squeezed, a msgpack head and the columns: integers delta-coded, all byte-shuffled (the first
bytes of all items, then the second ones), so that the zeros are found. Values that are decimals of at most
six digits after the point are written as whole numbers, if every one of them comes back to the same bits.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_edge.events import Event
from headwater_edge.evicted import Former
from headwater_edge.tick import Messages, Readings, Tick
from headwater_shared.clock import Now
from headwater_shared.squeeze import squeezed

FORMAT = 2
KNOWN = (1, 2)


class _Head(msgspec.Struct, array_like=True):
    now: tuple[int, int, str, int]
    events: list[tuple[int, Event]]
    new_series: list[str]
    unreadable: list[tuple[int, int]]
    runs: int
    bursts: int
    messages: int
    readings: int
    one_each: bool
    """Every message brought one reading."""
    decimals: int
    """Values are whole numbers of 10**-decimals; -1: they are floats."""
    known: list[int] = []
    beyond: list[int] = []


class _LongHead(_Head, array_like=True):
    """Of a row that brings new series, where some were let go before: a row without is as it ever was."""

    numbers: list[int] = []
    returned: list[Former] = []


_SHORT = len(_Head.__struct_fields__)


class Damaged(ValueError):
    """A journal row, or what stands beside it, cannot be read."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_LongHead)


def encode(tick: Tick) -> bytes:
    """Write a tick as a journal row."""
    messages, readings = tick.messages, tick.readings
    one_each = len(readings) == len(messages) and bool((messages.readings == 1).all())
    decimals, values = _values(readings.value)
    head: list[Any] = [
        (tick.now.wall_us, tick.now.mono_us, tick.now.boot, tick.now.quality),
        tick.events,
        tick.new_series,
        tick.unreadable,
        len(messages.run_end),
        len(messages.burst_end),
        len(messages),
        len(readings),
        one_each,
        decimals,
        tick.known,
        tick.beyond,
    ]
    if tick.numbers or tick.returned:
        head += [tick.numbers, tick.returned]
    packed = _encoder.encode(_LongHead(*head) if len(head) > _SHORT else _Head(*head))
    ids = messages.packet_id.astype(np.int64)
    columns = [
        struct.pack("<I", len(packed)),
        packed,
        _deltas(messages.run_connection),
        _deltas(messages.run_end),
        _deltas(messages.burst_arrived),
        _deltas(messages.burst_end),
        _deltas(ids),
        messages.flags.tobytes(),
        b"" if one_each else _deltas(messages.readings.astype(np.int64)),
        _deltas(readings.series.astype(np.int64)),
        _deltas(readings.sent),
        values,
    ]
    return bytes([FORMAT]) + squeezed(b"".join(columns))


def decode(row: bytes) -> Tick:
    """Read a journal row of any known format.

    Raises:
        Damaged: it is so, or of another format.
    """
    try:
        if not row or row[0] not in KNOWN:
            raise Damaged(f"journal format {row[:1].hex()} is not known here")
        return _decoded(zlib.decompress(row[1:]))
    except (zlib.error, struct.error, msgspec.DecodeError, TypeError, ValueError, OverflowError) as error:
        raise Damaged(f"a damaged journal row: {error}") from error


def _decoded(body: bytes) -> Tick:
    (size,) = struct.unpack_from("<I", body)
    head = _decoder.decode(body[4 : 4 + size])
    at = _At(body, 4 + size)
    run_connection, run_end = at.deltas(head.runs), at.deltas(head.runs)
    arrived, burst_end = at.deltas(head.bursts), at.deltas(head.bursts)
    packet_id = at.deltas(head.messages).astype(np.uint16)
    flags = np.frombuffer(at.cut(head.messages), np.uint8)
    each = np.ones(head.messages, np.int32) if head.one_each else at.deltas(head.messages).astype(np.int32)
    series = at.deltas(head.readings).astype(np.int32)
    sent = at.deltas(head.readings)
    if head.decimals < 0:
        value = _unshuffled(at.cut(8 * head.readings), 8).view(np.float64)
    else:
        value = at.deltas(head.readings) / 10.0**head.decimals
    messages = Messages(run_connection, run_end, arrived, burst_end, packet_id, flags, each)
    readings = Readings(series, sent, value)
    return Tick(
        Now(*head.now),
        head.events,
        head.new_series,
        messages,
        readings,
        head.unreadable,
        head.known,
        head.beyond,
        numbers=head.numbers,
        returned=head.returned,
    )


class _At:
    """A place in a row's body."""

    def __init__(self, body: bytes, at: int) -> None:
        self.body = body
        self.at = at

    def cut(self, n: int) -> bytes:
        if self.at + n > len(self.body):
            raise ValueError("a damaged journal row: it ends too early")
        self.at += n
        return self.body[self.at - n : self.at]

    def deltas(self, n: int) -> NDArray[np.int64]:
        if not n:
            return np.zeros(0, np.int64)
        width, first = struct.unpack("<Bq", self.cut(9))
        out = np.empty(n, np.int64)
        out[0] = first
        if width == 0:
            out[1:] = struct.unpack("<q", self.cut(8))[0]
        else:
            out[1:] = _unshuffled(self.cut((n - 1) * width), width).view(f"<i{width}")
        return np.cumsum(out, out=out)


def _values(values: NDArray[np.float64]) -> tuple[int, bytes]:
    """Write values as whole numbers of the fewest decimals that give every one of them back, or as floats."""
    if len(values):
        likely = max(
            len(repr(value).partition(".")[2]) for value in values[:: len(values) // 16 + 1].tolist()
        )
        for decimals in sorted({min(likely, 6), 6}):
            scale = 10.0**decimals
            with np.errstate(over="ignore"):  # infinity is no whole number, as it should be
                whole = np.rint(values * scale)
            if bool((np.abs(whole) < 2**52).all()):  # NaN and infinity are not
                numbers = whole.astype(np.int64)
                if bool(
                    ((numbers / scale).view(np.int64) == values.view(np.int64)).all()
                ):  # -0 does not come back
                    return decimals, _deltas(numbers)
    return -1, _shuffled(values.view(np.uint8), 8)


def _deltas(items: NDArray[np.int64]) -> bytes:
    """Write integers as the first and the steps between them, in as few bytes as the largest step needs.

    Width and first item, then the steps, byte-shuffled; width 0: the one step that all are. Steps wrap around at 64
    bits and come back so.
    """
    if not len(items):
        return b""
    steps = items[1:] - items[:-1]
    low, high = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
    first = int(items[0])
    if low == high:
        return struct.pack("<Bqq", 0, first, low)
    for width in (1, 2, 4):
        if -(1 << (8 * width - 1)) <= low and high < 1 << (8 * width - 1):
            return struct.pack("<Bq", width, first) + _shuffled(
                steps.astype(f"<i{width}").view(np.uint8), width
            )
    return struct.pack("<Bq", 8, first) + _shuffled(steps.view(np.uint8), 8)


def _shuffled(raw: NDArray[np.uint8], width: int) -> bytes:
    return raw.reshape(-1, width).T.tobytes()


def _unshuffled(raw: bytes, width: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(width, -1).T).reshape(-1)
