"""Avro by its specification in plain Python: what fingerprints and encoded values must be, without any library."""

from __future__ import annotations

import struct
from typing import Any

_FIELDS = ("name", "type", "fields", "symbols", "items", "values", "size")
"""Of a schema's parsing canonical form, in this order; all others are left out."""


def canonical(schema: Any, namespace: str = "") -> str:
    """The parsing canonical form (Avro 1.11, "Transforming into Parsing Canonical Form")."""
    if isinstance(schema, str):
        primitive = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
        return f'"{schema if schema in primitive or "." in schema else namespace + "." + schema}"'
    if isinstance(schema, list):
        return "[" + ",".join(canonical(one, namespace) for one in schema) + "]"
    namespace = schema.get("namespace", namespace)
    out = []
    for key in _FIELDS:
        if key not in schema:
            continue
        value = schema[key]
        if key == "name":
            text = f'"{namespace}.{value}"'
        elif key == "type":
            text = f'"{value}"'
        elif key == "fields":
            text = "[" + ",".join(_field(field, namespace) for field in value) + "]"
        elif key == "symbols":
            text = "[" + ",".join(f'"{symbol}"' for symbol in value) + "]"
        elif key == "size":
            text = str(value)
        else:
            text = canonical(value, namespace)
        out.append(f'"{key}":{text}')
    return "{" + ",".join(out) + "}"


def _field(field: dict[str, Any], namespace: str) -> str:
    return f'{{"name":"{field["name"]}","type":{canonical(field["type"], namespace)}}}'


def crc64(data: bytes) -> bytes:
    """CRC-64-AVRO, little-endian as single-object encoding writes it."""
    empty = 0xC15D213AA4D7A795
    crc = empty
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (empty if crc & 1 else 0)
    return crc.to_bytes(8, "little")


def long(number: int) -> bytes:
    zigzag = number * 2 if number >= 0 else -number * 2 - 1
    out = b""
    while zigzag >= 128:
        out += bytes([zigzag % 128 + 128])
        zigzag //= 128
    return out + bytes([zigzag])


def string(text: str) -> bytes:
    return long(len(text.encode())) + text.encode()


def array(items: list[bytes]) -> bytes:
    return (long(len(items)) + b"".join(items) if items else b"") + long(0)


def int8(number: int) -> bytes:
    """A `fixed(8)` that holds a number modulo 2**64, little-endian."""
    return struct.pack("<Q", number % 2**64)


def double(number: float) -> bytes:
    return struct.pack("<d", number)
