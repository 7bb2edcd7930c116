"""Every codec: a burst at once means what its messages mean one by one, joined or forged or noise."""

from __future__ import annotations

import json
import random
import time

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.decode import Decode
from headwater_edge.format_settings import FormatSettings
from tests.edge.decoding import (
    Message,
    Taken,
    assert_at_once_as_one_by_one,
    burst_of,
    decode_with,
    decoded_by,
    taken,
)
from tests.edge.test_decode_influx import LINES
from tests.edge.test_decode_influx import REFUSED as NO_LINES
from tests.edge.test_decode_mapping import REAL
from tests.edge.test_decode_senml import PACKS, as_cbor, as_json
from tests.edge.test_decode_senml import REFUSED as NO_PACKS
from tests.edge.test_decode_sparkplug import BIRTH, BOOLEAN, DOUBLE, message

MAPPINGS = (
    FormatSettings(topics=("map/{device}",), time="t"),
    FormatSettings(topics=("named/{device}",), time="t", rows="rows", values={"v": "v", "p.*": "p.*"}),
    FormatSettings(topics=("bare/{device}/{metric}",)),
)


def make() -> Decode:
    decode = decode_with(*MAPPINGS)
    decoded_by(decode, BIRTH)
    return decode


def _sparkplug() -> list[Message]:
    return [
        BIRTH,
        message("NDATA", {"alias": 7, "double_value": 2.5}, seq=1),
        message("NDATA", {"alias": 7, "double_value": float("inf")}, {"alias": 8, "boolean_value": True}),
        message("NDATA", {"alias": 9, "double_value": 2.5}),
        message("NDATA", {"name": "pump", "datatype": BOOLEAN, "boolean_value": False}),
        message(
            "DBIRTH", {"name": "level", "alias": 1, "datatype": DOUBLE, "double_value": -0.0}, device="d1"
        ),
        message("DDATA", {"alias": 1, "double_value": 1.0}, device="d1"),
        message("NDEATH", {"name": "bdSeq", "long_value": 3}),
    ]


CODECS: dict[str, tuple[list[bytes], list[bytes]]] = {
    "senml": (
        [b"hw/s1/d1/senml", b"hw/s1/d2/senml"],
        [make_(pack) for pack, _ in PACKS.values() for make_ in (as_json, as_cbor)]
        + [payload for payload, _ in NO_PACKS.values() if len(payload) < 1000],
    ),
    "sparkplug": (
        [b"spBv1.0/g1/NDATA/n1", b"spBv1.0/g1/NBIRTH/n1", b"spBv1.0/g1/NDEATH/n1", b"spBv1.0/g1/DDATA/n1/d1", b"spBv1.0/g1/DBIRTH/n1/d1"],
        [payload for _, payload in _sparkplug()],
    ),
    "influx": ([b"hw/s1/d1/influx", b"hw/s1/d2/influx"], [payload for payload, _ in (*LINES.values(), *NO_LINES.values())]),
    "mapping": (
        [b"map/d1", b"map/d2", b"named/d1", b"bare/d1/x"],
        [payload for _, _, payload, _, _ in REAL.values()]
        + [b'{"t":5,"v":1}', b'{"t":5,"rows":[{"v":1,"p":[1,2]},{"t":6,"v":"2"}]}', b"[1,2]", b"5", b"ON", b"{", b"", b"nan", b'{"v":1e400}', b'{"t":"x"}'],
    ),
    "json": ([b"hw/s1/d1/data/x", b"hw/s1/d1/data", b"nowhere"], [b"1", b'{"t":1795000000,"v":2}', b'{"t":1795000000,"values":{"a":1,"b":2}}', b"{", b"NaN"]),
}  # fmt: skip
"""Topics and payloads of each codec; any topic may get any of the payloads."""

any_message = st.sampled_from(sorted(CODECS)).flatmap(
    lambda codec: st.tuples(st.sampled_from(CODECS[codec][0]), st.sampled_from(CODECS[codec][1]))
)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_a_burst_at_once_equals_its_messages_one_by_one(codec: str) -> None:
    """The same readings, series numbers and dead letters, for bursts of one codec."""

    @given(st.lists(st.tuples(*map(st.sampled_from, CODECS[codec])), min_size=1, max_size=12))
    def check(messages: list[Message]) -> None:
        assert_at_once_as_one_by_one(make, messages)

    check()


@given(st.lists(any_message, min_size=1, max_size=12))
def test_a_burst_of_several_codecs_equals_its_messages_one_by_one(messages: list[Message]) -> None:
    """However they are mixed, each message has its own readings, at its own place."""
    together, alone = make(), make()
    found = taken(together.burst(burst_of(*messages)), together.index, len(messages))
    assert found == [decoded_by(alone, one)[0] for one in messages]


