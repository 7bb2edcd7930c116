"""The hot loop of the listener: cuts PUBLISHes out of the bytes of a socket, and makes PUBACKs and PUBRECs.

Two thirds of a microsecond of what a message costs could go here, so what a typical message needs is one call of C: a
`struct` made for its two lengths (below 128 bytes, QoS 1, not resent, no properties) unpacks it whole. Topics were found
valid once; after that they are looked up with their length still before them, so that one look-up checks length and
text, and gives the one object of that topic, whose hash is known already. All else takes the careful way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct, error
from typing import Any

import numpy as np

from headwater_edge.properties import ALIAS, OF_PUBLISH, read_properties
from headwater_edge.protocol import (
    ALIAS_INVALID,
    PROTOCOL_ERROR,
    PUBLISH,
    PUBREL,
    QUOTA_EXCEEDED,
    TOPIC_INVALID,
    BadPacket,
    Fields,
    body,
    text,
)
from headwater_edge.source import DUP, QOS1, QOS2, TWICE

_SHORT = 128
"""Packets with a remaining length below this have one length byte, and their struct stands in a table."""
_MOST_TOPICS, _MOST_BLOCKS, _MOST_LENGTHS = 32_768, 4_096, 4_096
"""What is remembered; a flood of others empties the memory, and costs time only."""
_LONGEST = 512
"""Longer topics (bytes) are not remembered, but checked each time."""

_PLAIN, _PLAIN_BITS = PUBLISH << 4 | QOS1, 0xF0 | DUP | QOS1 | QOS2
_PUBACK = 0x4002_0000
_PUBREL = bytes((PUBREL << 4 | 2, 2))
"""How a PUBREL without a reason code begins."""
_NO_ALIASES: dict[int, bytes] = {}

Unpack = Callable[[bytes, int], tuple[Any, ...]]
"""Gives first byte, topic with its length before it, packet id, length of the property block, payload."""


def _unmade(_data: bytes, _at: int) -> tuple[Any, ...]:
    raise KeyError


class Known:
    """What was found valid once: topics, property blocks, and the pairs of lengths that have a struct of their own.

    One for each listener, since `max_packet` (bytes, 128 or more) bounds the lengths; topic aliases go from 1 up to
    `max_aliases`.
    """

    def __init__(self, max_packet: int, max_aliases: int = 0) -> None:
        self.max_packet = max_packet
        self.max_aliases = max_aliases
        self.at_qos_2 = 0
        """PUBLISHes that were cut at QoS 2, repeats too."""
        self.plain_bits = _PLAIN_BITS
        """Bits of the first byte that the fast way looks at; with RETAIN where that means something, from a broker (R9)."""
        self.topics: dict[bytes, bytes] = {}
        """The topic with its length before it, as on the wire: the topic."""
        self.blocks: dict[bytes, int] = {}
        """Property blocks of PUBLISHes, with their length before them, and the topic alias in each, 0 for none."""
        self.short: tuple[list[list[Unpack]], list[list[Unpack]]] = (_table(), _table())
        """Of 3.1.1 and 5: [remaining length][length of the topic]."""
        self.long: tuple[dict[bytes, tuple[Unpack, int]], dict[bytes, tuple[Unpack, int]]] = ({}, {})
        """Of 3.1.1 and 5, packets with two length bytes: these and the topic's: struct, bytes after the first two."""

    def topic(self, prefixed: bytes) -> bytes:
        """Check a topic that is not in `topics`, and remember it.

        Raises:
            BadPacket: it is empty, no UTF-8, or holds a wildcard.
        """
        topic = prefixed[2:]
        if not topic:
            raise BadPacket("PUBLISH without a topic", reason="topic-empty", code=TOPIC_INVALID)
        text("PUBLISH", topic)
        if b"+" in topic or b"#" in topic:
            raise BadPacket(f"PUBLISH to {topic[:80]!r}", reason="topic-wildcard", code=TOPIC_INVALID)
        if len(topic) <= _LONGEST:
            if len(self.topics) >= _MOST_TOPICS:
                self.topics.clear()
            self.topics[prefixed] = topic
        return topic

    def only_one(self, data: bytes, v5: bool) -> tuple[bytes, int, bytes]:
        """Return topic, packet id and payload of data that is one plain message: short, QoS 1, of a known topic.

        Raises:
            LookupError, struct.error: it is something else, or the lengths or the topic are new.
        """
        length = data[1]
        if length + 2 != len(data):
            raise LookupError
        first, topic, packet_id, block, payload = self.short[v5][length][data[3]](data, 0)
        if first & _PLAIN_BITS != _PLAIN or block or not packet_id:
            raise LookupError
        return self.topics[topic], packet_id, payload

    def after_properties(self, data: bytes, at: int, end: int) -> tuple[int, int]:
        """Check the property block at `at`; returns where it ends, and the topic alias in it, 0 for none.

        Raises:
            BadPacket: it is malformed, or its topic alias is none that we allowed.
        """
        after = at + 1 + data[at] if at < end else at
        if after <= end:
            known = self.blocks.get(data[at:after])
            if known is not None:
                return after, known
        fields = Fields("PUBLISH", data, at, end)
        alias: int | None = read_properties(fields, OF_PUBLISH).get(ALIAS)
        if alias is not None and not 0 < alias <= self.max_aliases:
            message = f"PUBLISH with the topic alias {alias}; 1 to {self.max_aliases} are allowed"
            raise BadPacket(message, reason="topic-alias", code=ALIAS_INVALID)
        if fields.at == after:  # its length is one byte
            if len(self.blocks) >= _MOST_BLOCKS:
                self.blocks.clear()
            self.blocks[data[at:after]] = alias or 0
        return fields.at, alias or 0

    def aliased(self, prefixed: bytes, alias: int, aliases: dict[int, bytes]) -> bytes:
        """Return the topic that a topic alias stands for on this connection, or make it stand for this one.

        Raises:
            BadPacket: it stands for nothing, or its topic is malformed or too long to be kept.
        """
        if len(prefixed) > 2:
            topic = aliases[alias] = self.topics.get(prefixed) or self.topic(prefixed)
            if len(topic) > _LONGEST:
                message = f"a topic alias for a topic of {len(topic)} bytes"
                raise BadPacket(message, reason="topic-alias", code=QUOTA_EXCEEDED)
            return topic
        known = aliases.get(alias)
        if known is None:
            message = f"the topic alias {alias} stands for nothing yet"
            raise BadPacket(message, reason="topic-alias", code=PROTOCOL_ERROR)
        return known

    def lengths(self, head: bytes, v5: bool, remaining: int, topic: int) -> None:
        """Make the struct of the packets at QoS 1 that have these two lengths; `head` is their bytes 1 to 4."""
        payload = remaining - 4 - topic - v5
        if payload < 0:
            return
        middle = (
            "B" if v5 else "0s"
        )  # 3.1.1 has no property block: nothing, which is as false as a length of 0
        if remaining < _SHORT:
            self.short[v5][remaining][topic] = Struct(f">Bx{topic + 2}sH{middle}{payload}s").unpack_from
        elif remaining < 0x4000 and remaining + 3 <= self.max_packet:
            long = self.long[v5]
            if len(long) >= _MOST_LENGTHS:
                long.clear()
            unpack = Struct(f">Bxx{topic + 2}sH{middle}{payload}s").unpack_from
            long[head] = (unpack, remaining + 1)


