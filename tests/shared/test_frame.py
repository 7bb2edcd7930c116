"""The frame: packed from memory and by any Avro library it is the same; old files read; damage never becomes a window."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_shared import avro, frame
from headwater_shared.aggregates import COLUMNS, Aggregates
from headwater_shared.avro import UnknownVersion
from headwater_shared.frame import Frame
from headwater_shared.parts import Parts, Sketches
from headwater_shared.records import ClockRecord, Predecessor, encode
from headwater_shared.sketch import BUCKETS
from tests.fixtures import FIXTURES
from tests.fixtures.contents import EMPTY_FRAME_1, FRAME_1, FRAMES
from tests.shared import avro_plain

FLOATS = ("mean", "m2", "min", "max", "first", "last")
OWN = {
    "series": "series", "level": "level", "start": "start", "epoch": "opened_epoch", "tick": "opened_tick",
    "revision": "revision", "flags": "flags",
}  # fmt: skip
"""Columns of `Parts` and what they are called on the wire."""

longs = st.integers(-(2**63), 2**63 - 1)
words = st.integers(0, 2**64 - 1)
counts = st.integers(0, 2**45)
texts = st.text(max_size=12)


def _column(draw: Any, items: st.SearchStrategy[Any], n: int, dtype: Any = np.int64) -> Any:
    return np.array(draw(st.lists(items, min_size=n, max_size=n)), dtype)


@st.composite
def frames(draw: Any) -> Frame:
    """Any frame that can be: every column over all that its numbers can say."""
    names, levels = (
        draw(st.lists(texts, min_size=1, max_size=4)),
        draw(st.lists(texts, min_size=1, max_size=3)),
    )
    epochs = draw(st.lists(words, min_size=1, max_size=3))
    n = draw(st.integers(0, 6))
    sizes = _column(draw, st.integers(0, 3), n)
    total = int(sizes.sum())
    aggregates = Aggregates.of_words(_column(draw, longs, n * len(COLUMNS)).reshape(n, len(COLUMNS)))
    aggregates.count[:] = _column(draw, counts, n)
    ends = np.cumsum(sizes)
    sketches = Sketches(ends, _column(draw, st.integers(0, BUCKETS - 1), total), _column(draw, counts, total))
    series, level, epoch = (_column(draw, st.integers(0, len(of) - 1), n) for of in (names, levels, epochs))
    start, tick, revision, flags = (_column(draw, longs, n) for _ in range(4))
    parts = Parts(
        names, levels, epochs, series, level, start, epoch, tick, revision, flags, aggregates, sketches
    )
    before = draw(st.one_of(st.none(), st.builds(Predecessor, words, longs)))
    return Frame(draw(texts), draw(words), draw(longs), draw(longs), draw(longs), before, parts)


def columns_of(one: Frame) -> dict[str, Any]:
    """All columns by their names on the wire."""
    parts = one.parts
    found = {wire: getattr(parts, name) for name, wire in OWN.items()}
    found |= {name: getattr(parts.aggregates, name) for name in COLUMNS}
    return found | {f"sketch_{name}": getattr(parts.sketches, name) for name in ("end", "bucket", "count")}


def datum_of(one: Frame) -> dict[str, Any]:
    """The frame as Avro's own writers take it: numbers of `fixed(8)` as bytes, -0 and NaN with their bits."""
    parts, before = one.parts, one.predecessor
    return {
        "agent": one.agent, "epoch": avro_plain.int8(one.epoch),
        "shard": one.shard, "seq": one.seq, "tick": one.tick,
        "predecessor": None if before is None else {"epoch": avro_plain.int8(before.epoch), "seq": before.seq},
        "names": parts.names, "levels": parts.levels, "epochs": [avro_plain.int8(epoch) for epoch in parts.epochs],
        **{
            name: column.tolist() if name in FLOATS else [avro_plain.int8(number) for number in column.tolist()]
            for name, column in columns_of(one).items()
        },
    }  # fmt: skip


