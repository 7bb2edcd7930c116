"""The records beside the frames: what is written comes back, old files read, damage is refused, headers are CloudEvents'."""

from __future__ import annotations

import random
import tracemalloc
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared import records
from headwater_shared.alert_records import Action, Alert
from headwater_shared.avro import UnknownVersion
from headwater_shared.identity import valid_name
from headwater_shared.records import (
    Anomaly,
    ClockRecord,
    Command,
    Device,
    Have,
    Heartbeat,
    Predecessor,
    RegistryChange,
    Score,
)
from tests.fixtures import FIXTURES
from tests.fixtures.contents import RECORDS

KINDS = (Anomaly, Command, Device, RegistryChange, Heartbeat, ClockRecord, Have, Alert, Action)

texts = st.text(max_size=20)
longs = st.integers(-(2**63), 2**63 - 1)
words = st.integers(0, 2**64 - 1)
reals = st.floats(allow_nan=False)
befores = st.one_of(st.none(), st.builds(Predecessor, words, longs))
OF_TYPE = {
    int: longs,
    str: texts,
    bool: st.booleans(),
    float: reals,
    list[int]: st.lists(longs, max_size=5),
    list[float]: st.lists(reals, max_size=5),
    int | None: st.one_of(st.none(), longs),
    list[str]: st.lists(texts, max_size=5),
    dict[str, str]: st.dictionaries(texts, texts, max_size=5),
    list[Score]: st.lists(st.builds(Score, texts, reals), max_size=5),
}


@st.composite
def seq_intervals(draw: Any) -> list[int]:
    """Pairs that ascend from 1; first and last of one may be the same seq."""
    firsts = sorted(draw(st.sets(st.integers(1, 2**61), max_size=5)))
    lasts = [
        draw(st.integers(low, high - 1)) for low, high in zip(firsts, [*firsts[1:], 2**62], strict=False)
    ]
    return [bound for pair in zip(firsts, lasts, strict=True) for bound in pair]


def _field(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name == "epoch":
        return words
    if name == "predecessor":
        return befores
    if name == "intervals":
        return seq_intervals()
    return OF_TYPE[hint] if hint in OF_TYPE else st.sampled_from(get_args(hint))


def record_of(kind: type) -> st.SearchStrategy[Any]:
    """Any record of a kind: every field over the whole of its type."""
    return st.builds(kind, **{name: _field(name, hint) for name, hint in get_type_hints(kind).items()})


@given(st.one_of(*map(record_of, KINDS)))
def test_a_record_comes_back_as_it_was(record: Any) -> None:
    """Of every kind, with every field over the whole of its type."""
    assert records.decode(type(record), records.encode(record)) == record


@pytest.mark.parametrize("name", RECORDS)
def test_frozen_files_read(name: str) -> None:
    """A file of each version says what it said when it was made; the newest version writes the very same bytes."""
    body, record = (FIXTURES / name).read_bytes(), RECORDS[name]
    assert records.decode(type(record), body) == record
    if records._KINDS[type(record)][0] == name.removesuffix(".avro"):
        assert records.encode(record) == body


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_another_kind_is_an_unknown_version(kind: type[Any]) -> None:
    """Each kind reads its own schemas only."""
    for record in RECORDS.values():
        if type(record) is not kind:
            with pytest.raises(UnknownVersion):
                records.decode(kind, records.encode(record))


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_cut_short_is_refused(name: str) -> None:
    """At every byte."""
    body, kind = (FIXTURES / name).read_bytes(), type(RECORDS[name])
    for end in range(len(body)):
        with pytest.raises(ValueError, match=r"damaged|marker|unknown"):
            records.decode(kind, body[:end])


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_is_refused_or_a_record(name: str) -> None:
    """Every flipped bit, and bytes of noise: a ValueError, or a record that can be written again; and never much memory."""
    whole, kind = (FIXTURES / name).read_bytes(), type(RECORDS[name])
    chance = random.Random(5)
    damaged = [_flipped(whole, bit) for bit in range(8 * len(whole))]
    damaged += [whole[:10] + chance.randbytes(chance.randrange(200)) for _ in range(500)]
    damaged += [_noisy(whole, chance) for _ in range(500)]
    tracemalloc.start()
    try:
        for body in damaged:
            try:
                found = records.decode(kind, body)
            except ValueError:
                continue
            again = records.decode(kind, records.encode(found))
            assert repr(again) == repr(found)  # as text, for NaN is not equal to itself
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "intervals", [[1], [1, 2, 3], [2, 1], [3, 4, 1, 2], [1, 2, 2, 3], [0, 5], [-3, -1], [1, 5, 4, 9]]
)
def test_r22_intervals_that_are_none_are_damage(intervals: list[int]) -> None:
    """What a `have` record covers is deleted: pairs that do not ascend from 1 cover nothing, they are refused."""
    with pytest.raises(ValueError, match="a damaged have record"):
        records.decode(Have, records.encode(Have("a1", 1, 1, intervals)))


