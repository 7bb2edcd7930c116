"""Series that are let go, as decode sees it: no topic and no birth remembers a number that is another's by now (R12)."""

from __future__ import annotations

from headwater_edge.decode import Decode
from headwater_edge.format_settings import FormatSettings
from headwater_edge.metric_settings import MetricSettings
from headwater_edge.topics import SeriesIndex
from tests.edge.decoding import Message, Taken, decode_with, decoded_by
from tests.edge.test_decode_sparkplug import BIRTH, message

OF_ALL_FORMATS: list[Message] = [
    (b"hw/s/a/data/temp", b"1"),
    (b"hw/s/b/data", b'{"temp":2,"flow":3}'),
    (b"hw/s/c/senml", b'[{"n":"temp","v":4}]'),
    (b"hw/s/e/influx", b"room temp=5"),
    (b"meters/f", b'{"deep":{"temp":6}}'),
    message("NDATA", {"alias": 7, "double_value": 7.0}, seq=1),
]
OTHERS: list[Message] = [(b"hw/s/other/data/m%d" % n, b"%d" % n) for n in range(40)]


def goes(decode: Decode, *but: str) -> None:
    """Let go of all series but some, as a tick that is just made does."""
    index = decode.index
    index.take_fresh()
    gone = [number for number, name in enumerate(index.names) if name and name not in but]
    index.let_go(gone)
    decode.let_go(gone)


def test_r12_what_speaks_again_is_itself_whatever_its_format() -> None:
    """Whoever has its number now: its readings are of its own name, before others came and after."""
    decode = decode_with(FormatSettings(topics=("meters/{device}",), codec="mapping"))
    assert decoded_by(decode, BIRTH)[0].dead == []
    before = decoded_by(decode, *OF_ALL_FORMATS)
    assert all(one.readings and not one.dead for one in before)
    goes(decode)
    known = len(decode.index.names)
    decoded_by(decode, *OTHERS)
    assert len(decode.index.names) == max(known, len(OTHERS))
    assert decoded_by(decode, *OF_ALL_FORMATS) == before
    goes(decode, "s/other/m0")
    assert decoded_by(decode, *reversed(OF_ALL_FORMATS)) == before[::-1]


def test_r12_a_number_is_taken_up_with_what_holds_for_its_series_now() -> None:
    """Valid ranges go by the name that has the number."""
    metrics = (MetricSettings(series="*/temp", valid=(0.0, 1.0)),)
    decode = decode_with(metric=metrics)
    assert decoded_by(decode, (b"hw/s/a/data/temp", b"5"))[0].dead == ["out-of-range"]
    goes(decode)
    assert decoded_by(decode, (b"hw/s/a/data/flow", b"5")) == [Taken([("s/a/flow", None, 5.0)], [])]
    goes(decode)
    assert decoded_by(decode, (b"hw/s/a/data/temp", b"5"))[0].dead == ["out-of-range"]
    assert decode.index.names == ["s/a/temp"]


def test_numbers_that_are_free_are_given_the_smallest_first_and_told() -> None:
    """None are told where they are the next ones; the cap counts those that live."""
    index = SeriesIndex(["a/a/a", "", "b/b/b"], 4)
    assert [index.number(name) for name in ("c/c/c", "d/d/d", "a/a/a")] == [1, 3, 0]
    assert (index.take_fresh(), index.taken) == (["c/c/c", "d/d/d"], [1, 3])
    assert not isinstance(index.number("e/e/e"), int)
    index.let_go([2, 0])
    assert [index.number(name) for name in ("e/e/e", "b/b/b")] == [0, 2]
    assert (index.take_fresh(), index.taken, len(index)) == (["e/e/e", "b/b/b"], [0, 2], 4)
    index.cap = 10
    assert index.number("f/f/f") == 4
    assert (index.take_fresh(), index.taken) == (["f/f/f"], [])
