"""The property blocks of MQTT 5 that a client may send, and those that a broker may send it: which, where, and how each is written (its section 2.2.2.2)."""

from __future__ import annotations

from typing import Any

from headwater_edge.protocol import PROTOCOL_ERROR, BadPacket, Fields

PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION = 0x01, 0x02, 0x03, 0x08, 0x09
SUBSCRIPTION_ID, SESSION_EXPIRY, AUTH_METHOD, AUTH_DATA = 0x0B, 0x11, 0x15, 0x16
PROBLEM_INFO, WILL_DELAY, RESPONSE_INFO, REASON, RECEIVE_MAXIMUM = 0x17, 0x18, 0x19, 0x1F, 0x21
ALIAS_MAXIMUM, ALIAS, USER, PACKET_MAXIMUM = 0x22, 0x23, 0x26, 0x27
ASSIGNED_ID, SERVER_KEEP_ALIVE, RESPONSE_INFORMATION, SERVER_REFERENCE = 0x12, 0x13, 0x1A, 0x1C
QOS_MAXIMUM, RETAIN_AVAILABLE, WILDCARDS, SUBSCRIPTION_IDS, SHARED = 0x24, 0x25, 0x28, 0x29, 0x2A

OF_CONNECT = frozenset(
    {SESSION_EXPIRY, AUTH_METHOD, AUTH_DATA, PROBLEM_INFO, RESPONSE_INFO}
    | {RECEIVE_MAXIMUM, ALIAS_MAXIMUM, USER, PACKET_MAXIMUM}
)
OF_WILL = frozenset(
    {PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, WILL_DELAY, USER}
)
OF_PUBLISH = frozenset(
    {PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, ALIAS, USER}
)
OF_SUBSCRIBE = frozenset({SUBSCRIPTION_ID, USER})
OF_UNSUBSCRIBE = frozenset({USER})
OF_PUBREL = frozenset({REASON, USER})
OF_DISCONNECT = frozenset({SESSION_EXPIRY, REASON, USER})
OF_CONNACK = frozenset(
    {
        SESSION_EXPIRY,
        RECEIVE_MAXIMUM,
        QOS_MAXIMUM,
        RETAIN_AVAILABLE,
        PACKET_MAXIMUM,
        ASSIGNED_ID,
        ALIAS_MAXIMUM,
    }
    | {REASON, USER, WILDCARDS, SUBSCRIPTION_IDS, SHARED, SERVER_KEEP_ALIVE, RESPONSE_INFORMATION}
    | {SERVER_REFERENCE, AUTH_METHOD, AUTH_DATA}
)
OF_SUBACK = frozenset({REASON, USER})
OF_BROKERS_DISCONNECT = frozenset({REASON, USER, SERVER_REFERENCE})

_WIDTHS = {
    PAYLOAD_FORMAT: 1,
    MESSAGE_EXPIRY: 4,
    SESSION_EXPIRY: 4,
    PROBLEM_INFO: 1,
    WILL_DELAY: 4,
    RESPONSE_INFO: 1,
    RECEIVE_MAXIMUM: 2,
    ALIAS_MAXIMUM: 2,
    ALIAS: 2,
    PACKET_MAXIMUM: 4,
    SERVER_KEEP_ALIVE: 2,
    QOS_MAXIMUM: 1,
    RETAIN_AVAILABLE: 1,
    WILDCARDS: 1,
    SUBSCRIPTION_IDS: 1,
    SHARED: 1,
}
_TEXTS = {
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    AUTH_METHOD,
    REASON,
    ASSIGNED_ID,
    RESPONSE_INFORMATION,
    SERVER_REFERENCE,
}
_FLAGS = {
    PAYLOAD_FORMAT,
    PROBLEM_INFO,
    RESPONSE_INFO,
    QOS_MAXIMUM,
    RETAIN_AVAILABLE,
    WILDCARDS,
    SUBSCRIPTION_IDS,
    SHARED,
}
_NOT_ZERO = {RECEIVE_MAXIMUM, PACKET_MAXIMUM, SUBSCRIPTION_ID}


def read_properties(fields: Fields, allowed: frozenset[int]) -> dict[int, Any]:
    """Take a property block; user properties are checked and left out.

    Raises:
        BadPacket: a property that does not belong there, that comes twice, or that is not what its type says.
    """
    length = fields.varint()
    begin = fields.take(length)
    block = Fields(fields.packet, fields.data, begin, fields.at)
    found: dict[int, Any] = {}
    while block.left():
        name = block.varint()
        if name not in allowed:
            raise BadPacket(f"{fields.packet} with the property 0x{name:02x}", reason="property")
        value = _value(block, name)
        if name == USER:
            continue
        if name in found:
            raise _error(fields, name, "comes twice")
        if (name in _FLAGS and value > 1) or (name in _NOT_ZERO and not value):
            raise _error(fields, name, f"is {value}")
        found[name] = value
    return found


def _error(fields: Fields, name: int, what: str) -> BadPacket:
    message = f"{fields.packet}: the property 0x{name:02x} {what}"
    return BadPacket(message, reason="property", code=PROTOCOL_ERROR)


def _value(block: Fields, name: int) -> Any:
    if width := _WIDTHS.get(name):
        return block.number(width)
    if name in _TEXTS:
        return block.text()
    if name == SUBSCRIPTION_ID:
        return block.varint()
    if name == USER:
        block.text()
        return block.text()
    return block.binary()
