"""SenML in JSON and CBOR: the examples of RFC 8428, base fields, relative times, and what may not be used."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest

from headwater_edge.decode import Decode
from headwater_edge.format_settings import FormatSettings
from tests.edge.decoding import ARRIVED, Taken, decode_with, decoded_by

TOPIC = b"hw/s1/d1/senml"
S = 1_000_000
LABELS = {
    "bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6,
    "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8,
}  # fmt: skip


def as_json(pack: list[dict[str, Any]]) -> bytes:
    return json.dumps(pack).encode()


def as_cbor(pack: list[dict[str, Any]]) -> bytes:
    return cbor2.dumps([{LABELS.get(k, k): v for k, v in record.items()} for record in pack])


def read(pack: list[dict[str, Any]], *, topic: bytes = TOPIC, decode: Decode | None = None) -> Taken:
    """Read a pack in both encodings, which must say the same."""
    decode = decode or decode_with()
    in_json, in_cbor = (decoded_by(decode, (topic, make(pack)))[0] for make in (as_json, as_cbor))
    assert in_json == in_cbor
    return in_json


OW = "s1/d1/urn:dev:ow:10e2073a01080063"

PACKS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, int | None, float]]]] = {
    "5.1.1 single datapoint": (
        [{"n": "urn:dev:ow:10e2073a01080063", "u": "Cel", "v": 23.1}],
        [(OW, None, 23.1)],
    ),
    "5.1.2 multiple datapoints": (
        [
            {"bn": "urn:dev:ow:10e2073a01080063:", "n": "voltage", "u": "V", "v": 120.1},
            {"n": "current", "u": "A", "v": 1.2},
        ],
        [(f"{OW}:voltage", None, 120.1), (f"{OW}:current", None, 1.2)],
    ),
    "5.1.2 with base time and version": (
        [
            {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1.276020076001e09, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1},
            {"n": "current", "t": -5, "v": 1.2},
            {"n": "current", "t": -4, "v": 1.3},
            {"n": "current", "v": 1.7},
        ],
        [
            (f"{OW}:voltage", 1_276_020_076_001_000, 120.1),
            (f"{OW}:current", 1_276_020_071_001_000, 1.2),
            (f"{OW}:current", 1_276_020_072_001_000, 1.3),
            (f"{OW}:current", 1_276_020_076_001_000, 1.7),
        ],
    ),
    "5.1.3 units where the name is that of the device": (
        [
            {"bn": "urn:dev:ow:10e2073a01080063", "bt": 1.320067464e09, "bu": "%RH", "v": 20},
            {"u": "lon", "v": 24.30621},
            {"u": "lat", "v": 60.07965},
            {"t": 60, "v": 20.3},
        ],
        [
            (OW, 1_320_067_464_000_000, 20.0),
            (f"{OW}.lon", 1_320_067_464_000_000, 24.30621),
            (f"{OW}.lat", 1_320_067_464_000_000, 60.07965),
            (OW, 1_320_067_524_000_000, 20.3),
        ],
    ),
    "5.1.5 a collection of resources in one pack": (
        [
            {"bn": "2001:db8::2/", "bt": 1.320078429e09, "n": "temperature", "u": "Cel", "v": 25.2},
            {"n": "humidity", "u": "%RH", "v": 30},
            {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
        ],
        [
            ("s1/d1/2001:db8::2.temperature", 1_320_078_429_000_000, 25.2),
            ("s1/d1/2001:db8::2.humidity", 1_320_078_429_000_000, 30.0),
            ("s1/d1/2001:db8::1.temperature", 1_320_078_429_000_000, 12.3),
        ],
    ),
    "boolean and text": (
        [{"bn": "x:", "n": "open", "vb": True}, {"n": "label", "vs": "Machine Room"}, {"n": "data", "vd": "aGkgCg"}],
        [("s1/d1/x:open", None, 1.0)],
    ),
    "base value and sum": (
        [
            {"bn": "m:", "bv": 100.0, "bs": 1000.0, "n": "a", "v": 1.5, "s": 7.0},
            {"n": "b", "v": -1.0},
            {"n": "c"},
        ],
        [
            ("s1/d1/m:a.sum", None, 1007.0), ("s1/d1/m:a", None, 101.5),
            ("s1/d1/m:b.sum", None, 1000.0), ("s1/d1/m:b", None, 99.0),
            ("s1/d1/m:c.sum", None, 1000.0),
        ],
    ),
    "a sum without a value": ([{"n": "energy", "s": 12.5}], [("s1/d1/energy.sum", None, 12.5)]),
    "a value that is missing beside a base value is 0": (
        [{"bn": "m:", "bv": 20}, {"n": "a"}, {"n": "b", "v": 1}],
        [("s1/d1/m:a", None, 20.0), ("s1/d1/m:b", None, 21.0)],
    ),
    "relative times": (
        [{"n": "a", "t": -5.5, "v": 1}, {"n": "a", "v": 2}, {"n": "a", "t": 3, "v": 3}, {"n": "a", "t": 2**28 - 1, "v": 4}, {"n": "a", "t": 2**28, "v": 5}],
        [
            ("s1/d1/a", ARRIVED - 5_500_000, 1.0), ("s1/d1/a", None, 2.0), ("s1/d1/a", ARRIVED + 3 * S, 3.0),
            ("s1/d1/a", ARRIVED + (2**28 - 1) * S, 4.0), ("s1/d1/a", 2**28 * S, 5.0),
        ],
    ),
    "a base time that is relative": ([{"bt": -10, "n": "a", "t": 2, "v": 1}], [("s1/d1/a", ARRIVED - 8 * S, 1.0)]),
    "base fields alone": ([{"bn": "m:", "bt": 1.8e9}, {"n": "a", "v": 1}], [("s1/d1/m:a", 1_800_000_000 * S, 1.0)]),
    "fields that nobody knows yet": ([{"n": "a", "v": 1, "x": {"y": 1}}], [("s1/d1/a", None, 1.0)]),
    "an empty pack": ([], []),
}  # fmt: skip


@pytest.mark.parametrize(("pack", "wanted"), PACKS.values(), ids=PACKS)
def test_records_are_resolved_as_the_rfc_says(
    pack: list[dict[str, Any]], wanted: list[tuple[str, int | None, float]]
) -> None:
    """In JSON and in CBOR alike: base name, time, value and sum, relative times, booleans; text is no reading."""
    assert read(pack) == Taken(wanted, [])


def test_what_the_topic_leaves_open_comes_from_the_name() -> None:
    """Device, and site, are read from the resolved name where the topic names none; a topic's device is not said twice."""
    decode = decode_with(
        FormatSettings(topics=("plant/{site}",), codec="senml"),
        FormatSettings(topics=("packs",), codec="senml"),
    )
    pack = [
        {"bn": "urn:dev:ow:10e2073a01080063:", "n": "voltage", "v": 1},
        {"bn": "s9/d9/", "n": "flow", "v": 2},
    ]
    found = [
        [name for name, _, _ in read(pack, topic=topic, decode=decode).readings]
        for topic in (b"plant/s2", b"packs", b"hw/s1/10e2073a01080063/senml", b"hw/s1/d9/senml")
    ]
    assert found == [
        ["s2/urn:dev:ow:10e2073a01080063/voltage", "s2/s9.d9/flow"],
        ["home/urn:dev:ow:10e2073a01080063/voltage", "s9/d9/flow"],
        ["s1/10e2073a01080063/voltage", "s1/10e2073a01080063/s9.d9.flow"],
        ["s1/d9/urn:dev:ow:10e2073a01080063:voltage", "s1/d9/flow"],
    ]
    assert decoded_by(decode, (b"packs", b'[{"n":"lonely","v":1}]')) == [Taken([], ["no-device"])]