def _flipped(body: bytes, bit: int) -> bytes:
    out = bytearray(body)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def _noisy(body: bytes, chance: random.Random) -> bytes:
    out = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        out[chance.randrange(10, len(out))] = chance.randrange(256)
    return bytes(out)


@given(texts, texts, st.integers(-(2**62), 2**62), st.sampled_from(tuple(RECORDS.values())))
def test_headers_are_those_of_cloudevents(ce_id: str, source: str, time_us: int, record: Any) -> None:
    """All that the Kafka binding requires in binary mode, all of it text; the time is RFC 3339 in UTC."""
    kind = type(record).__name__.lower()
    found = records.headers(kind, ce_id, source, time_us)
    assert found.keys() == {
        "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"
    }  # fmt: skip
    assert (found["ce_specversion"], found["ce_id"], found["ce_source"]) == ("1.0", ce_id, source)
    assert found["ce_type"] == f"io.headwater.{kind}"
    assert found["content-type"] == "application/avro"
    assert records.kind_of(found) == kind
    assert found["ce_time"].endswith("Z")
    moment = datetime.fromisoformat(found["ce_time"])
    assert moment.tzinfo == UTC
    if -62_000_000_000_000_000 < time_us < 253_000_000_000_000_000:  # within the years 1 to 9999
        away = moment - datetime(1970, 1, 1, tzinfo=UTC)
        assert (away.days * 86_400 + away.seconds) * 1_000_000 + away.microseconds == time_us


def test_times_that_no_calendar_has_are_its_ends() -> None:
    """A clock that is far off stops nothing, and stays on its side."""
    times = [records.headers("frame", "i", "s", time_us)["ce_time"] for time_us in (-(2**62), 2**62)]
    assert times == ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]


def test_more_headers_come_along() -> None:
    """A region, a trace: beside the others."""
    found = records.headers("frame", "i", "s", 0, region="eu", traceparent="00-1-2-01")
    assert (found["region"], found["traceparent"], len(found)) == ("eu", "00-1-2-01", 8)


@pytest.mark.parametrize("ce_type", ["", "com.example.frame", "io.headwater.other"])
def test_what_others_wrote_is_no_kind_of_ours(ce_type: str) -> None:
    """Another type is none of our kinds, and is shown; without one there is nothing to show."""
    kinds = {type(record).__name__.lower() for record in RECORDS.values()} | {records.FRAME}
    assert records.kind_of({"ce_type": ce_type} if ce_type else {}) not in kinds
    assert records.kind_of({"ce_type": ce_type}) in {ce_type, "other"}


@given(st.text(min_size=1).filter(valid_name), words, st.integers(0, 63), st.integers(1, 10**18 - 1))
def test_r23_an_identity_is_read_as_it_was_written(agent: str, epoch: int, shard: int, seq: int) -> None:
    """agent/epoch/shard/seq, whatever the agent is called."""
    assert records.identity_of(records.identity_text(agent, epoch, shard, seq)) == (agent, epoch, shard, seq)


@pytest.mark.parametrize(
    "text",
    ["", "a1", "a1/0/1/2", "a1/00000000000000FF/1/2", "/0000000000000001/1/2", "a/b/0000000000000001/1/2",
     "a1/0000000000000001/-1/2", "a1/0000000000000001/1/2/", "a1/0000000000000001/1/x", "a1/0000000000000001/1/\u0662"],
)  # fmt: skip
def test_what_is_no_identity(text: str) -> None:
    """It is None, and no exception."""
    assert records.identity_of(text) is None
