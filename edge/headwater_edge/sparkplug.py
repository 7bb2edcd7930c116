"""Sparkplug B: births name the metrics, data messages mean them by alias; deaths end both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headwater_edge.decoded import Refused
from headwater_edge.events import DeviceSaid
from headwater_edge.source import REPLAY, Burst
from headwater_edge.sparkplug_nodes import IN_DOUBLE, IN_FLOAT, IN_INT, MOST, Holder, Metric, Node
from headwater_edge.sparkplug_schema import BOOLEAN, messages
from headwater_edge.stamps import FARTHEST_US
from headwater_edge.taking import Taking
from headwater_edge.topics import SeriesIndex, our_name
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable
from headwater_shared.identity import valid_name
from headwater_shared.logs import get_logger

log = get_logger()

_BIRTH, _DATA, _DEATH = "BIRTH", "DATA", "DEATH"
_BD_SEQ = b"bdSeq"
_FARTHEST_MS = FARTHEST_US // 1000


class SparkplugPlace:
    """A topic of an edge node or a device; `holder` is None for those that bring no readings (commands, STATE)."""

    __slots__ = ("codec", "holder", "what")

    def __init__(self, codec: Sparkplug, what: str, holder: Holder | None) -> None:
        self.codec = codec
        self.what = what
        self.holder = holder


class Sparkplug:
    """Reads payloads, keeps births. The site is the group, the device the edge node or `node:device`."""

    def __init__(self, index: SeriesIndex) -> None:
        self._index = index
        self.nodes: dict[tuple[str, str], Node] = {}
        self._holders = 0

    def place_of(self, topic: str) -> SparkplugPlace:
        """Return what a topic means.

        Raises:
            Unreadable: it is none of Sparkplug's, or of more nodes and devices than are remembered.
        """
        words = topic.split("/")
        kind = words[2] if len(words) in (4, 5) else ""
        if (len(words) == 3 and words[1] == "STATE") or kind in ("NCMD", "DCMD"):
            return SparkplugPlace(self, "", None)
        of_node = len(words) == 4
        if kind[:1] != ("N" if of_node else "D") or kind[1:] not in (_BIRTH, _DATA, _DEATH):
            raise Unreadable(
                "a topic that is not spBv1.0/{group}/{NBIRTH, NDATA, ...}/{node} or .../{device}",
                reason="bad-topic",
            )
        names = [words[1], *words[3:]]
        if not all(valid_name(our_name(name)) for name in names):
            raise Unreadable(
                "the topic has no name for the group, the node or the device", reason="bad-topic"
            )
        return SparkplugPlace(self, kind[1:], self._holder(*names))

    def take(
        self, burst: Burst, which: Sequence[int], places: Sequence[SparkplugPlace], taking: Taking
    ) -> None:
        """Decode payloads one after the other: each is parsed by itself, so that none forges another's reading (R16)."""
        payload_class, no_payload = messages()
        parse = payload_class.FromString
        for message in which:
            topic, body, place = burst.topics[message], burst.payloads[message], places[message]
            holder = place.holder
            if holder is None:
                taking.skipped += 1
                taking.took()
                continue
            refused: list[Refused] = []
            replayed = bool(burst.flags) and burst.flags[message] & REPLAY
            try:
                payload = parse(body)
                if (
                    replayed
                ):  # it is of another time: its readings count, what it says of the session does not
                    self._metrics(_as_born(holder, payload, place.what), payload, taking, refused)
                else:
                    self._message(message, place.what, holder, payload, body, taking, refused)
            except (no_payload, UnicodeDecodeError) as error:
                taking.refuse(
                    message, Unreadable(f"no Sparkplug B: {error}", reason="unreadable"), topic, body
                )
                continue
            taking.took_but(message, refused, topic, body)
            unknown = not replayed and any(one.reason == "unknown-alias" for one in refused)
            if unknown and holder.node.may_ask(burst.arrived_us):
                taking.asks.append(self._ask(holder.node, burst.arrived_us))

    def _message(
        self,
        message: int,
        what: str,
        holder: Holder,
        payload: Any,
        body: bytes,
        taking: Taking,
        refused: list[Refused],
    ) -> None:
        if what == _DEATH:
            self._death(message, holder, payload, taking)
            return
        if what == _BIRTH:
            taking.said.append((message, DeviceSaid(_name(holder), online=True)))
            self._birth(holder, payload, body, taking)
        if payload.HasField("seq"):
            holder.node.follow(payload.seq)
        self._metrics(holder, payload, taking, refused)

    def let_go(self, numbers: Sequence[int]) -> None:
        """Forget the numbers of series; what births said stays."""
        for node in self.nodes.values():
            for holder in (node, *node.devices.values()):
                holder.let_go(frozenset(numbers))

    def learn(self, births: Iterable[tuple[bytes, bytes]]) -> None:
        """Take up births that were kept over a restart: nodes before their devices, no readings."""
        payload_class, no_payload = messages()
        for topic, body in sorted(births, key=lambda birth: birth[0].count(b"/")):
            try:
                holder = self.place_of(topic.decode()).holder
                if holder is None:
                    continue
                payload = payload_class.FromString(body)
                holder.learn(payload)
            except (no_payload, Unreadable, UnicodeDecodeError) as error:  # its next data asks for another
                log.error(
                    "a birth that was kept cannot be read",
                    topic=topic.decode(errors="replace"),
                    error=str(error),
                )
                continue
            if isinstance(holder, Node):
                holder.session = _session(payload)

    def metric(self, topic: str, what: str) -> str:
        """Return the metric that a dead letter calls `alias N`, if a birth has named it since; else what it is called."""
        alias = what.removeprefix("alias ")
        holder = self.place_of(topic).holder
        if holder is None or alias == what or not alias.isdecimal():
            return what
        known = holder.by_alias.get(int(alias))
        return our_name(known.name) if known is not None else what

    @property
    def gaps(self) -> dict[str, int]:
        """Messages that are missing, by edge node, where there are any."""
        return {
            f"{node.place.site}/{node.place.device}": node.gaps
            for node in list(self.nodes.values())
            if node.gaps
        }

    def _holder(self, group: str, node: str, device: str | None = None) -> Holder:
        known = self.nodes.get((group, node))
        if known is None:
            self._count()
            known = self.nodes[group, node] = Node(group, node)
        if device is None:
            return known
        if device not in known.devices:
            self._count()
        return known.device(device)

    def _count(self) -> None:
        if self._holders >= MOST:
            raise Unreadable(f"more than {MOST} nodes and devices of Sparkplug", reason="too-many-devices")
        self._holders += 1

    def _metrics(self, holder: Holder, payload: Any, taking: Taking, refused: list[Refused]) -> None:
        """Append the readings of a payload."""
        by_alias, series, sent, values = holder.by_alias, taking.series, taking.sent, taking.values
        of_payload = payload.timestamp
        for metric in payload.metrics:
            alias = metric.alias
            known = by_alias.get(alias)
            if known is None or not alias:  # which is 0 where there is none
                known = holder.find(metric)
                if known is None:
                    what = (
                        f"alias {alias}"
                        if metric.HasField("alias")
                        else metric.name.decode() or "a nameless metric"
                    )
                    refused.append(Refused(what, "no birth has named it", "unknown-alias"))
                    continue
            value: float | None = 0.0  # and so is a value that is not there
            if known.quick == IN_DOUBLE:
                value = metric.double_value
            elif known.quick == IN_FLOAT:
                value = metric.float_value
            elif known.quick == IN_INT:
                value = metric.int_value
            if not value or (known.quick == IN_INT and value >= known.sign):
                value = known.value(metric)
            if value is None or metric.is_null or metric.is_transient:
                taking.skipped += 1
                continue
            number = known.number
            if number < 0:
                number = self._number(holder, known, refused)
                if number < 0:
                    continue
            time = metric.timestamp or of_payload
            if time >= _FARTHEST_MS:
                refused.append(Refused(our_name(known.name), f"{time} ms is out of range"))
                continue
            series.append(number)
            sent.append(time * 1000 if time else NO_TIME)
            values.append(value)

    def _number(self, holder: Holder, known: Metric, refused: list[Refused]) -> int:
        number = holder.number(self._index, known)
        if isinstance(number, Unreadable):
            refused.append(Refused(our_name(known.name), number.message, number.reason))
            return -1
        return number

    def _birth(self, holder: Holder, payload: Any, body: bytes, taking: Taking) -> None:
        """Learn a birth. A node's ends what was known of its devices: they are born after it."""
        if isinstance(holder, Node):
            self._forget_devices(holder, taking)
            holder.session = _session(payload)
            holder.seq = None  # it begins again
        holder.learn(payload)
        taking.births.append((holder.birth_topic, body))

    def _death(self, message: int, holder: Holder, payload: Any, taking: Taking) -> None:
        """Forget what the dead named. A node's death counts for the session that it names, and for no later one."""
        if isinstance(holder, Node):
            session = _session(payload)
            if None not in (session, holder.session) and session != holder.session:
                return
            self._forget_devices(holder, taking)
            for device in holder.devices.values():
                taking.said.append((message, DeviceSaid(_name(device), online=False)))
        taking.said.append((message, DeviceSaid(_name(holder), online=False)))
        if holder.born:
            taking.births.append((holder.birth_topic, None))
        holder.forget()

    def _forget_devices(self, node: Node, taking: Taking) -> None:
        for device in node.devices.values():
            if device.born:
                taking.births.append((device.birth_topic, None))
            device.forget()

    def _ask(self, node: Node, now_us: int) -> tuple[bytes, bytes]:
        """Make the request that a node be born again."""
        payload = messages().Payload(timestamp=max(0, now_us // 1000))
        payload.metrics.add(
            name=b"Node Control/Rebirth", timestamp=payload.timestamp, datatype=BOOLEAN, boolean_value=True
        )
        return f"spBv1.0/{node.group}/NCMD/{node.id}".encode(), payload.SerializeToString()


def _as_born(holder: Holder, payload: Any, what: str) -> Holder:
    """Return who means the metrics of a payload that is taken again: a birth means its own."""
    if what != _BIRTH:
        return holder
    own = Holder(holder.node, holder.place.site, holder.place.device, holder.birth_topic)
    own.learn(payload)
    return own


def _name(holder: Holder) -> str:
    return f"{holder.place.site}/{holder.place.device}"


def _session(payload: Any) -> int | None:
    """Return the bdSeq of a node's birth or death."""
    for metric in payload.metrics:
        if metric.name == _BD_SEQ:
            return int(metric.int_value or metric.long_value)
    return None