REFUSED = {
    "a newer version": (b'[{"bver":11,"n":"a","v":1}]', "senml-version"),
    "a field that must be understood": (b'[{"n":"a","v":1,"new_":1}]', "senml-version"),
    "two values": (b'[{"n":"a","v":1,"vb":true}]', "unreadable"),
    "no value": (b'[{"n":"a"}]', "unreadable"),
    "no list": (b'{"n":"a","v":1}', "unreadable"),
    "no records": (b"[1]", "unreadable"),
    "a value that is text": (b'[{"n":"a","v":"1"}]', "unreadable"),
    "a time too far": (b'[{"n":"a","v":1,"t":1e30}]', "bad-time"),
    "a time too long ago": (b'[{"n":"a","v":1,"t":-300000000}]', "bad-time"),
    "empty": (b"", "empty"),
    "cut JSON": (b'[{"n":"a","v":1}', "unreadable"),
    "cut CBOR": (as_cbor([{"n": "a", "v": 1.5}])[:-1], "unreadable"),
    "two CBOR items": (as_cbor([{"n": "a", "v": 1.5}]) * 2, "unreadable"),
    "a CBOR map": (cbor2.dumps({0: "a", 2: 1}), "unreadable"),
    "a CBOR pattern": (b"\x81\xa2\x00\x61a\x02\xd8\x23\x61a", "unreadable"),
    "CBOR that is deep": (b"\x81" * 100_000, "unreadable"),
    "NaN": (cbor2.dumps([{0: "a", 2: float("nan")}]), "not-taken"),
    "beyond float64": (cbor2.dumps([{0: "a", 2: 10**400}]), "unreadable"),
}


@pytest.mark.parametrize(("payload", "reason"), REFUSED.values(), ids=REFUSED)
def test_packs_that_cannot_be_used_are_dead_letters(payload: bytes, reason: str) -> None:
    """Whole, as the RFC wants it; the pack beside it counts."""
    good = (TOPIC, b'[{"n":"b","v":2}]')
    assert decoded_by(decode_with(), (TOPIC, payload), good) == [
        Taken([], [reason]), Taken([("s1/d1/b", None, 2.0)], []),
    ]  # fmt: skip


def test_cbor_decimals() -> None:
    """A decimal fraction is a number (RFC 8428, 6), and so are halves and big integers."""
    pack = (
        b"\x83\xa2\x00\x61a\x02\xc4\x82\x20\x19\x00\xeb\xa2\x00\x61b\x02\xf9\x3e\x00\xa2\x00\x61c\x02\xc2\x49\x01"
        + bytes(8)
    )
    assert decoded_by(decode_with(), (TOPIC, pack)) == [
        Taken([("s1/d1/a", None, 23.5), ("s1/d1/b", None, 1.5), ("s1/d1/c", None, 2.0**64)], [])
    ]