FORGERIES: dict[str, list[Message]] = {
    "SenML": [
        (b"hw/s1/d1/senml", payload)
        for payload in (b'[{"n":"a","v":1}', b',{"n":"b","v":2}]', b'[{"n":"a","v":1}][{"n":"a","v":2}]', b'[{"n":"a","u":"}]', b'[{","v":5}]', b"")
    ],
    "SenML in CBOR": [
        (b"hw/s1/d1/senml", payload)
        for payload in (as_cbor([{"n": "a", "v": 1}])[:-1], b"\x07", as_cbor([{"n": "a", "v": 1}]) * 2, b"", cbor2.dumps([{-2: "x"}]) + cbor2.dumps([{0: "a", 2: 1}]))
    ],
    "Sparkplug": [
        (b"spBv1.0/g1/NDATA/n1", payload)
        for whole in [message("NDATA", {"alias": 7, "double_value": 2.5}, {"alias": 8, "boolean_value": True})[1]]
        for payload in (whole[:-3], whole[-3:], whole[: len(whole) // 2], whole[len(whole) // 2 :], whole + whole, b"")
    ],
    "Influx": [(b"hw/s1/d1/influx", payload) for payload in (b"m a=1", b",b=2", b'm s="x', b'",a=1', b"m a=", b"1")],
    "a mapping": [(b"map/d1", payload) for payload in (b'{"a":1', b',"b":2}', b'{"a":1}{"b":2}', b'{"a":1}\n{"b":2}', b'{"a":"}', b'{":5}', b"[{", b"}]")],
}  # fmt: skip


@pytest.mark.parametrize("messages", FORGERIES.values(), ids=FORGERIES)
def test_r16_no_payload_forges_anothers_reading(messages: list[Message]) -> None:
    """Cut in two, doubled, closed by a neighbour: each payload of a burst means what it means alone."""
    for some in (messages, messages[::-1], messages[:2], messages[:3], messages[2:4]):
        assert_at_once_as_one_by_one(make, some)
    together = decoded_by(make(), *messages)
    assert any(one.dead for one in together)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_twenty_thousand_payloads_of_noise_a_codec(codec: str) -> None:
    """Whatever bytes come: readings, nothing, or a dead letter with its bytes; and never long."""
    topics, good = CODECS[codec]
    chance = random.Random(codec)
    decode = decode_with(*MAPPINGS, cap=500)
    seen = {"readings": 0, "dead": 0}
    began = time.process_time()
    for _ in range(100):
        messages = [(chance.choice(topics), _noise(chance, good)) for _ in range(200)]
        found = decode.burst(burst_of(*messages))
        assert len(found.readings) == len(messages)
        assert np.isfinite(found.value).all()
        for letter in found.dead:
            assert letter.reason
            assert (letter.topic, letter.body) == messages[letter.message]
        assert len({letter.message for letter in found.dead}) == len(found.dead)
        seen["dead"] += len(found.dead)
        seen["readings"] += int((found.readings > 0).sum())
    assert time.process_time() - began < 5
    assert min(seen.values()) > 500, seen
    assert len(decode.index) <= 500


def _noise(chance: random.Random, good: list[bytes]) -> bytes:
    payload = bytearray(chance.choice(good) or b" ")
    match chance.randrange(6):
        case 0:
            payload = bytearray(chance.randbytes(chance.randrange(60)))
        case 1 | 2:
            for _ in range(chance.randrange(1, 4)):
                payload[chance.randrange(len(payload))] = chance.randrange(256)
        case 3:
            del payload[chance.randrange(len(payload)) :]
        case 4:
            payload += chance.choice(good)
        case _:
            pass
    return bytes(payload)


def test_a_bad_neighbour_of_another_codec_slows_nobody() -> None:
    """Headwater's JSON is parsed at once although a message of the burst has no topic of ours, and no JSON."""
    decode = make()
    good = [(b"hw/s1/d%d/data/x" % at, b'{"t":1795000000,"v":%d}' % at) for at in range(20)]
    decoded_by(decode, *good)
    calls: list[int] = []
    slow = decode._json.take
    decode._json.take = lambda burst, which, *more: calls.append(len(which)) or slow(burst, which, *more)  # type: ignore[method-assign,func-returns-value]
    found = decoded_by(decode, *good[:10], (b"nowhere", b"{"), (b"hw/s1/d1/senml", b"{"), *good[10:])
    assert calls == []
    assert found[10:12] == [Taken([], ["bad-topic"]), Taken([], ["unreadable"])]
    assert [len(one.readings) for one in found] == [1] * 10 + [0, 0] + [1] * 10


def test_json_alone_is_what_it_was() -> None:
    """The default formats leave Headwater's own topics as they are."""
    assert decoded_by(make(), (b"hw/s/d/data", json.dumps({"t": 5, "a": 1}).encode())) == [
        Taken([("s/d/a", 5_000_000, 1.0)], [])
    ]
