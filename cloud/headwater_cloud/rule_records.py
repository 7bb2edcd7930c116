"""The records `rules-1` and `evidence-1` of `hw-in`: the rules that a shard goes by, and evidence that another shard found."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

import msgspec

from headwater_cloud.book import Book
from headwater_cloud.evidence import Evidence
from headwater_cloud.outputs import SOURCE
from headwater_shared import avro, records
from headwater_shared.bus import Record, Stored
from headwater_shared.identity import SHARDS, shard_of, stable_id
from headwater_shared.topics import IN

RULES, EVIDENCE = "rules", "evidence"
"""Kinds of record: the end of `ce_type`."""
RULES_SCHEMA, EVIDENCE_SCHEMA = "rules-1", "evidence-1"

LARGEST = 200_000
"""Bytes of a book as its record holds it: it is one piece of state (R24)."""
_UNPACKED = 64 << 20


class Noted(NamedTuple):
    """Evidence for a key of this shard, from another one."""

    key: str
    evidence: Evidence
    gone: bool
    """It is no more."""


def agent_key(agent: str) -> str:
    """Return what evidence of an agent is kept by."""
    return f"agent:{agent}"


def home_of(key: str) -> int:
    """Return the shard that decides on a site, a cohort or an agent."""
    return crc32(key.encode()) % SHARDS if key.startswith(("+", "agent:")) else shard_of(key)


_ENCODED: list[tuple[Book, bytes]] = []


def packed(book: Book) -> bytes:
    """Return rules as they lie in the body of a record."""
    return zlib.compress(msgspec.json.encode(book, order="deterministic"), 9)


def encoded(book: Book) -> bytes:
    """Encode rules as the body of a record; the same are the same bytes. Shards that go by one book ask for it one after the other."""
    for known, body in _ENCODED:
        if known is book:
            return body
    body = avro.encode(RULES_SCHEMA, {"time_us": book.time_us, "book": packed(book)})
    _ENCODED.insert(0, (book, body))
    del _ENCODED[4:]
    return body


def cut(some: Sequence[Stored]) -> list[list[Stored]]:
    """Cut what was read of one partition so that rules stand first only: what lies before them goes by those before."""
    out: list[list[Stored]] = []
    for stored in some:
        if not out or records.kind_of(stored.headers) == RULES:
            out.append([])
        out[-1].append(stored)
    return out


def up_to_rules(batch: Sequence[Stored]) -> list[Stored]:
    """Leave out, of each partition, new rules that do not stand first, and what follows: for the next batch."""
    out: list[Stored] = []
    begun, over = set[int](), set[int]()
    for stored in batch:
        at = stored.partition
        if at in begun and records.kind_of(stored.headers) == RULES:
            over.add(at)
        if at not in over:
            out.append(stored)
            begun.add(at)
    return out


@lru_cache(8)
def book_of(body: bytes) -> Book:
    """Decode the body of a record; the same bytes give the same object.

    Raises:
        ValueError: it is none, or of a version that is not known here.
    """
    _, datum = avro.decode((RULES_SCHEMA,), body)
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(datum["book"], _UNPACKED)
        if unpacking.unconsumed_tail or not unpacking.eof:
            raise ValueError("a damaged rules-1 record: its book is cut off, or too large")
        book = msgspec.json.decode(text, type=Book)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(f"a damaged rules-1 record: {error}") from error
    if book.time_us != datum["time_us"]:
        raise ValueError("a damaged rules-1 record: two times")
    return book


def rules_record(book: Book, shard: int) -> Record:
    """For `hw-in`."""
    body = encoded(book)
    headers = records.headers(RULES, stable_id(RULES, shard, body.hex()), SOURCE, book.time_us)
    return Record(IN.name, shard, RULES, headers, body)


def encoded_evidence(noted: Noted) -> bytes:
    """Encode evidence for another shard as the body of a record."""
    datum = {"key": noted.key, "gone": noted.gone, **msgspec.structs.asdict(noted.evidence)}
    return avro.encode(EVIDENCE_SCHEMA, datum)


def evidence_record(noted: Noted, time_us: int) -> Record:
    """For `hw-in`: to the shard that decides on the key."""
    body = encoded_evidence(noted)
    name = stable_id(EVIDENCE, body.hex(), time_us)
    return Record(
        IN.name, home_of(noted.key), noted.key, records.headers(EVIDENCE, name, SOURCE, time_us), body
    )


def noted_of(body: bytes) -> Noted:
    """Decode the body of a record.

    Raises:
        ValueError: it is none, or of a version that is not known here.
    """
    _, datum = avro.decode((EVIDENCE_SCHEMA,), body)
    key, gone = datum.pop("key"), datum.pop("gone")
    return Noted(key, Evidence(**datum), gone)