def assert_same(found: Frame, wanted: Frame) -> None:
    """To the last bit."""
    for name in ("agent", "epoch", "shard", "seq", "tick", "predecessor"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("names", "levels", "epochs"):
        assert getattr(found.parts, name) == getattr(wanted.parts, name), name
    other = columns_of(wanted)
    for name, column in columns_of(found).items():
        assert column.dtype == other[name].dtype, name
        assert column.tobytes() == other[name].tobytes(), name


def assert_same_datum(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """To the last bit, NaN included."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name in FLOATS:
            assert np.array(found[name]).tobytes() == np.array(value).tobytes(), name
        else:
            assert found[name] == value, name


@given(frames())
def test_what_is_packed_is_what_avro_reads_and_writes(one: Frame) -> None:
    """fastavro reads every packed frame, writes the very same bytes, and what it writes is unpacked."""
    body = frame.encode(one)
    name, datum = avro.decode((frame.SCHEMA,), body)
    assert name == frame.SCHEMA
    assert_same_datum(datum, datum_of(one))
    assert avro.encode(frame.SCHEMA, datum_of(one)) == body
    assert_same(frame.decode(body), one)


def _in_blocks(items: list[bytes], size: int, *, sized: bool) -> bytes:
    """An array as other writers may split it: into blocks, with or without their size in bytes."""
    out = b""
    for at in range(0, len(items), size):
        block = b"".join(items[at : at + size])
        count = len(items[at : at + size])
        out += avro_plain.long(-count) + avro_plain.long(len(block)) if sized else avro_plain.long(count)
        out += block
    return out + avro_plain.long(0)


def _written(one: Frame, array: Callable[[list[bytes]], bytes]) -> bytes:
    """A frame by the specification alone."""
    datum = datum_of(one)
    out = [avro.MARKER, bytes.fromhex("bff8ca9bd1977b54"), avro_plain.string(one.agent), datum["epoch"]]
    out += [avro_plain.long(datum[name]) for name in ("shard", "seq", "tick")]
    before = one.predecessor
    out.append(
        avro_plain.long(0)
        if before is None
        else avro_plain.long(1) + avro_plain.int8(before.epoch) + avro_plain.long(before.seq)
    )
    out += [array([avro_plain.string(text) for text in datum[name]]) for name in ("names", "levels")]
    out.append(array(datum["epochs"]))
    for name in columns_of(one):
        out.append(array([avro_plain.double(v) for v in datum[name]] if name in FLOATS else datum[name]))
    return b"".join(out)


@given(frames(), st.integers(1, 3), st.booleans())
def test_arrays_in_blocks_are_read(one: Frame, size: int, sized: bool) -> None:
    """Avro lets a writer split an array, and say a block's bytes: whatever the split, the frame is the same, to fastavro too."""
    body = _written(one, lambda items: _in_blocks(items, size, sized=sized))
    assert_same(frame.decode(body), one)
    assert_same_datum(avro.decode((frame.SCHEMA,), body)[1], datum_of(one))


@given(
    st.sampled_from((63, 64, 65, 1_000, 8_191, 8_192)),
    st.integers(0, 2**32),
    st.integers(1, 9_000),
    st.booleans(),
)
@settings(max_examples=12)
def test_long_columns_are_the_same_to_both(n: int, seed: int, size: int, sized: bool) -> None:
    """Counts of a block that take one, two and three bytes, whole or split: packed, as fastavro writes it, and as others may."""
    chance = np.random.default_rng(seed)
    words = chance.integers(-(2**63), 2**63 - 1, (n, len(COLUMNS)), np.int64)
    aggregates = Aggregates.of_words(words)
    aggregates.count[:] = chance.integers(0, 2**45, n)
    ends = np.cumsum(chance.integers(0, 3, n))
    total = int(ends[-1])
    sketches = Sketches(ends, chance.integers(0, BUCKETS, total), chance.integers(0, 2**45, total))
    series, level, epoch = (chance.integers(0, most, n) for most in (n, 2, 3))
    start, tick, revision, flags = (chance.integers(-(2**63), 2**63 - 1, n, np.int64) for _ in range(4))
    names = [f"s/{number}/ü" for number in range(n)]
    parts = Parts(
        names,
        ["10s", "1m"],
        [1, 2**64 - 1, 0],
        series,
        level,
        start,
        epoch,
        tick,
        revision,
        flags,
        aggregates,
        sketches,
    )
    one = Frame("a", seed, 1, 2, 3, None, parts)
    body = frame.encode(one)
    assert avro.encode(frame.SCHEMA, datum_of(one)) == body
    assert_same_datum(avro.decode((frame.SCHEMA,), body)[1], datum_of(one))
    assert_same(frame.decode(body), one)
    split = _written(one, lambda items: _in_blocks(items, size, sized=sized))
    assert_same(frame.decode(split), one)


@pytest.mark.parametrize("name", FRAMES)
def test_frozen_frames_read(name: str) -> None:
    """A file of version 1 is, byte by byte, what the specification makes of the values that are written down."""
    body, one = (FIXTURES / name).read_bytes(), FRAMES[name]
    if name.startswith("frame-1"):
        assert body == _written(one, avro_plain.array)
    assert_same(frame.decode(body), one)
    assert_same_datum(
        avro.decode((name.removesuffix(".avro").removesuffix("-empty"),), body)[1], datum_of(one)
    )


def test_the_newest_version_is_frozen() -> None:
    """What is written today stands in a file, with the same bytes."""
    name = f"{frame.SCHEMA}.avro"
    assert frame.encode(FRAMES[name]) == (FIXTURES / name).read_bytes()


def test_an_unknown_version_is_told_from_damage() -> None:
    """A frame of a schema that is not known here, and a record that is no frame."""
    body = frame.encode(FRAME_1)
    for other in (body[:2] + bytes(8) + body[10:], encode(ClockRecord(1, 2))):
        with pytest.raises(UnknownVersion):
            frame.decode(other)


def _refused_or_what_avro_reads(body: bytes) -> None:
    try:
        found = frame.decode(body)
    except ValueError:
        return
    assert_same_datum(avro.decode((frame.SCHEMA,), body)[1], datum_of(found))


@pytest.fixture
def little_memory() -> Any:
    """Whatever the bytes say, no more is allocated than a few times what they are."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_cut_short_is_refused(name: str, little_memory: None) -> None:
    """At every byte; and so is one with a byte too many."""
    body = (FIXTURES / name).read_bytes()
    for end in range(len(body)):
        with pytest.raises(ValueError, match=r"damaged|marker|unknown"):
            frame.decode(body[:end])
    with pytest.raises(ValueError, match="1 bytes too many"):
        frame.decode(body + b"\x00")


@pytest.mark.parametrize("name", FRAMES)
def test_a_damaged_frame_is_refused_or_what_avro_reads(name: str, little_memory: None) -> None:
    """Flipped bits of every byte, and noise: a ValueError or the frame that the bytes say, never another exception.

    (A frame bears no check sum of its own: a flipped bit of a value is another value.)
    """
    body = (FIXTURES / name).read_bytes()
    chance = random.Random(7)
    for at in range(len(body)):
        for bit in {chance.randrange(8), 7}:
            damaged = bytearray(body)
            damaged[at] ^= 1 << bit
            _refused_or_what_avro_reads(bytes(damaged))
    for _ in range(400):
        damaged = bytearray(body)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(10, len(damaged))] = chance.choice(
                (0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )
        _refused_or_what_avro_reads(bytes(damaged))
    for _ in range(300):
        _refused_or_what_avro_reads(body[:10] + chance.randbytes(chance.randrange(300)))


HUGE = 2**63 - 1


@pytest.mark.parametrize(
    ("column", "items"),
    [
        *((wire, length) for wire in (*OWN.values(), *COLUMNS) for length in ([], [0], [0, 0], [0, 0, 0, 0])),
        ("series", [0, 1, 2]), ("series", [0, -1, 0]), ("level", [3, 0, 0]), ("level", [0, 0, HUGE]),
        ("opened_epoch", [0, 2, 0]), ("opened_epoch", [-1, 0, 0]),
        ("count", [1, -1, 1]), ("count", [1, 2**45 + 1, 1]),
        ("sketch_end", [2, 2]), ("sketch_end", []), ("sketch_end", [2, 2, 5, 5]), ("sketch_end", [2, 1, 5]),
        ("sketch_end", [-1, 2, 5]), ("sketch_end", [2, 6, 5]), ("sketch_end", [2, 2, 4]), ("sketch_end", [2, 2, 6]),
        ("sketch_end", [HUGE, -2, 5]), ("sketch_end", [HUGE, -(2**63), 5]), ("sketch_end", [0, 0, HUGE]),
        ("sketch_bucket", [0, 0, 0, 0]), ("sketch_bucket", [0, 0, 0, 0, BUCKETS]), ("sketch_bucket", [-1, 0, 0, 0, 0]),
        ("sketch_count", [1, 1, 1, 1]), ("sketch_count", [1, 1, -1, 1, 1]), ("sketch_count", [1, 1, HUGE, 1, 1]),
    ],
)  # fmt: skip
def test_columns_that_do_not_fit_are_refused(column: str, items: list[int], little_memory: None) -> None:
    """Well-formed Avro whose columns cannot be one frame: another length, an index outside, a count that cannot be."""
    datum = datum_of(FRAME_1)
    datum[column] = [float(item) if column in FLOATS else avro_plain.int8(item) for item in items]
    with pytest.raises(ValueError, match=r"a damaged (frame|record)"):
        frame.decode(avro.encode(frame.SCHEMA, datum))


@pytest.mark.parametrize(
    "number", [b"\xff" * 9 + b"\x02", b"\xff" * 9 + b"\x7f", b"\x80" * 10 + b"\x01", b"\xff" * 40]
)
def test_numbers_of_more_than_64_bits_are_refused(number: bytes) -> None:
    """A varint that goes on and on, and one whose tenth byte holds more than a bit."""
    one = EMPTY_FRAME_1
    head = (
        avro.MARKER
        + avro.fingerprint(frame.SCHEMA)
        + avro_plain.string(one.agent)
        + avro_plain.int8(one.epoch)
    )
    body = frame.encode(one)
    assert body.startswith(head + avro_plain.long(one.shard))
    rest = body[len(head) + len(avro_plain.long(one.shard)) :]
    assert_same(frame.decode(head + avro_plain.long(one.shard) + rest), one)
    with pytest.raises(ValueError, match=r"a damaged (frame|record)"):
        frame.decode(head + number + rest)


def test_no_part_of_a_sketch_is_made_up(little_memory: None) -> None:
    """Ends that come back to nothing by way of the largest numbers are no ends."""
    datum = datum_of(FRAME_1) | {"sketch_bucket": [], "sketch_count": []}
    datum["sketch_end"] = [avro_plain.int8(end) for end in (HUGE, -2, 0)]
    with pytest.raises(ValueError, match=r"a damaged (frame|record)"):
        frame.decode(avro.encode(frame.SCHEMA, datum))
