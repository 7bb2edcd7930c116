"""Writes what the listener answers, besides PUBACKs: MQTT 5 through the codec `mqtt5`, 3.1.1 by hand."""

from __future__ import annotations

from collections.abc import Sequence

import mqtt5

from headwater_edge.protocol import (
    BAD_AUTHENTICATION_METHOD,
    CLIENT_ID_INVALID,
    CONNACK,
    NOT_AUTHORIZED,
    QUOTA_EXCEEDED,
    SERVER_UNAVAILABLE,
    SUBACK,
    UNSUBACK,
    UNSUPPORTED_VERSION,
)

PINGRESP = b"\xd0\x00"

_CONNACK_311 = {
    UNSUPPORTED_VERSION: 1,
    CLIENT_ID_INVALID: 2,
    SERVER_UNAVAILABLE: 3,
    QUOTA_EXCEEDED: 3,
    NOT_AUTHORIZED: 5,
    BAD_AUTHENTICATION_METHOD: 5,
}
"""Reason code of MQTT 5: return code of 3.1.1."""
_FAILURE_311 = 0x80
_WHY = 200
"""Characters of a reason string at most."""


def connack(
    v5: bool, session_present: bool, *, assigned: str, receive_maximum: int, max_packet: int
) -> bytes:
    """Let a client in, and tell an MQTT 5 client what we take: no alias, no QoS 2, no shared or wildcard filters.

    `assigned` is the client id that we gave it, "" if it brought its own; `max_packet` is in bytes.
    """
    if not v5:
        return bytes((CONNACK << 4, 2, session_present, 0))
    packet = mqtt5.ConnAckPacket(
        session_present=session_present,
        assigned_client_id=assigned or None,
        receive_max=receive_maximum,
        max_packet_size=max_packet,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE,
        topic_alias_max=0,
        wildcard_subscription_available=False,
        subscription_id_available=False,
        shared_subscription_available=False,
    )
    return packet.write()


def connack_refused(v5: bool, code: int, why: str) -> bytes:
    """Turn a client away; `code` is a reason code of MQTT 5, `why` a sentence for whoever debugs the device."""
    if not v5:
        return bytes((CONNACK << 4, 2, 0, _CONNACK_311.get(code, 5)))
    return mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode(code), reason_str=why[:_WHY]).write()


def disconnect(code: int, why: str) -> bytes:
    """End the connection of an MQTT 5 client; 3.1.1 has no such packet from a server."""
    return mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode(code), reason_str=why[:_WHY]).write()


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
    length = 2 + len(rest)
    encoded = bytearray((kind << 4,))
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + packet_id.to_bytes(2, "big") + rest
