"""The records `rules-1` and `evidence-1`: what they say comes back, the frozen files still read, damage is refused."""

from __future__ import annotations

import contextlib

import msgspec
import pytest

from headwater_cloud import rule_records
from headwater_cloud.book import Book
from headwater_cloud.rule_records import home_of
from headwater_shared.identity import SHARDS, shard_of
from headwater_shared.records import headers
from headwater_shared.topics import DEAD_LETTERS, IN
from tests.cloud.made import SHARD, T0
from tests.cloud.side import Side
from tests.fixtures import FIXTURES
from tests.fixtures.contents import BOOKS, NOTED


@pytest.mark.parametrize("name", BOOKS)
def test_frozen_rules_still_read(name: str) -> None:
    """What a released version wrote, and what this one writes: how it is packed may differ."""
    assert rule_records.book_of((FIXTURES / name).read_bytes()) == BOOKS[name]
    assert rule_records.book_of(rule_records.encoded(BOOKS[name])) == BOOKS[name]
    assert rule_records.book_of(rule_records.encoded(Book())) == Book()


@pytest.mark.parametrize("name", NOTED)
def test_frozen_evidence_still_reads(name: str) -> None:
    """To the bit."""
    body = (FIXTURES / name).read_bytes()
    assert rule_records.noted_of(body) == NOTED[name]
    assert rule_records.encoded_evidence(NOTED[name]) == body


@pytest.mark.parametrize("name", [*BOOKS, *NOTED])
def test_damage_is_refused_or_says_something_else(name: str) -> None:
    """No other error than ValueError, wherever a byte is wrong or the end is missing."""
    body = (FIXTURES / name).read_bytes()
    decode = rule_records.book_of if name in BOOKS else rule_records.noted_of
    for at in range(len(body)):
        for damaged in (body[:at], body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :]):
            with contextlib.suppress(ValueError):
                decode(damaged)


def test_what_cannot_be_read_is_a_dead_letter_and_the_rules_stay(tmp_path: object) -> None:
    """Damaged rules, evidence in a shard that does not decide: with their bytes, and the next batch goes on."""
    side = Side(tmp_path)  # type: ignore[arg-type]
    good = rule_records.rules_record(Book(time_us=T0), SHARD)
    side.take(good)
    away = rule_records.evidence_record(NOTED["evidence-1.avro"], T0)
    other = (away.partition + 1) % SHARDS
    side.take(
        msgspec.structs.replace(good, body=good.body[:-3]),
        msgspec.structs.replace(away, partition=other),
        msgspec.structs.replace(
            good, headers=headers("rules", "x", "cloud", T0), body=b"\xc3\x01" + bytes(20)
        ),
    )
    reasons = [one.headers["reason"] for one in side.topic(DEAD_LETTERS)]
    assert sorted(reasons) == ["damaged", "unknown-version", "wrong-shard"]
    assert side.runner._shards[SHARD].book == Book(time_us=T0)
    assert len(side.topic(IN)) == 4


def test_sites_are_at_home_where_their_devices_are() -> None:
    """A site's key in its own shard; cohorts and agents anywhere, for ever in the same."""
    assert home_of("plant") == shard_of("plant")
    assert (home_of("+P100"), home_of("agent:box-1")) == (18, 9)
