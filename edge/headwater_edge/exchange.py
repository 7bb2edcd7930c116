"""What a connection's bytes mean: lets clients in, takes their PUBLISHes, answers their control packets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from headwater_edge.admission import Admission, NotAdmitted, only_granted
from headwater_edge.answers import LEAST_PACKET, PINGRESP, fits, suback, unsuback
from headwater_edge.connection import NOBODY, UNSENT, Connection, ListenerBurst
from headwater_edge.control import (
    read_connect,
    read_disconnect,
    read_puback,
    read_pubrel,
    read_subscribe,
    read_unsubscribe,
)
from headwater_edge.events import Connect, Release, Subscribe, Unsubscribe
from headwater_edge.listener_settings import Limits
from headwater_edge.protocol import (
    CONNECT,
    DISCONNECT,
    FILTER_TOO_MANY,
    FILTER_WITH_ID,
    OVER_RECEIVE_MAXIMUM,
    PINGREQ,
    PROTOCOL_ERROR,
    PUBACK,
    PUBREL,
    RATE,
    SUBSCRIBE,
    TAKEN_OVER,
    TOO_LARGE,
    UNSUBSCRIBE,
    BadPacket,
    body,
)
from headwater_edge.publishes import Known, cut, pubrels
from headwater_edge.subscriptions import code_of, is_granted
from headwater_shared.crash import reached

_FLAGS = {CONNECT: 0, SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0, PUBACK: 0, PUBREL: 2}
"""The control packets that a client may send, and the lower half of their first byte."""
_LONGEST_CONNECT = 16_384
"""Bytes; before anyone has said who they are, memory is not theirs to take."""
_PUBREL = PUBREL << 4 | 2
MOST_ALIASES = 32
"""Topic aliases that a connection may use; each costs the memory of a topic at most."""
_MOST_FILTERS = 1_000
"""Filters that may be granted on one connection: they are in the journal and in every snapshot."""
_MOST_RELEASING = 65_535
"""PUBRELs that may wait for the commit: there are no more packet ids."""
_TALK = {SUBSCRIBE, UNSUBSCRIBE, PINGREQ, PUBACK}
_MOST_TALK = 100
"""Packets of these that one pass takes from a connection: each is answered by itself, or goes into the journal."""
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

    def __init__(self, wire: Wire, admission: Admission, limits: Limits, numbers: Iterator[int]) -> None:
        self._wire = wire
        self._admission = admission
        self._limits = limits
        self._far_too_many = 2 * limits.in_flight
        self.known = Known(limits.max_packet, MOST_ALIASES)
        self._numbers = numbers
        self.by_number: dict[int, Connection] = {}
        self.by_client: dict[str, Connection] = {}

    def take(self, connection: Connection, data: bytes, burst: ListenerBurst) -> None:
        """Take all whole packets at the front of `data` into the burst; the rest stays with the connection.

        Raises:
            BadPacket: the connection must end; what came before stands in the burst.
            NotAdmitted: the client must be turned away.
            Undecided: it is not known yet; `data` is to be taken again.
        """
        at, size, known = 0, len(data), self.known
        while at < size:
            if connection.number:
                begin, twice = len(burst.topics), known.at_qos_2
                try:
                    at = cut(
                        data, at, connection.v5, known,
                        burst.topics, burst.payloads, burst.packet_ids, burst.flags, connection.aliases,
                    )  # fmt: skip
                finally:  # what stands before a malformed packet, too
                    if connection.grant is not None:
                        only_granted(connection.grant, burst, begin)
                if connection.v5 and (
                    known.at_qos_2 > twice or len(burst.topics) - begin > self._far_too_many
                ):
                    self._check_in_flight(connection, burst.packet_ids[begin:], known.at_qos_2 - twice)
                if at == size:
                    break
                if data[at] == _PUBREL:
                    packet_ids, at_next = pubrels(data, at)
                    if packet_ids:
                        self._release(connection, packet_ids, burst)
                        at = at_next
                        continue
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
        if kind in _TALK:
            connection.talk += 1
            if connection.talk > _MOST_TALK:
                message = f"more than {_MOST_TALK} packets at once that bring no message"
                raise BadPacket(message, reason="talk", code=RATE)
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
        elif kind == PUBREL:
            packet_id = read_pubrel(data, begin, end, connection.v5)
            self._release(connection, [packet_id], burst)
        elif kind == DISCONNECT:
            notice = read_disconnect(data, begin, end, connection.v5, connection.expiry_s)
            self._wire.end(connection, "disconnect", clean=notice.clean, expiry_s=notice.expiry_s)
        elif kind == PUBACK:  # for a command; that it was done is another thing, which the device says itself
            connection.outgoing.answered(read_puback(data, begin, end))
            reached("command.received")

    def _connect(
        self, connection: Connection, data: bytes, begin: int, end: int, burst: ListenerBurst
    ) -> None:
        if connection.number != NOBODY:
            raise BadPacket("a second CONNECT", reason="second-connect", code=PROTOCOL_ERROR)
        request = read_connect(data, begin, end)
        connection.v5 = request.v5
        connection.client = request.client
        connection.packet_maximum = request.packet_maximum
        connection.outgoing.allow(request.receive_maximum)
        if not fits(bytes(LEAST_PACKET), request.packet_maximum):
            message = f"it takes no packet of more than {request.packet_maximum} bytes"
            raise NotAdmitted(message, reason="packet-maximum", code=TOO_LARGE)
        admitted = self._admission.admit(request, connection)
        older = self.by_client.get(admitted.client)
        self._admission.room(len(self.by_number) - (older is not None))
        if older is not None:
            self._wire.end(older, "taken-over", code=TAKEN_OVER)
        connection.number = next(self._numbers)
        connection.client, connection.assigned, connection.grant = admitted
        connection.expiry_s = request.expiry_s
        connection.keep_alive_s = request.keep_alive_s
        self._shorten_keep_alive(connection)
        self.by_number[connection.number] = connection
        self.by_client[connection.client] = connection
        event = Connect(
            connection.number,
            connection.client,
            connection.user or request.user or "",
            request.clean,
            request.expiry_s,
            connection.keep_alive_s,
            request.will,
        )
        burst.events.append((len(burst.topics), event))
        burst.replies.append((len(burst.topics), connection, None))

    def _shorten_keep_alive(self, connection: Connection) -> None:
        """Tell an MQTT 5 client to keep alive more often, if it must (3.2.2.3.14); 3.1.1 has no way to."""
        most = self._limits.max_keep_alive_s
        if connection.v5 and most and not 0 < connection.keep_alive_s <= most:
            connection.keep_alive_s = connection.server_keep_alive_s = most

    def _check_in_flight(self, connection: Connection, packet_ids: list[int], twice: int) -> None:
        """End a client that sends far more than our Receive Maximum; a little more is held back like a 3.1.1 client's."""
        connection.unreleased += twice
        in_flight = len(packet_ids) - packet_ids.count(0)
        if max(connection.unreleased, in_flight) > self._far_too_many:
            raise BadPacket(
                f"more than twice as many messages in flight as our Receive Maximum, {self._limits.in_flight}, allows",
                reason="receive-maximum",
                code=OVER_RECEIVE_MAXIMUM,
                hint="raise edge.listener.in_flight",
            )

    def _release(self, connection: Connection, packet_ids: list[int], burst: ListenerBurst) -> None:
        """Take PUBRELs: an event, and PUBCOMPs that wait for its commit; in a row they are one."""
        connection.unreleased = max(0, connection.unreleased - len(packet_ids))
        connection.releasing += len(packet_ids)
        if connection.releasing > _MOST_RELEASING:
            message = "more PUBRELs than there are packet ids"
            raise BadPacket(message, reason="receive-maximum", code=OVER_RECEIVE_MAXIMUM)
        before = len(burst.topics)
        if burst.events:
            at, last = burst.events[-1]
            if at == before and isinstance(last, Release) and last.connection == connection.number:
                last.packet_ids.extend(packet_ids)  # the reply's too: it is the same list
                return
        burst.events.append((before, Release(connection.number, packet_ids)))
        burst.replies.append((before, connection, packet_ids))

    def _subscribe(
        self, connection: Connection, data: bytes, begin: int, end: int, burst: ListenerBurst
    ) -> None:
        request = read_subscribe(data, begin, end, connection.v5)
        if request.with_id:
            codes = [FILTER_WITH_ID] * len(request.filters)
        elif connection.subscribed + len(request.filters) > _MOST_FILTERS:
            codes = [FILTER_TOO_MANY] * len(request.filters)
        else:
            codes = [code_of(topic, qos, connection.grant) for topic, qos in request.filters]
        granted = [(topic, code) for (topic, _), code in zip(request.filters, codes, strict=True) if code < 2]
        connection.subscribed += len(granted)
        reply = _if_it_fits(connection, suback(connection.v5, request.packet_id, codes))
        if granted:
            burst.events.append((len(burst.topics), Subscribe(connection.number, granted)))
            burst.replies.append((len(burst.topics), connection, reply))
        else:
            self._answer_now(connection, reply)

    def _unsubscribe(
        self, connection: Connection, data: bytes, begin: int, end: int, burst: ListenerBurst
    ) -> None:
        request = read_unsubscribe(data, begin, end, connection.v5)
        ours = [is_granted(topic, connection.grant) for topic in request.filters]
        codes = [_GRANTED if was else _NO_SUBSCRIPTION for was in ours]
        reply = _if_it_fits(connection, unsuback(connection.v5, request.packet_id, codes))
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


def _if_it_fits(connection: Connection, packet: bytes) -> bytes:
    """Return the packet, or nothing if it is longer than the client takes (MQTT 5, 3.1.2.11.4)."""
    return packet if fits(packet, connection.packet_maximum) else b""


def _must_be_connect(data: bytes) -> None:
    """Before CONNECT comes nothing; what often comes instead is named."""
    if data[0] == CONNECT << 4:
        return
    hint = "the first packet of a client is CONNECT"
    if data[:2] == b"\x16\x03":
        hint = (
            "the device speaks TLS; this port does not: let it use the port for TLS, or switch TLS off in it"
        )
    elif data[:4] in {b"GET ", b"POST", b"HEAD"}:
        hint = "the device speaks HTTP; this port speaks MQTT"
    raise BadPacket(f"a first packet that begins with {data[:8]!r}", reason="no-connect", hint=hint)
