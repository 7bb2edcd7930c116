"""The journal row: any tick comes back as it was, old rows read, and damage is told (R12)."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import events, journal
from headwater_edge.tick import Messages, Readings, Tick, no_messages, no_readings, quiet_tick
from headwater_shared.clock import Now
from headwater_shared.digest import NO_TIME
from tests.fixtures import contents, rows

EVENTS = get_args(events.Event)
NEWEST = list(contents.TICKS)[-1]

longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=10)
OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: longs,
    str: texts,
    bool: st.booleans(),
    bytes: st.binary(max_size=5),
    list[int]: st.lists(longs, max_size=3),
    list[str]: st.lists(texts, max_size=3),
    dict[int, int]: st.dictionaries(longs, longs, max_size=3),
    list[tuple[str, int]]: st.lists(st.tuples(texts, longs), max_size=3),
}

OF_TYPE[events.WillMessage | None] = st.none() | st.builds(
    events.WillMessage, st.binary(max_size=5), st.binary(max_size=5), longs, longs
)

OF_TYPE[list[events.Order]] = st.lists(
    st.builds(events.Order, texts, texts, texts, texts, longs, longs, texts, texts), max_size=2
)


def event_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any event of a kind; an epoch is all of 64 bits."""
    hints = get_type_hints(kind)
    return st.builds(
        kind,
        **{
            name: st.integers(0, 2**64 - 1) if name == "epoch" else OF_TYPE[hint]
            for name, hint in hints.items()
        },
    )


OF_TYPE[Literal["done", "refused"]] = st.sampled_from(("done", "refused"))
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from((0.0, -0.0, 0.1, 20.25, 5e-324, 1.7976931348623157e308, -1e300, 2.0**52, 2.0**53)),
    st.decimals(-1000, 1000, places=3).map(float),
)
COLUMNS = st.sampled_from(("steady", "near", "any"))


@st.composite
def column(draw: Any, n: int, low: int = -(2**63), high: int = 2**63 - 1) -> Any:
    """Integers whose steps are equal, small, or as large as they can be."""
    shape = draw(COLUMNS)
    if shape == "any":
        return np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)), np.int64)
    first = draw(st.integers(low, high))
    step = draw(st.integers(-300, 300))
    jitter = draw(st.lists(st.integers(-200, 200), min_size=n, max_size=n)) if shape == "near" else [0] * n
    return np.array([min(high, max(low, first + step * i + jitter[i])) for i in range(n)], np.int64)


def _cut(draw: Any, n: int) -> Any:
    """Ends of runs over n items."""
    inner = draw(st.sets(st.integers(1, n - 1), max_size=3)) if n > 1 else set()
    return np.array(sorted(inner) + ([n] if n else []), np.int64)


@st.composite
def ticks(draw: Any) -> Tick:
    """Any tick: every event, every column over all that it can hold."""
    m = draw(st.integers(0, 8))
    each = draw(st.one_of(st.just([1] * m), st.lists(st.integers(0, 3), min_size=m, max_size=m)))
    n = sum(each)
    run_end, burst_end = _cut(draw, m), _cut(draw, m)
    messages = Messages(
        draw(column(len(run_end))), run_end, draw(column(len(burst_end))), burst_end,
        draw(column(m, 0, 65_535)).astype(np.uint16), draw(column(m, 0, 15)).astype(np.uint8), np.array(each, np.int32),
    )  # fmt: skip
    sent = draw(column(n))
    if n and draw(st.booleans()):
        sent[draw(st.integers(0, n - 1))] = NO_TIME
    values = draw(st.lists(VALUES, min_size=n, max_size=n))
    return Tick(
        Now(draw(longs), draw(longs), draw(texts), draw(st.integers(0, 2))),
        draw(st.lists(st.tuples(st.integers(0, m), st.one_of(*map(event_of, EVENTS))), max_size=4)),
        draw(st.lists(texts, max_size=3)),
        messages,
        Readings(draw(column(n, 0, 32_767)).astype(np.int32), sent, np.array(values, np.float64)),
        draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2**32 - 1)), max_size=2)),
        draw(st.lists(st.integers(0, 2**31), max_size=3)),
        draw(st.lists(st.integers(0, 2**31), max_size=3)),
    )


def assert_same(found: Tick, wanted: Tick) -> None:
    """To the last bit and the last type."""
    for name in ("now", "events", "new_series", "unreadable", "known", "beyond", "numbers", "returned"):
        assert getattr(found, name) == getattr(wanted, name), name
    assert [type(event) for _, event in found.events] == [type(event) for _, event in wanted.events]
    for part in ("messages", "readings"):
        one, other = getattr(found, part), getattr(wanted, part)
        for name in one.__slots__:
            assert getattr(one, name).dtype == getattr(other, name).dtype, name
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


@given(ticks())
def test_r12_a_tick_comes_back_as_it_was(tick: Tick) -> None:
    """All events, and columns with any steps and values: equal to the last bit, and the row again the same."""
    row = journal.encode(tick)
    found = journal.decode(row)
    assert_same(found, tick)
    assert journal.encode(found) == row