def _table() -> list[list[Unpack]]:
    return [[_unmade] * _SHORT for _ in range(_SHORT)]


def cut(
    data: bytes,
    at: int,
    v5: bool,
    known: Known,
    topics: list[bytes],
    payloads: list[bytes],
    packet_ids: list[int],
    flags: list[int],
    aliases: dict[int, bytes] = _NO_ALIASES,
) -> int:
    """Append the PUBLISHes that begin at `at` to the four lists, up to the first packet that is incomplete or another.

    A packet id at QoS 2 has `TWICE` above it. `aliases` are the topic aliases of the connection, needed where
    `known` allows some. Returns the position of that packet, or len(data).

    Raises:
        BadPacket: what follows is malformed or not allowed; what came before it is in the lists.
    """
    size = len(data)
    ours, short, long, bits = known.topics, known.short[v5], known.long[v5], known.plain_bits
    while at < size:
        try:
            while at < size:
                length = data[at + 1]
                if length < _SHORT:
                    first, topic, packet_id, block, payload = short[length][data[at + 3]](data, at)
                else:
                    unpack, length = long[data[at + 1 : at + 5]]
                    first, topic, packet_id, block, payload = unpack(data, at)
                if first & bits != _PLAIN or block or not packet_id:
                    break
                topics.append(ours[topic])
                payloads.append(payload)
                packet_ids.append(packet_id)
                at += length + 2
        except (KeyError, IndexError, error):  # a topic or lengths that are new, or half a packet
            pass
        flags.extend([QOS1] * (len(topics) - len(flags)))  # all that the inner loop takes are alike
        if at >= size or data[at] >> 4 != PUBLISH:
            return at
        found = body(data, at, known.max_packet)
        if found is None:
            return at
        _take(data, at, found, v5, known, topics, payloads, packet_ids, flags, aliases)
        at = found[1]
    return at


