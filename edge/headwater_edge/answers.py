"""Writes what the listener answers, besides PUBACKs: MQTT 5 through the codec `mqtt5`, 3.1.1 by hand.

No packet is longer than the client takes (MQTT 5's Maximum Packet Size): first its sentence for people is left out, and
what is too long even so is not sent (b"").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import mqtt5

from headwater_edge.properties import MESSAGE_EXPIRY
from headwater_edge.protocol import (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_ID_INVALID,
    CONNACK,
    CONNECTION_RATE,
    NOT_AUTHORIZED,
    PUBCOMP,
    PUBLISH,
    QUOTA_EXCEEDED,
    SERVER_UNAVAILABLE,
    SUBACK,
    UNKNOWN_ID,
    UNSUBACK,
    UNSUPPORTED_VERSION,
    as_packet,
)

PINGRESP = b"\xd0\x00"

_PUBCOMP = bytes((PUBCOMP << 4, 2))
_PUBCOMP_UNKNOWN = bytes((PUBCOMP << 4, 3)) + b"%b" + bytes((UNKNOWN_ID,))

_CONNACK_311 = {
    UNSUPPORTED_VERSION: 1,
    CLIENT_ID_INVALID: 2,
    SERVER_UNAVAILABLE: 3,
    QUOTA_EXCEEDED: 3,
    CONNECTION_RATE: 3,
    NOT_AUTHORIZED: 5,
    BAD_AUTHENTICATION_METHOD: 5,
}
"""Reason code of MQTT 5: return code of 3.1.1."""
_FAILURE_311 = 0x80
_WHY = 200
"""Characters of a reason string at most."""

LEAST_PACKET = 64
"""Bytes: the longest CONNACK that lets a client in; who takes less cannot be told what it must know."""


def connack(
    v5: bool,
    session_present: bool,
    *,
    assigned: str,
    receive_maximum: int,
    max_packet: int,
    max_aliases: int,
    keep_alive_s: int,
) -> bytes:
    """Let a client in, and tell an MQTT 5 client what we take: no shared filters, no subscription identifiers.

    Args:
        assigned: the client id that we gave it, "" if it brought its own.
        max_packet: bytes.
        max_aliases: topic aliases that it may use.
        keep_alive_s: what it must keep to instead of what it asked for, 0 if that is right.
    """
    if not v5:
        return bytes((CONNACK << 4, 2, session_present, 0))
    packet = mqtt5.ConnAckPacket(
        session_present=session_present,
        assigned_client_id=assigned or None,
        receive_max=receive_maximum,
        max_packet_size=max_packet,
        topic_alias_max=max_aliases,
        server_keep_alive=keep_alive_s or None,
        subscription_id_available=False,
        shared_subscription_available=False,
    )
    return packet.write()


def connack_refused(v5: bool, code: int, why: str, limit: int = 0) -> bytes:
    """Turn a client away.

    Args:
        code: a reason code of MQTT 5.
        why: a sentence for whoever debugs the device.
        limit: bytes of the longest packet that it takes, 0 for any.
    """
    if not v5:
        return bytes((CONNACK << 4, 2, 0, _CONNACK_311.get(code, 5)))
    reason = mqtt5.ConnAckReasonCode(code)
    return _fitting(
        limit,
        mqtt5.ConnAckPacket(reason_code=reason, reason_str=why[:_WHY]),
        mqtt5.ConnAckPacket(reason_code=reason),
    )


def disconnect(code: int, why: str, limit: int = 0) -> bytes:
    """End the connection of an MQTT 5 client; 3.1.1 has no such packet from a server. Arguments as above."""
    reason = mqtt5.DisconnectReasonCode(code)
    return _fitting(
        limit,
        mqtt5.DisconnectPacket(reason_code=reason, reason_str=why[:_WHY]),
        mqtt5.DisconnectPacket(reason_code=reason),
    )


def _fitting(limit: int, *packets: mqtt5.ConnAckPacket | mqtt5.DisconnectPacket) -> bytes:
    written: bytes = b""
    for packet in packets:
        written = packet.write()
        if fits(written, limit):
            return written
    return b""


def fits(packet: bytes, limit: int) -> bool:
    """Whether a client takes a packet; `limit` is its own, 0 for none."""
    return not limit or len(packet) <= limit


def pubcomps(v5: bool, packet_ids: Sequence[int], unknown: Collection[int]) -> bytes:
    """PUBCOMPs in this order; in MQTT 5 one of an unknown id says so."""
    if not v5 or not unknown:
        return b"".join([_PUBCOMP + packet_id.to_bytes(2, "big") for packet_id in packet_ids])
    return b"".join(
        [
            _PUBCOMP_UNKNOWN % packet_id.to_bytes(2, "big")
            if packet_id in unknown
            else _PUBCOMP + packet_id.to_bytes(2, "big")
            for packet_id in packet_ids
        ]
    )


def publish(v5: bool, topic: bytes, payload: bytes, packet_id: int = 0, expiry_s: int = 0) -> bytes:
    """Send a message, at QoS 1 if it has a packet id; in MQTT 5 with the seconds for which it is worth anything, if there are."""
    head = len(topic).to_bytes(2, "big") + topic
    if packet_id:
        head += packet_id.to_bytes(2, "big")
    if v5:
        head += (
            bytes((5, MESSAGE_EXPIRY)) + min(expiry_s, 2**32 - 1).to_bytes(4, "big") if expiry_s else b"\0"
        )
    return as_packet(PUBLISH << 4 | (2 if packet_id else 0), head + payload)


def suback(v5: bool, packet_id: int, codes: Sequence[int]) -> bytes:
    """Answer a SUBSCRIBE, filter by filter: the QoS that was granted, or a reason code of MQTT 5 from 0x80 on."""
    if not v5:
        return _answer(SUBACK, packet_id, bytes(min(code, _FAILURE_311) for code in codes))
    return mqtt5.SubAckPacket(packet_id, [mqtt5.SubAckReasonCode(code) for code in codes]).write()


def unsuback(v5: bool, packet_id: int, codes: Sequence[int]) -> bytes:
    """Answer an UNSUBSCRIBE, filter by filter (3.1.1 has no codes there)."""
    if not v5:
        return _answer(UNSUBACK, packet_id, b"")
    return mqtt5.UnsubAckPacket(packet_id, [mqtt5.UnsubAckReasonCode(code) for code in codes]).write()


def _answer(kind: int, packet_id: int, rest: bytes) -> bytes:
    return as_packet(kind << 4, packet_id.to_bytes(2, "big") + rest)
