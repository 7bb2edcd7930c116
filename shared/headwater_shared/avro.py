"""Avro single-object encoding: the frozen schemas, their fingerprints, and fastavro for all but the packed frames."""

from __future__ import annotations

import json
import threading
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any

MARKER = b"\xc3\x01"
_IMPORTING = threading.Lock()


class UnknownVersion(ValueError):
    """A record under a schema that this version does not know: perhaps a newer one's."""


@cache
def schema_text(name: str) -> str:
    """Return the text of a frozen schema such as `frame-1`."""
    return (resources.files("headwater_shared") / "schemas" / f"{name}.avsc").read_text()


@cache
def _fastavro() -> Any:
    """Import fastavro: 5 MB that a process without low-rate records does not need.

    One thread at a time: its modules import each other, and Python gives a second thread such modules half made.
    """
    with _IMPORTING:
        import fastavro
        import fastavro.schema
    return fastavro


@cache
def _parsed(name: str) -> Any:
    return _fastavro().parse_schema(json.loads(schema_text(name)))


@cache
def fingerprint(name: str) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a schema's canonical form, as the eight bytes that follow the marker."""
    schema = _fastavro().schema
    text = schema.to_parsing_canonical_form(json.loads(schema_text(name)))
    return bytes.fromhex(schema.fingerprint(text, "CRC-64-AVRO"))


def encode(name: str, datum: dict[str, Any]) -> bytes:
    """Encode one record under the schema `name`, marker and fingerprint before it."""
    out = BytesIO(MARKER + fingerprint(name))
    out.seek(0, 2)
    _fastavro().schemaless_writer(out, _parsed(name), datum)
    return out.getvalue()


def decode(names: tuple[str, ...], body: bytes) -> tuple[str, dict[str, Any]]:
    """Decode a record that was written under one of the schemas `names`.

    Raises:
        ValueError: no marker, a fingerprint of none of them, or a damaged body.
    """
    name = written_as(names, body)
    stream = BytesIO(body)
    stream.seek(10)
    try:
        datum = _fastavro().schemaless_reader(stream, _parsed(name), None)
    except (EOFError, IndexError, UnicodeDecodeError, OverflowError, TypeError) as error:
        raise ValueError(f"a damaged {name} record: {error!r}") from error
    if stream.tell() != len(body):
        raise ValueError(f"a damaged {name} record: {len(body) - stream.tell()} bytes too many")
    return name, dict(datum)


def written_as(names: tuple[str, ...], body: bytes) -> str:
    """Return which of the schemas `names` a body was written under.

    Raises:
        UnknownVersion: none of them.
        ValueError: it is no Avro single object.
    """
    if body[:2] != MARKER:
        raise ValueError("no Avro single-object marker")
    for name in names:
        if body[2:10] == fingerprint(name):
            return name
    raise UnknownVersion(f"unknown schema fingerprint {body[2:10].hex()}, not one of {', '.join(names)}")
