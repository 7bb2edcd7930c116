"""What a connection's bytes mean: lets clients in, takes their PUBLISHes, answers their control packets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from headwater_edge.admission import Admission
from headwater_edge.answers import PINGRESP, suback, unsuback
from headwater_edge.connection import NOBODY, UNSENT, Connection, ListenerBurst
from headwater_edge.control import read_connect, read_disconnect, read_subscribe, read_unsubscribe
from headwater_edge.events import Connect, Subscribe, Unsubscribe
from headwater_edge.protocol import (
    CONNECT,
    DISCONNECT,
    FILTER_REFUSED,
    FILTER_SHARED,
    FILTER_WILDCARD,
    FILTER_WITH_ID,
    PINGREQ,
    PROTOCOL_ERROR,
    PUBACK,
    SUBSCRIBE,
    TAKEN_OVER,
    UNSUBSCRIBE,
    BadPacket,
    body,
)
from headwater_edge.publishes import Known, cut

_FLAGS = {CONNECT: 0, SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0, PUBACK: 0}
"""The control packets that a client may send, and the lower half of their first byte."""
_LONGEST_CONNECT = 16_384
"""Bytes; before anyone has said who they are, memory is not theirs to take."""
_COMMANDS = re.compile(r"hw/[^/+#]+/[^/+#]+/cmd")
_GRANTED, _NO_SUBSCRIPTION = 0x00, 0x11


class Wire(Protocol):
    """What the exchange asks of the listener."""

    def send(self, connection: Connection, data: bytes) -> None:
        """Write at once, or end the connection if that cannot be."""

    def end(
        self,
        connection: Connection,
        why: str,
        *,
        clean: bool = False,
        expiry_s: int = -1,
        code: int = 0,
        text: str = "",
    ) -> None:
        """End a connection; `code` and `text` are what an MQTT 5 client is told."""


class Exchange:
    """The rules of MQTT for all connections of one listener. Nothing here waits or touches a socket."""

    def __init__(self, wire: Wire, admission: Admission, known: Known, numbers: Iterator[int]) -> None:
        self._wire = wire
        self._admission = admission
        self.known = known
        self._numbers = numbers
        self.by_number: dict[int, Connection] = {}
        self.by_client: dict[str, Connection] = {}

    def take(self, connection: Connection, data: bytes, burst: ListenerBurst) -> None:
        """Take all whole packets at the front of `data` into the burst; the rest stays with the connection.

        Raises:
            BadPacket: the connection must end; what came before stands in the burst.
            NotAdmitted: the client must be turned away.
        """
        at, size, known = 0, len(data), self.known
        while at < size:
            if connection.number:
                at = cut(
                    data, at, connection.v5, known,
                    burst.topics, burst.payloads, burst.packet_ids, burst.flags,
                )  # fmt: skip
                if at == size:
                    break
                found = body(data, at, known.max_packet)
            else:
                _must_be_connect(data[at:])
                found = body(data, at, min(_LONGEST_CONNECT, known.max_packet))
            if found is None:
                break
            self._control(connection, data, at, found, burst)
            if connection.gone:
                return
            at = found[1]
        connection.rest = data[at:]

    def forget(self, connection: Connection) -> None:
        """The connection has ended."""
        self.by_number.pop(connection.number, None)
        if self.by_client.get(connection.client) is connection:
            del self.by_client[connection.client]

    def _control(
        self, connection: Connection, data: bytes, at: int, found: tuple[int, int], burst: ListenerBurst
    ) -> None:
        begin, end = found
        kind = data[at] >> 4
        if _FLAGS.get(kind) != data[at] & 15:
            raise BadPacket(f"a packet that begins with 0x{data[at]:02x}", reason="packet-type")
        if kind == CONNECT:
            self._connect(connection, data, begin, end, burst)
        elif kind == PINGREQ:
            if begin != end:
                raise BadPacket("PINGREQ with a body", reason="trailing-bytes")
            self._answer_now(connection, PINGRESP)
        elif kind == SUBSCRIBE:
            self._subscribe(connection, data, begin, end, burst)
        elif kind == UNSUBSCRIBE:
            self._unsubscribe(connection, data, begin, end, burst)
        elif kind == DISCONNECT:
            notice = read_disconnect(data, begin, end, connection.v5, connection.expiry_s)
            self._wire.end(connection, "disconnect", clean=notice.clean, expiry_s=notice.expiry_s)
        # A PUBACK is for a command, of which this version sends none.

    def _connect(
        self, connection: Connection, data: bytes, begin: int, end: int, burst: ListenerBurst
    ) -> None:
        if connection.number != NOBODY:
            raise BadPacket("a second CONNECT", reason="second-connect", code=PROTOCOL_ERROR)
        request = read_connect(data, begin, end)
        connection.v5 = request.v5
        connection.client = request.client
        older = self.by_client.get(request.client) if request.client else None
        admitted = self._admission.admit(request, len(self.by_number) - (older is not None))
        if older is not None:
            self._wire.end(older, "taken-over", code=TAKEN_OVER)
        connection.number = next(self._numbers)
        connection.client, connection.assigned = admitted
        connection.expiry_s = request.expiry_s
        connection.keep_alive_s = request.keep_alive_s
        self.by_number[connection.number] = connection
        self.by_client[connection.client] = connection
        event = Connect(
            connection.number, connection.client, request.user or "", request.clean, request.expiry_s
        )
        burst.events.append((len(burst.topics), event))
        burst.replies.append((len(burst.topics), connection, None))

    def _subscribe(
        self, connection: Connection, data: bytes, begin: int, end: int, burst: ListenerBurst
    ) -> None:
        request = read_subscribe(data, begin, end, connection.v5)
        codes = [FILTER_WITH_ID if request.with_id else _code(topic, qos) for topic, qos in request.filters]
        granted = [(topic, code) for (topic, _), code in zip(request.filters, codes, strict=True) if code < 2]
        reply = suback(connection.v5, request.packet_id, codes)
        if granted:
            burst.events.append((len(burst.topics), Subscribe(connection.number, granted)))
            burst.replies.append((len(burst.topics), connection, reply))
        else:
            self._answer_now(connection, reply)

    def _unsubscribe(
        self, connection: Connection, data: bytes, begin: int, end: int, burst: ListenerBurst
    ) -> None:
        request = read_unsubscribe(data, begin, end, connection.v5)
        ours = [bool(_COMMANDS.fullmatch(topic)) for topic in request.filters]
        codes = [_GRANTED if was else _NO_SUBSCRIPTION for was in ours]
        reply = unsuback(connection.v5, request.packet_id, codes)
        given_up = [topic for topic, was in zip(request.filters, ours, strict=True) if was]
        if given_up:
            burst.events.append((len(burst.topics), Unsubscribe(connection.number, given_up)))
            burst.replies.append((len(burst.topics), connection, reply))
        else:
            self._answer_now(connection, reply)

    def _answer_now(self, connection: Connection, reply: bytes) -> None:
        """Answer what changes nothing that is kept, and so waits for no commit; but the CONNACK comes first."""
        if connection.connacked:
            self._wire.send(connection, reply)
        elif len(connection.after_connack) > UNSENT:
            self._wire.end(connection, "does-not-read")
        else:
            connection.after_connack += reply


def _code(topic: str, qos: int) -> int:
    """Only commands for one device can be subscribed to: we are an endpoint for publishers, not a broker."""
    if _COMMANDS.fullmatch(topic):
        return min(qos, 1)
    if topic.startswith("$share/"):
        return FILTER_SHARED
    return FILTER_WILDCARD if "+" in topic or "#" in topic else FILTER_REFUSED


def _must_be_connect(data: bytes) -> None:
    """Before CONNECT comes nothing; what often comes instead is named."""
    if data[0] == CONNECT << 4:
        return
    hint = "the first packet of a client is CONNECT"
    if data[:2] == b"\x16\x03":
        hint = "the device speaks TLS; this port does not: switch TLS off in the device"
    elif data[:4] in {b"GET ", b"POST", b"HEAD"}:
        hint = "the device speaks HTTP; this port speaks MQTT"
    raise BadPacket(f"a first packet that begins with {data[:8]!r}", reason="no-connect", hint=hint)
