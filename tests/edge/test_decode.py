"""Payloads to columns: every shape and time that is documented, hostile joins, and 20,000 payloads of noise."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge import payloads
from headwater_edge.decode import Decode
from headwater_edge.stamps import FARTHEST_US, column_us, stamp_us
from headwater_edge.topics import SeriesIndex
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Unreadable
from tests.edge.decoding import Taken, burst_of, decoded_by, taken

T = 1_795_000_000_123_456
"""A time in microseconds that is no whole second."""
SECOND = 1_795_000_000_000_000

SINGLE, OTHER, MULTI = b"hw/s1/d1/data/temp", b"hw/s1/d2/data/flow", b"hw/s1/d3/data"


def decoded(*messages: tuple[bytes, bytes], decode: Decode | None = None) -> list[Taken]:
    """Decode one burst, with an index that has seen the topics of this test before."""
    return decoded_by(decode or _decode(), *messages)


def _decode(cap: int = 1000) -> Decode:
    """A decoder that knows the series of the topics above, so that it takes the fast way where it can."""
    decode = Decode(SeriesIndex([], cap))
    decode.burst(burst_of((SINGLE, b"1"), (OTHER, b"1"), (MULTI, b'{"temp":1,"flow":2}')))
    return decode


def one_by_one(topic: bytes, payload: bytes) -> Taken:
    """Say what a message alone means, by the slow and complete way."""
    words = topic.decode().split("/")
    single = len(words) == 5
    try:
        said, refused, _ = payloads.read(payload, metric_in_topic=single)
    except Unreadable as error:
        return Taken([], [error.reason])
    out = [
        (f"{words[1]}/{words[2]}/{metric or words[4]}", None if t == NO_TIME else t, v + 0.0)
        for metric, t, v in said
    ]
    return Taken(out, ["not-taken"] if refused else [])


TEMP, FLOW, D3 = "s1/d1/temp", "s1/d2/flow", "s1/d3"

SHAPES = {
    "a bare whole number": (SINGLE, b"12", [(TEMP, None, 12.0)]),
    "a bare decimal": (SINGLE, b"-12.5e-1", [(TEMP, None, -1.25)]),
    "a padded number": (SINGLE, b"  12.5\r\n", [(TEMP, None, 12.5)]),
    "a number with a plus": (SINGLE, b"+5", [(TEMP, None, 5.0)]),
    "a number without a leading zero": (SINGLE, b".5", [(TEMP, None, 0.5)]),
    "minus zero is zero": (SINGLE, b"-0.0", [(TEMP, None, 0.0)]),
    "t and v": (SINGLE, b'{"t":%d,"v":1.5}' % T, [(TEMP, T, 1.5)]),
    "v before t": (SINGLE, b'{"v":1.5,"t":%d}' % T, [(TEMP, T, 1.5)]),
    "with spaces": (SINGLE, b' { "t" : %d , "v" : 1.5 } ' % T, [(TEMP, T, 1.5)]),
    "time and value": (SINGLE, b'{"time":%d,"value":1.5}' % T, [(TEMP, T, 1.5)]),
    "ts and value": (SINGLE, b'{"ts":%d,"value":1.5}' % T, [(TEMP, T, 1.5)]),
    "timestamp and value": (SINGLE, b'{"timestamp":%d,"value":1.5}' % T, [(TEMP, T, 1.5)]),
    "a value without a time": (SINGLE, b'{"v":1.5}', [(TEMP, None, 1.5)]),
    "a null time is none": (SINGLE, b'{"t":null,"v":1.5}', [(TEMP, None, 1.5)]),
    "many under values": (MULTI, b'{"t":%d,"values":{"temp":1,"flow":2}}' % T, [(f"{D3}/temp", T, 1.0), (f"{D3}/flow", T, 2.0)]),
    "many beside the time": (MULTI, b'{"temp":1,"t":%d,"flow":2}' % T, [(f"{D3}/temp", T, 1.0), (f"{D3}/flow", T, 2.0)]),
    "many without a time": (MULTI, b'{"temp":1}', [(f"{D3}/temp", None, 1.0)]),
    "v is a metric where the topic names none": (MULTI, b'{"t":%d,"v":1}' % T, [(f"{D3}/v", T, 1.0)]),
    "several readings of one series": (SINGLE, b'[{"t":%d,"v":1},{"t":%d,"v":2}]' % (T, T + 1), [(TEMP, T, 1.0), (TEMP, T + 1, 2.0)]),
    "several objects of many": (MULTI, b'[{"t":%d,"temp":1},{"t":%d,"flow":2}]' % (T, T + 1), [(f"{D3}/temp", T, 1.0), (f"{D3}/flow", T + 1, 2.0)]),
    "several bare numbers": (SINGLE, b"[1,2]", [(TEMP, None, 1.0), (TEMP, None, 2.0)]),
    "an empty list": (SINGLE, b"[]", []),
    "true": (SINGLE, b"true", [(TEMP, None, 1.0)]),
    "false": (SINGLE, b'{"v":false}', [(TEMP, None, 0.0)]),
    "ON": (SINGLE, b"ON", [(TEMP, None, 1.0)]),
    "off": (SINGLE, b" off ", [(TEMP, None, 0.0)]),
    "ON as a string": (SINGLE, b'"ON"', [(TEMP, None, 1.0)]),
    "Off as a value": (MULTI, b'{"temp":"Off","flow":"on"}', [(f"{D3}/temp", None, 0.0), (f"{D3}/flow", None, 1.0)]),
    "other strings are skipped": (MULTI, b'{"temp":1,"state":"running","unit":null,"more":{"a":1}}', [(f"{D3}/temp", None, 1.0)]),
    "a string alone is skipped": (SINGLE, b'"running"', []),
    "an integer of 300 digits": (SINGLE, b'{"v":1%s}' % (b"0" * 299), [(TEMP, None, 1e299)]),
}  # fmt: skip


@pytest.mark.parametrize(("topic", "payload", "wanted"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("company", [0, 3])
def test_every_documented_shape(
    topic: bytes, payload: bytes, wanted: list[tuple[str, int | None, float]], company: int
) -> None:
    """Each documented payload gives its readings, alone and in a burst of others."""
    others = [(OTHER, b"7")] * company
    assert (
        decoded((topic, payload), *others) == [Taken(wanted, [])] + [Taken([(FLOW, None, 7.0)], [])] * company
    )


TIMES = {
    "seconds": (str(SECOND // 1_000_000), SECOND),
    "seconds with a fraction": ("1795000000.123456", T),
    "milliseconds": (str(T // 1000), T // 1000 * 1000),
    "milliseconds with a fraction": ("1795000000123.456", T),
    "microseconds": (str(T), T),
    "nanoseconds": (str(T * 1000 + 789), T),
    "ISO 8601 with Z": ('"2026-11-18T13:46:40.123456Z"', 1_795_009_600_123_456),
    "ISO 8601 with an offset": ('"2026-11-18T14:46:40+01:00"', 1_795_009_600_000_000),
    "ISO 8601 without a zone is UTC": ('"2026-11-18T13:46:40"', 1_795_009_600_000_000),
    "before 1970": ("-1000.5", -1_000_500_000),
    "zero": ("0", 0),
    "an exponent": ("1.795e9", SECOND),
    "the year 1677 in nanoseconds": (str(-(2**63)), -(2**63) // 1000),
    "beyond 64 bits in nanoseconds": (str(2**64), 2**64 // 1000),
}


@pytest.mark.parametrize(("text", "wanted"), TIMES.values(), ids=TIMES)
def test_every_documented_time(text: str, wanted: int) -> None:
    """A time in s, ms, us, ns or ISO 8601 becomes microseconds, on the fast way and on the slow one."""
    for payload in (f'{{"t":{text},"v":1}}', f'{{"t":{text},"v":1,"unit":"C"}}'):
        assert decoded((SINGLE, payload.encode()), (OTHER, b'{"t":5,"v":2}')) == [
            Taken([(TEMP, wanted, 1.0)], []),
            Taken([(FLOW, 5_000_000, 2.0)], []),
        ]


REFUSED = {
    "empty": (b"", "empty"),
    "blank": (b"  ", "unreadable"),
    "no JSON": (b"{", "unreadable"),
    "nan": (b"nan", "unreadable"),
    "NaN": (b'{"v":NaN}', "unreadable"),
    "an underscore": (b"1_000", "unreadable"),
    "infinity": (b"+inf", "not-taken"),
    "too large": (b"1e400", "not-taken"),
    "no UTF-8": (b'{"\xff":1}', "unreadable"),
    "half a surrogate": (b'{"\\ud800":1}', "unreadable"),
    "deep nesting": (b"[" * 100_000, "unreadable"),
    "a time that is a word": (b'{"t":"yesterday","v":1}', "bad-time"),
    "a time that is true": (b'{"t":true,"v":1}', "bad-time"),
    "a time too far": (b'{"t":%d,"v":1}' % 10**30, "bad-time"),
    "a metric that is no name": (b'{"a/b":1}', "not-taken"),
}


@pytest.mark.parametrize(("payload", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_a_dead_letter_with_its_bytes(payload: bytes, reason: str) -> None:
    """It names reason, topic and bytes, and never stops the message beside it."""
    decode = _decode()
    result = decode.burst(burst_of((SINGLE, payload), (OTHER, b"7")))
    assert taken(result, decode.index, 2) == [Taken([], [reason]), Taken([(FLOW, None, 7.0)], [])]
    (letter,) = result.dead
    assert (letter.message, letter.topic, letter.body) == (0, SINGLE, payload)


@pytest.mark.parametrize(
    "topic", [b"", b"hw", b"hw/s/d", b"hw/s/d/cmd/what", b"hw/s//data", b"hw/s/d/data/\x01", b"\xff/s/d/data"]
)
def test_a_topic_that_is_none_of_ours_is_a_dead_letter(topic: bytes) -> None:
    """Whatever the payload says; the message beside it counts."""
    assert decoded((topic, b"1"), (SINGLE, b"7")) == [
        Taken([], ["bad-topic"]),
        Taken([(TEMP, None, 7.0)], []),
    ]


def test_series_beyond_the_cap_are_dead_letters() -> None:
    """The cap stops new series, not those that are known."""
    decode = _decode(cap=4)
    assert decoded(
        (SINGLE, b"1"), (b"hw/s/d/data/new", b"2"), (MULTI, b'{"temp":3,"new":4}'), decode=decode
    ) == [
        Taken([(TEMP, None, 1.0)], []),
        Taken([], ["too-many-series"]),
        Taken([(f"{D3}/temp", None, 3.0)], ["too-many-series"]),
    ]


FORGERIES = {
    "four values of a list cut up": (b"1,2", b'{"v":5}', b"[3", b"4]"),
    "an object over two payloads": (b'{"t":1,"v":2} {"t":5,', b'"v":9}'),
    "an object over two, without a space": (b'{"t":1,"v":2}{"t":5,', b'"v":9}'),
    "two objects in one, none in the other": (b'{"t":1,"v":2}{"t":5,"v":6}', b""),
    "two numbers in one, none in the other": (b"1 2", b""),
    "a number and a negative one": (b"1-2", b""),
    "two numbers in one, blanks in the other": (b"1\t2", b" "),
    "a payload with a newline": (b"1\n2", b""),
    "a carriage return": (b"1\r2", b""),
    "values over two payloads": (b'{"t":1,"values":{"temp":1}} {"t":2,"values":{"temp":3', b"}}"),
    "an object closed by a neighbour": (b'{"t":1,"v":2', b"}", b'{"t":3,"v":4}{"t":5,"v":6}'),
    "a list in one": (b"[1", b",2]"),
}


@pytest.mark.parametrize("payloads", FORGERIES.values(), ids=FORGERIES)
def test_r16_joined_payloads_forge_no_reading(payloads: tuple[bytes, ...]) -> None:
    """However payloads are parsed at once, each means what it means alone."""
    for topics in ([SINGLE, OTHER, SINGLE, OTHER], [MULTI] * 4):
        messages = [(topic, payload) for topic, payload in zip(topics, payloads, strict=False)]
        for company in (
            [],
            [(SINGLE, b'{"t":8,"v":8}')],
            [(OTHER, b"8")],
            [(MULTI, b'{"t":8,"values":{"temp":8}}')],
        ):
            all_messages = [*messages, *company]
            assert decoded(*all_messages) == [one_by_one(*message) for message in all_messages]


PIECES = (
    b"", b" ", b"\n", b"1", b"-2.5", b"1 ", b"1-2", b"{", b"}", b"[", b"]", b",", b'{"t":1,"v":2}', b'{"t":3,', b'"v":4}',
    b'{"t":5,"values":{"temp":6}}', b'{"t":5,"values":{"temp":6', b"}}", b'"', b'{"v":7}', b'{"t":1.5,"v":2}', b"true",
    b'{"time":9,"value":1e400}', b'{"t":-9223372036854775808,"v":2}', b'{"t":99999999999999999999,"v":2}', b'"ON"',
    b'{"t":1,"v":NaN}', b'{"t":1,"values":{}}', b'{"t":1,"values":{"\xc3\xa9":1,"temp":-0.0}}', b'{"t":1795000000123,"v":-0.0}',
)  # fmt: skip
payload_of_pieces = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(b"".join)
alike = st.sampled_from(
    (
        st.floats(allow_nan=False).map(lambda v: str(v).encode()),
        st.tuples(st.integers(-(2**70), 2**70), st.floats(allow_nan=False)).map(
            lambda tv: json.dumps({"t": tv[0], "v": tv[1]}, separators=(",", ":")).encode()
        ),
        st.tuples(
            st.integers(-(10**18), 10**18),
            st.dictionaries(st.sampled_from(("temp", "flow", "x")), st.floats(-1e9, 1e9)),
        ).map(lambda tv: json.dumps({"time": tv[0], "values": tv[1]}).encode()),
    )
).flatmap(lambda payload: st.lists(payload, min_size=1, max_size=6))
bursts = st.one_of(st.lists(payload_of_pieces, min_size=1, max_size=6), alike)


@given(bursts, st.lists(st.sampled_from((SINGLE, OTHER, MULTI)), min_size=6, max_size=6))
def test_a_burst_at_once_equals_its_messages_one_by_one(said: list[bytes], topics: list[bytes]) -> None:
    """The fast way is only fast: the same readings, the same dead letters."""
    for chosen in (topics, [SINGLE] * 6, [MULTI] * 6):
        messages = list(zip(chosen, said, strict=False))
        assert decoded(*messages) == [one_by_one(*message) for message in messages]


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=5))
def test_times_at_once_equal_times_one_by_one(times: list[int]) -> None:
    """A column of times is scaled as each of them is, or left to be looked at one by one."""
    column = column_us(times)
    if column is not None:
        assert column.tolist() == [stamp_us(t) for t in times]
        assert (np.abs(column) < FARTHEST_US).all()


def test_twenty_thousand_payloads_of_noise() -> None:
    """Whatever bytes come, each message gives readings, or is skipped, or is a dead letter with its bytes."""
    chance = random.Random(4)
    decode = _decode(cap=500)
    seen = {"readings": 0, "dead": 0, "skipped": 0}
    for _ in range(200):
        messages = [_noise(chance) for _ in range(100)]
        if chance.random() < 0.5:  # bursts of one kind, which may take the fast way
            messages = [(SINGLE, payload) for _, payload in messages]
        result = decode.burst(burst_of(*messages))
        assert len(result.readings) == len(messages)
        assert np.isfinite(result.value).all()
        dead = {letter.message: letter for letter in result.dead}
        for at, (topic, payload) in enumerate(messages):
            if at in dead:
                assert (dead[at].topic, dead[at].body) == (topic, payload)
                assert dead[at].reason
            kind = "dead" if at in dead else "readings" if result.readings[at] else "skipped"
            seen[kind] += 1
            if result.readings[at] == 0 and at not in dead:
                assert one_by_one(topic, payload) == Taken([], [])
    assert min(seen.values()) > 200, seen


def _noise(chance: random.Random) -> tuple[bytes, bytes]:
    topics = (
        SINGLE,
        OTHER,
        MULTI,
        MULTI,
        b"hw/s1/d1/data/x",
        b"hw/s1/d9/data",
        b"hw/s1",
        chance.randbytes(9),
    )
    good = [payload for _, payload, _ in SHAPES.values()]
    payload = bytearray(chance.choice(good))
    match chance.randrange(6):
        case 0:
            payload = bytearray(chance.randbytes(chance.randrange(40)))
        case 1:
            for _ in range(chance.randrange(1, 4)):
                payload[chance.randrange(len(payload))] = chance.randrange(256)
        case 2:
            del payload[chance.randrange(len(payload)) :]
        case 3:
            payload += chance.choice(good)
        case 4:
            payload.insert(chance.randrange(len(payload)), chance.choice(b' \n\t"{}[],:-e.0'))
        case _:
            pass
    return chance.choice(topics), bytes(payload)