def _take(
    data: bytes,
    at: int,
    found: tuple[int, int],
    v5: bool,
    known: Known,
    topics: list[bytes],
    payloads: list[bytes],
    packet_ids: list[int],
    flags: list[int],
    aliases: dict[int, bytes],
) -> None:
    """The careful way: one PUBLISH of any length, QoS and property block."""
    begin, end = found
    flag = data[at] & 15
    qos = flag & (QOS1 | QOS2)
    if qos > QOS2 or (flag & DUP and not qos):
        what = "at QoS 3, which does not exist" if qos else "at QoS 0 marked as resent"
        raise BadPacket(f"PUBLISH {what}", reason="qos-3" if qos else "dup-at-qos-0")
    length = data[begin] << 8 | data[begin + 1] if end - begin > 1 else 0
    after = begin + 2 + length
    rest = after + 2 if qos else after
    if rest > end:
        raise BadPacket("PUBLISH ends inside a field", reason="truncated")
    packet_id = alias = 0
    if qos:
        packet_id = data[after] << 8 | data[after + 1]
        if not packet_id:
            raise BadPacket("PUBLISH with the packet id 0", reason="packet-id-0", code=PROTOCOL_ERROR)
    prefixed = data[begin:after]
    before_block = rest
    if v5:
        rest, alias = known.after_properties(data, rest, end)
    if alias:
        topic = known.aliased(prefixed, alias, aliases)
    else:
        topic = known.topics.get(prefixed) or known.topic(prefixed)
    topics.append(topic)
    payloads.append(data[rest:end])
    packet_ids.append(packet_id)
    flags.append(flag)
    if qos == QOS2:
        packet_ids[-1] |= TWICE
        known.at_qos_2 += 1
    if qos and rest == before_block + v5:
        known.lengths(data[at + 1 : at + 5], v5, end - begin, length)


def pubrels(data: bytes, at: int) -> tuple[list[int], int]:
    """Return the packet ids of the PUBRELs without a reason code that begin at `at`, and where they end."""
    packet_ids = []
    while data[at : at + 2] == _PUBREL and at + 4 <= len(data):
        packet_id = data[at + 2] << 8 | data[at + 3]
        if not packet_id:
            raise BadPacket("PUBREL with the packet id 0", reason="packet-id-0", code=PROTOCOL_ERROR)
        packet_ids.append(packet_id)
        at += 4
    return packet_ids, at


def pubacks(packet_ids: Sequence[int]) -> bytes:
    """PUBACKs, and PUBRECs where `TWICE` stands above the id: four bytes each, the same in 3.1.1 and 5, in this order;
    none for the packet id 0, which is QoS 0.
    """
    if 0 in packet_ids:
        packet_ids = [packet_id for packet_id in packet_ids if packet_id]
    if len(packet_ids) < 16:  # below this numpy's fixed costs are more than the loop
        return b"".join([(_PUBACK | packet_id).to_bytes(4, "big") for packet_id in packet_ids])
    return (np.array(packet_ids, dtype=np.uint32) | np.uint32(_PUBACK)).astype(">u4").tobytes()
