"""Avro single-object encoding: the frozen schemas, their fingerprints, and fastavro for all but the packed frames."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any

MARKER = b"\xc3\x01"


class UnknownVersion(ValueError):
    """A record under a schema that this version does not know: perhaps a newer one's."""


@cache
def schema_text(name: str) -> str:
    """Return the text of a frozen schema such as `frame-1`."""
    return (resources.files("headwater_shared") / "schemas" / f"{name}.avsc").read_text()


@cache
def _parsed(name: str) -> Any:
    from fastavro import parse_schema  # 5 MB that a process without low-rate records does not need

    return parse_schema(json.loads(schema_text(name)))


@cache
def fingerprint(name: str) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a schema's canonical form, as the eight bytes that follow the marker."""
    from fastavro.schema import fingerprint as of_canonical
    from fastavro.schema import to_parsing_canonical_form

    text = to_parsing_canonical_form(json.loads(schema_text(name)))
    return bytes.fromhex(of_canonical(text, "CRC-64-AVRO"))


def encode(name: str, datum: dict[str, Any]) -> bytes:
    """Encode one record under the schema `name`, marker and fingerprint before it."""
    from fastavro import schemaless_writer

    out = BytesIO(MARKER + fingerprint(name))
    out.seek(0, 2)
    schemaless_writer(out, _parsed(name), datum)
    return out.getvalue()


def decode(names: tuple[str, ...], body: bytes) -> tuple[str, dict[str, Any]]:
    """Decode a record that was written under one of the schemas `names`.

    Raises:
        ValueError: no marker, a fingerprint of none of them, or a damaged body.
    """
    from fastavro import schemaless_reader

    name = written_as(names, body)
    stream = BytesIO(body)
    stream.seek(10)
    try:
        datum = schemaless_reader(stream, _parsed(name), None)
    except (EOFError, IndexError, UnicodeDecodeError, OverflowError, TypeError) as error:
        raise ValueError(f"a damaged {name} record: {error!r}") from error
    if stream.tell() != len(body):
        raise ValueError(f"a damaged {name} record: {len(body) - stream.tell()} bytes too many")
    return name, dict(datum)  # type: ignore[arg-type]  # a record is a mapping


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
