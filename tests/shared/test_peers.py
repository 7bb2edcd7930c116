"""The records between the stages of a comparison: packed and by any Avro library they are the same; damage is refused."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared import avro, peers, records
from headwater_shared.avro import UnknownVersion
from headwater_shared.peers import Finding, Peers, PeersHead
from headwater_shared.records import ClockRecord
from tests.fixtures import FIXTURES
from tests.fixtures.contents import FINDINGS, PEERS, PEERS_1
from tests.shared import avro_plain

longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=12)
reals = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(-(2**60), 2**60)
lengths = st.integers(1, 2**60)


@st.composite
def all_peers(draw: Any) -> Peers:
    """Any that can be."""
    piece = draw(st.integers(0, 5))
    head = PeersHead(
        draw(texts), draw(texts), draw(texts), draw(texts), draw(times), draw(lengths), draw(longs), draw(longs), piece,
        draw(st.integers(piece + 1, 9)), draw(longs), draw(longs), draw(reals), draw(reals), draw(longs), draw(texts), draw(texts),
    )  # fmt: skip
    devices, agents = draw(st.lists(texts, max_size=6)), draw(st.lists(texts, min_size=1, max_size=3))
    n = len(devices)
    agent = np.array(draw(st.lists(st.integers(0, len(agents) - 1), min_size=n, max_size=n)), np.int64)
    count = np.array(draw(st.lists(longs, min_size=n, max_size=n)), np.int64)
    mean = np.array(draw(st.lists(reals, min_size=n, max_size=n)), np.float64)
    return Peers(head, devices, agents, agent, count, mean)


def datum_of(one: Peers) -> dict[str, Any]:
    """As Avro's own writers take it."""
    return msgspec.structs.asdict(one.head) | {
        "devices": one.devices,
        "agents": one.agents,
        "agent": [avro_plain.int8(number) for number in one.agent.tolist()],
        "count": [avro_plain.int8(number) for number in one.count.tolist()],
        "mean": one.mean.tolist(),
    }


def same(one: Peers, other: Peers) -> bool:
    return repr(datum_of(one)) == repr(datum_of(other))


@given(all_peers())
def test_what_is_packed_is_what_avro_reads_and_writes(one: Peers) -> None:
    """fastavro reads every packed record, and writes the very same bytes."""
    body = peers.encode(one)
    assert avro.decode((peers.PEERS_SCHEMA,), body)[1] == datum_of(one)
    assert avro.encode(peers.PEERS_SCHEMA, datum_of(one)) == body
    assert same(peers.decode(body), one)


@given(st.builds(Finding, texts, texts, texts, st.just("s/ü"), texts, texts, times, lengths, longs, texts, longs, st.booleans(), reals, reals, reals, reals, longs, texts, texts))  # fmt: skip
def test_a_finding_comes_back_as_it_was(one: Finding) -> None:
    """Every field over the whole of its type."""
    assert peers.decode_finding(peers.encode_finding(one)) == one


@pytest.mark.parametrize("name", [*PEERS, *FINDINGS])
def test_frozen_files_read(name: str) -> None:
    """They say what they said when they were made; today the very same bytes are written."""
    body = (FIXTURES / name).read_bytes()
    if name in PEERS:
        assert same(peers.decode(body), PEERS[name])
        assert peers.encode(PEERS[name]) == body
    else:
        assert peers.decode_finding(body) == FINDINGS[name]
        assert peers.encode_finding(FINDINGS[name]) == body


@pytest.mark.parametrize("name", [*PEERS, *FINDINGS])
def test_what_is_cut_short_or_damaged_is_refused_or_what_avro_reads(name: str) -> None:
    """At every byte, and with every bit flipped: a ValueError, or the record that the bytes say."""
    body = (FIXTURES / name).read_bytes()
    decode: Any = peers.decode if name in PEERS else peers.decode_finding
    for end in range(len(body)):
        with pytest.raises(ValueError, match=r"damaged|marker|unknown"):
            decode(body[:end])
    with pytest.raises(ValueError, match="1 bytes too many"):
        decode(body + b"\x00")
    chance = random.Random(3)
    for bit in range(8 * len(body)):
        damaged = bytearray(body)
        damaged[bit // 8] ^= 1 << bit % 8
        if chance.random() < 0.2:
            damaged[chance.randrange(10, len(body))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        try:
            found = decode(bytes(damaged))
        except ValueError:
            continue
        datum = avro.decode((peers.PEERS_SCHEMA, peers.FINDING_SCHEMA), bytes(damaged))[1]
        assert repr(datum) == repr(datum_of(found) if name in PEERS else msgspec.structs.asdict(found))


@pytest.mark.parametrize(
    "change",
    [
        {"piece": 2}, {"piece": -1}, {"length_us": 0}, {"length_us": -5}, {"devices": ["s1/d1"]}, {"devices": []},
        {"agents": []}, {"agent": [avro_plain.int8(number) for number in (0, 2, 0)]},
        {"agent": [avro_plain.int8(number) for number in (0, -1, 0)]}, {"mean": [1.0]}, {"count": []},
        {"mean": [1.0, math.nan, 1.0]}, {"mean": [1.0, math.inf, 1.0]}, {"away": math.nan}, {"least": math.inf}, {"start_us": 2**62},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    """Well-formed Avro that no shard writes: columns of another length, an index outside, a window without length, no numbers."""
    with pytest.raises(ValueError, match="a damaged"):
        peers.decode(avro.encode(peers.PEERS_SCHEMA, datum_of(PEERS_1) | change))


@pytest.mark.parametrize(
    "change",
    [{"value": math.nan}, {"away": math.inf}, {"start_us": 2**62}, {"length_us": -1}, {"device": "d1"}],
)
def test_a_finding_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    """Numbers that are none, times that no clock has, a device without a site."""
    finding = msgspec.structs.replace(FINDINGS["finding-1.avro"], **change)
    with pytest.raises(ValueError, match="a damaged"):
        peers.decode_finding(peers.encode_finding(finding))


def test_an_unknown_version_is_told_from_damage() -> None:
    """A record of another schema."""
    body = records.encode(ClockRecord(1, 2))
    for decode in (peers.decode, peers.decode_finding):
        with pytest.raises(UnknownVersion):
            decode(body)
