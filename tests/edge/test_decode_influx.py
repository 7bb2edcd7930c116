"""Influx line protocol: its types, its escapes, tags as part of the metric, and lines that are none."""

from __future__ import annotations

import pytest

from headwater_edge.format_settings import FormatSettings
from tests.edge.decoding import ARRIVED, Taken, decode_with, decoded_by

TOPIC = b"hw/s1/d1/influx"
NS = ARRIVED * 1000

# docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/
LINES: dict[str, tuple[bytes, list[tuple[str, int | None, float]]]] = {
    "one field": (b"weather temperature=82 %d" % NS, [("weather.temperature", ARRIVED, 82.0)]),
    "tags, sorted": (b"weather,b=2,a=1 t=82,h=-7.1e1 %d" % NS, [("weather,a=1,b=2.t", ARRIVED, 82.0), ("weather,a=1,b=2.h", ARRIVED, -71.0)]),
    "no time": (b"weather t=82", [("weather.t", None, 82.0)]),
    "milliseconds": (b"weather t=82 %d" % (ARRIVED // 1000), [("weather.t", ARRIVED, 82.0)]),
    "types": (b'm i=12i,u=7u,t=t,f=FALSE,s="text, with = and \\" in it",x=1 %d' % NS, [("m.i", ARRIVED, 12.0), ("m.u", ARRIVED, 7.0), ("m.t", ARRIVED, 1.0), ("m.f", ARRIVED, 0.0), ("m.x", ARRIVED, 1.0)]),
    "escapes": (rb"wea\,ther,loc\=ation=us\ midwest temp\=erature\ C=82", [("wea,ther,loc=ation=us midwest.temp=erature C", None, 82.0)]),
    "lines, comments and blanks": (b"# a comment\nm a=1 %d\n\r\n  m b=2  \n" % NS, [("m.a", ARRIVED, 1.0), ("m.b", None, 2.0)]),
    "text alone": (b'm s="x"', []),
    "levels in names": (b"disk,path=/var/log used=5", [("disk,path=.var.log.used", None, 5.0)]),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "wanted"), LINES.values(), ids=LINES)
def test_lines(payload: bytes, wanted: list[tuple[str, int | None, float]]) -> None:
    """Each field that is a number or a boolean is a reading of its measurement, tags and name."""
    assert decoded_by(decode_with(), (TOPIC, payload)) == [
        Taken([(f"s1/d1/{metric}", time, value) for metric, time, value in wanted], [])
    ]


REFUSED = {
    "empty": (b"", "empty"),
    "blank": (b" \n ", "empty"),
    "no fields": (b"weather", "unreadable"),
    "no value": (b"weather t=", "unreadable"),
    "a word": (b"weather t=warm", "unreadable"),
    "an open quote": (b'weather t="warm', "unreadable"),
    "a comma too many": (b"weather t=1, 5", "unreadable"),
    "no tag's value": (b"weather,a= t=1", "unreadable"),
    "a time that is a word": (b"weather t=1 now", "bad-time"),
    "a time with a point": (b"weather t=1 1.5", "bad-time"),
    "a time of a hundred digits": (b"weather t=1 " + b"1" * 100, "bad-time"),
    "no UTF-8": (b"weather t=1\xff", "unreadable"),
    "one bad line of two": (b"weather t=1\nweather", "unreadable"),
    "NaN": (b"weather t=NaN", "not-taken"),
    "too long a name": (b"weather %s=1" % (b"x" * 200), "not-taken"),
}


@pytest.mark.parametrize(("payload", "reason"), REFUSED.values(), ids=REFUSED)
def test_lines_that_are_none_are_dead_letters(payload: bytes, reason: str) -> None:
    """The message is kept whole; the one beside it counts."""
    assert decoded_by(decode_with(), (TOPIC, payload), (TOPIC, b"m x=1")) == [
        Taken([], [reason]), Taken([("s1/d1/m.x", None, 1.0)], []),
    ]  # fmt: skip


def test_a_tag_names_the_device_where_the_topic_does_not() -> None:
    """`host`, or the tag of the settings; it is not said again in the metric."""
    decode = decode_with(
        FormatSettings(topics=("t/#",), codec="influx"),
        FormatSettings(topics=("u/{site}",), codec="influx", device="id"),
    )
    found = decoded_by(
        decode,
        (b"t/x/y", b"cpu,cpu=0,host=h1 idle=98"),
        (b"u/s2", b"cpu,id=a/b idle=98"),
        (b"t", b"cpu idle=1"),
    )
    assert found == [
        Taken([("home/h1/cpu,cpu=0.idle", None, 98.0)], []), Taken([("s2/a.b/cpu.idle", None, 98.0)], []), Taken([], ["no-device"]),
    ]  # fmt: skip


def test_hostile_lines_take_no_time() -> None:
    """What has neither comma nor space, or only those, is looked at once; a memory of heads is bounded."""
    decode = decode_with()
    for payload in (
        b"a" * 200_000,
        b"a,b=" * 50_000,
        b"\\" * 200_000,
        b"a " * 100_000,
        b"m x=" + b"1" * 200_000,
        b"m " + b"x=1," * 50_000,
    ):
        assert decoded_by(decode, (TOPIC, payload))[0].dead
    many = b"\n".join(b"m,t=%d x=1" % at for at in range(3000))
    assert len(decoded_by(decode, (TOPIC, many))[0].readings) == 3000
    assert len(decode._topics.places([TOPIC])[0].heads) <= 1024