@pytest.mark.parametrize("kind", EVENTS)
def test_r12_every_event_is_journaled(kind: Any) -> None:
    """The kind of an event is in its row."""
    wanted = event_of(kind)

    @given(wanted)
    def comes_back(event: Any) -> None:
        found = journal.decode(journal.encode(quiet_tick(Now(1, 2, "b", 0), event)))
        assert found.events == [(0, event)]
        assert type(found.events[0][1]) is kind

    comes_back()


@pytest.mark.parametrize(
    "values", [[0.1, 0.25, 1e6], [20.5] * 50, [1e15, 0.5], [-0.0, 1.0], [1e-7, 0.3], [1 / 3] * 20]
)
def test_decimals_keep_their_bits(values: list[float]) -> None:
    """Values that are written as whole numbers, or cannot be, have the bits that they had."""
    n = len(values)
    ones = np.ones(n, np.int32)
    ends = np.array([n])
    messages = Messages(ends, ends, ends, ends, ones.astype(np.uint16), ones.astype(np.uint8), ones)
    readings = Readings(ones * 0, np.arange(n), np.array(values))
    found = journal.decode(journal.encode(Tick(Now(0, 0, "", 0), [], [], messages, readings)))
    assert found.readings.value.tobytes() == readings.value.tobytes()


def test_a_tick_of_numbers_with_few_digits_is_small() -> None:
    """A thousand readings a second apart, of sensors with one digit: under 4 bytes a reading, as the design has it."""
    chance = random.Random(1)
    n = 1000
    values = np.array([round(20 + chance.gauss(0, 1), 1) for _ in range(n)])
    sent = 1_800_000_000_000_000 + np.arange(n) * 1000 + np.array([chance.randrange(50) for _ in range(n)])
    one = np.array([n])
    messages = Messages(
        one * 0, one, one, one, np.arange(n).astype(np.uint16), np.full(n, 2, np.uint8), np.ones(n, np.int32)
    )
    tick = Tick(Now(0, 0, "b", 0), [], [], messages, Readings(np.arange(n).astype(np.int32), sent, values))
    assert len(journal.encode(tick)) < 4 * n


@pytest.mark.parametrize("name", contents.TICKS)
def test_frozen_rows_read(name: str) -> None:
    """Rows of each format say what they said when they were made."""
    found = [journal.decode(row) for row in rows(name)]
    for one, wanted in zip(found, contents.TICKS[name], strict=True):
        assert_same(one, wanted)


def test_what_is_written_today_is_frozen() -> None:
    """The newest file holds what is written now, but for what zlib makes of it: `python -m tests.fixtures.make`."""
    for row, tick in zip(rows(NEWEST), contents.TICKS[NEWEST], strict=True):
        written = journal.encode(tick)
        assert written[0] == row[0] == journal.FORMAT
        assert zlib.decompress(written[1:]) == zlib.decompress(row[1:])


@pytest.mark.parametrize("row", [b"", b"\x00", b"\xff" + zlib.compress(b"x"), b"\xff" * 20])
def test_an_unknown_format_is_said(row: bytes) -> None:
    """The message shows the format."""
    with pytest.raises(ValueError, match=f"journal format {row[:1].hex()} is not known"):
        journal.decode(row)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Whatever the bytes say, no more is allocated than a few times what they are."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_damaged_row_is_refused(little_memory: None) -> None:
    """Each byte missing, each bit flipped: a ValueError, for zlib's check sum tells, or the very tick.

    (A few bits of zlib's stream mean nothing.)
    """
    for row, tick in zip(rows(NEWEST), contents.TICKS[NEWEST], strict=True):
        for end in range(len(row)):
            with pytest.raises(ValueError, match="journal"):
                journal.decode(row[:end])
        refused = 0
        for bit in range(8 * len(row)):
            damaged = bytearray(row)
            damaged[bit // 8] ^= 1 << bit % 8
            try:
                found = journal.decode(bytes(damaged))
            except ValueError:
                refused += 1
            else:
                assert_same(found, tick)
        assert refused > 0.95 * 8 * len(row)


def test_a_row_that_ends_too_early_is_refused() -> None:
    """Behind a right check sum: no column is taken for a shorter one."""
    for row in rows(NEWEST):
        body = zlib.decompress(row[1:])
        for end in range(len(body)):
            with pytest.raises(ValueError, match="journal"):
                journal.decode(row[:1] + zlib.compress(body[:end]))


def test_a_row_that_does_not_fit_itself_is_refused(little_memory: None) -> None:
    """Behind a right check sum, as a bug or an attacker would write it: a ValueError or a tick, no other error."""
    chance = random.Random(3)
    for row in rows(NEWEST):
        body = zlib.decompress(row[1:])
        for _ in range(400):
            damaged = bytearray(body)
            for _ in range(chance.randint(1, 3)):
                damaged[chance.randrange(len(damaged))] = chance.choice(
                    (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
                )
            cut = chance.choice((len(damaged), chance.randrange(len(damaged))))
            try:
                journal.decode(row[:1] + zlib.compress(bytes(damaged[:cut])))
            except ValueError:
                continue


def test_a_quiet_tick_costs_few_bytes() -> None:
    """One that only closes a window has a row, too, and it is small."""
    tick = Tick(Now(1_800_000_000_000_000, 10**9, "0" * 36, 0), [], [], no_messages(), no_readings())
    assert len(journal.encode(tick)) < 100
