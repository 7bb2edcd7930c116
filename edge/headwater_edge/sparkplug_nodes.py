"""What Sparkplug B keeps between messages: the metrics of each edge node and device, as their births named them."""

from __future__ import annotations

from typing import Any

from headwater_edge.sparkplug_schema import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
)
from headwater_edge.topics import Place, SeriesIndex, our_name
from headwater_shared.errors import Unreadable

MOST = 10_000
"""Edge nodes and devices that are remembered; those beyond are dead letters."""

ASK_AGAIN_US = 30_000_000
"""A node is asked for its births once in this time: it sends all that it has."""

CONTROL = ("bdSeq", "Node Control/", "Device Control/")
"""Begins of the names of metrics that are no readings."""

_UNSEEN = -1
_SIGN = {kind: 1 << (8 << kind - INT8) - 1 for kind in range(INT8, INT64 + 1)}
"""Sign bit by data type: INT8 has 8 bits, INT64 has 64."""
IN_DOUBLE, IN_FLOAT, IN_INT = 1, 2, 3
_QUICK = {DOUBLE: IN_DOUBLE, FLOAT: IN_FLOAT} | dict.fromkeys(
    (INT8, INT16, INT32, UINT8, UINT16, UINT32), IN_INT
)
_NUMBERS = frozenset(range(INT8, BOOLEAN + 1)) | {0}
"""Data types of readings: integers, Float, Double, Boolean; 0 if none was said."""


class Metric:
    """One metric of a node or device."""

    __slots__ = ("datatype", "is_reading", "name", "number", "quick", "sign")

    def __init__(self, name: str, datatype: int) -> None:
        self.name = name
        self.datatype = datatype
        self.number = _UNSEEN
        """Of its series, once a value came."""
        self.is_reading = datatype in _NUMBERS and not name.startswith(CONTROL)
        self.quick = _QUICK.get(datatype, 0) if self.is_reading else 0
        """In which field its value is looked for first: a double, a float, a small integer; 0: none."""
        self.sign = _SIGN.get(datatype, 1 << 32)
        """Integers from here on are negative, or do not fit."""

    def value(self, metric: Any) -> float | None:
        """Return the value that a message gives it, None if that is no reading: null, text, data; a control."""
        if not self.is_reading:
            return None
        match metric.WhichOneof("value"):
            case "double_value":
                return float(metric.double_value)
            case "float_value":
                return float(metric.float_value)
            case "int_value":
                return self._signed(metric.int_value, metric.datatype)
            case "long_value":
                return self._signed(metric.long_value, metric.datatype)
            case "boolean_value":
                return float(metric.boolean_value)
            case _:
                return None

    def _signed(self, bits: int, datatype: int) -> int:
        """Read the two's complement that an integer travels in, 8 to 64 bits wide, whatever the field it came in."""
        sign = _SIGN.get(datatype or self.datatype)
        if sign is None:
            return bits
        low = bits & (2 * sign - 1)
        return low - 2 * sign if low & sign else low


class Holder:
    """An edge node, or a device of one: whose metrics they are."""

    def __init__(self, node: Node | None, site: str, device: str, topic: bytes) -> None:
        self.node: Node = node or self  # type: ignore[assignment]  # a node is its own
        self.place = Place(site, device)
        self.birth_topic = topic
        """Of the births that it sends."""
        self.born = False
        self.by_alias: dict[int, Metric] = {}
        self.by_name: dict[str, Metric] = {}

    def learn(self, payload: Any) -> None:
        """Take up the metrics that a birth names, in place of all before."""
        self.forget()
        for metric in payload.metrics:
            if not metric.name:
                continue
            known = Metric(metric.name.decode(), metric.datatype)
            self.by_name[known.name] = known
            if metric.HasField("alias"):
                self.by_alias[metric.alias] = known
        self.born = True

    def let_go(self, numbers: frozenset[int]) -> None:
        """Forget the numbers of series."""
        for metric in (*self.by_name.values(), *self.by_alias.values()):
            if metric.number in numbers:
                metric.number = _UNSEEN
        self.place.let_go(numbers)

    def forget(self) -> None:
        """It died, or is born again."""
        self.born = False
        self.by_alias = {}
        self.by_name = {}

    def find(self, metric: Any) -> Metric | None:
        """Find the metric that a message means; None if only a birth could tell."""
        if metric.HasField("alias"):
            known = self.by_alias.get(metric.alias)
            if known is not None:
                return known
        name = metric.name.decode()
        if not name:
            return None
        known = self.by_name.get(name)
        if known is None:
            if not metric.datatype and metric.WhichOneof("value") in ("int_value", "long_value"):
                return None  # whether it is negative cannot be told
            known = Metric(name, metric.datatype)
            if len(self.by_name) < MOST:
                self.by_name[name] = known
        return known

    def number(self, index: SeriesIndex, metric: Metric) -> int | Unreadable:
        """Return the number of a metric's series."""
        number = self.place.number(index, our_name(metric.name))
        if isinstance(number, int):
            metric.number = number
        return number


class Node(Holder):
    """An edge node: its devices, its session and its sequence."""

    def __init__(self, group: str, node: str) -> None:
        super().__init__(None, our_name(group), our_name(node), f"spBv1.0/{group}/NBIRTH/{node}".encode())
        self.group, self.id = group, node
        self.devices: dict[str, Holder] = {}
        self.session: int | None = None
        """Its bdSeq: which death is of this birth."""
        self.seq: int | None = None
        self.asked_us = 0
        self.gaps = 0
        """Messages that are missing, told by its sequence numbers."""

    def device(self, name: str) -> Holder:
        """Return a device of it."""
        known = self.devices.get(name)
        if known is None:
            topic = f"spBv1.0/{self.group}/DBIRTH/{self.id}/{name}".encode()
            known = Holder(self, self.place.site, f"{self.place.device}:{our_name(name)}", topic)
            self.devices[name] = known
        return known

    def follow(self, seq: int) -> None:
        """Count the messages that are missing before one (sequence numbers go from 0 to 255 and begin again)."""
        if self.seq is not None and seq != self.seq:
            self.gaps += (seq - self.seq - 1) % 256
        self.seq = seq

    def may_ask(self, now_us: int) -> bool:
        """Tell whether it is time to ask for births again."""
        if self.asked_us and 0 <= now_us - self.asked_us < ASK_AGAIN_US:
            return False
        self.asked_us = now_us
        return True
