"""Windows and what was found become points that say all that the cloud side knows, and nothing that a parser could take otherwise."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from headwater_cloud.influx_found import alert_line, anomaly_line, device_line, event_line
from headwater_cloud.influx_lines import database, line, window_head, window_lines
from headwater_cloud.merge import Windows
from headwater_cloud.quantiles import quantiles, several
from headwater_cloud.views import AlertEventView, AlertView, AnomalyView, DeviceChangeView
from headwater_shared.aggregates import Aggregates
from headwater_shared.parts import Sketches
from headwater_shared.records import RegistryChange
from headwater_shared.sketch import buckets_of, quantile


def windows_of(rows: list[list[float]]) -> Windows:
    """Make windows of the readings of each; times count from 0, a second each."""
    n = len(rows)
    zero = np.zeros(n, np.int64)
    a = Aggregates.empty(n)
    a.count[:] = [len(row) for row in rows]
    some = [row or [0.0] for row in rows]
    a.mean[:] = [math.fsum(row) / len(row) for row in some]
    a.m2[:] = [sum((one - sum(row) / len(row)) ** 2 for one in row) for row in some]
    a.min[:], a.max[:] = [min(row) for row in some], [max(row) for row in some]
    a.first[:], a.last[:] = [row[0] for row in some], [row[-1] for row in some]
    a.digest[:] = np.arange(n, dtype=np.uint64) + np.uint64(2**63 + 2**33 + 7)
    sketches = [buckets_of(np.array(row)) for row in rows]
    bucket, count, ends = [], [], []
    for one in sketches:
        values, times = np.unique(one, return_counts=True)
        bucket += values.tolist()
        count += times.tolist()
        ends.append(len(bucket))
    start = np.arange(n) * 1_000_000
    return Windows(
        zero, start, zero, zero + 1, zero, zero, zero + 3, zero + 4, zero, a,
        Sketches(np.array(ends), np.array(bucket, np.int64), np.array(count, np.int64)),
    )  # fmt: skip


def fields_of(text: bytes) -> dict[str, str]:
    """Read the fields of a line whose texts have no spaces and commas."""
    return dict(field.split("=", 1) for field in text.split(b" ")[1].decode().split(","))


def test_a_window_becomes_a_point_with_every_field() -> None:
    """Measurement, tags in sorted order, all fields, the start in microseconds: nothing of a window is left to another point."""
    body = window_lines([window_head("plant/pump 1/temp,a=b", "10s")], windows_of([[1.5, 2.5, 4.0]]))
    tags, _, time = body.decode().rsplit(" ", 2)
    assert (tags, time) == (r"windows,device=pump\ 1,level=10s,metric=temp\,a\=b,site=plant", "0\n")
    found = dict(field.split("=") for field in body.decode().rsplit(" ", 2)[1].split(","))
    assert {name: found.pop(name) for name in ("count", "digest_hi", "digest_lo", "parts", "revision", "flags")} == {
        "count": "3i", "digest_hi": f"{2**31 + 2}i", "digest_lo": "7i", "parts": "1i", "revision": "3i", "flags": "4i",
    }  # fmt: skip
    assert {name: float(value) for name, value in found.items()} == pytest.approx({
        "mean": 8 / 3, "stddev": math.sqrt(((1.5 - 8 / 3) ** 2 + (2.5 - 8 / 3) ** 2 + (4 - 8 / 3) ** 2) / 3), "min": 1.5,
        "max": 4.0, "first": 1.5, "last": 4.0, "p50": 2.5, "p95": 4.0, "p99": 4.0,
    }, rel=1 / 64)  # fmt: skip


def test_floats_read_back_as_the_same_bits() -> None:
    """Very large, very small, negative zero: each field of floats is the shortest text of its bits."""
    values = [0.1, -0.0, 1e300, 5e-324, -1.7976931348623157e308, 1 / 3, 123456789012345680.0]
    body = window_lines(
        [window_head("a/b/c", "10s")] * len(values), windows_of([[value] for value in values])
    )
    for value, text in zip(values, body.splitlines(), strict=True):
        assert np.float64(fields_of(text)["first"]).view(np.int64) == np.float64(value).view(np.int64)


def test_what_no_store_takes_is_left_out_or_bounded() -> None:
    """A mean that is no number is no field; an infinite spread is the largest float."""
    made = windows_of([[1.0], [2.0]])
    made.aggregates.mean[0] = np.nan
    made.aggregates.m2[1] = np.inf
    first, second = window_lines([window_head("a/b/c", "10s")] * 2, made).splitlines()
    assert b"count=1i,stddev=0.0," in first
    assert b"mean" not in first
    assert fields_of(second)["stddev"] == "1.7976931348623157e308"


def test_a_window_of_count_0_says_0_everywhere() -> None:
    """A session that was bridged is written over, since stores differ in how they delete."""
    made = windows_of([[]])
    made.aggregates.digest[0], made.parts[0], made.revision[0], made.flags[0] = 0, 0, 0, 0
    assert {float(value.rstrip("i")) for value in fields_of(window_lines([b"windows "], made)).values()} == {
        0.0
    }


def test_several_quantiles_are_those_of_the_plain_one() -> None:
    """Of negative values too, whose buckets fall as they rise."""
    made = np.random.default_rng(7)
    rows = [made.normal(0, 10, size).tolist() for size in (1, 2, 5, 40)] + [[]]
    sketches = windows_of(rows).sketches
    for q, found in zip((0.0, 0.5, 0.99), several(sketches, (0.0, 0.5, 0.99)), strict=True):
        assert np.array_equal(found, quantiles(sketches, q), equal_nan=True)
        for at, row in enumerate(rows):
            bucket, count = np.unique(buckets_of(np.array(row)), return_counts=True)
            assert found[at] == pytest.approx(quantile(bucket, count, q), nan_ok=True)


def test_what_an_agent_should_not_send_is_written_all_the_same() -> None:
    """A series that is none, a value that SQLite keeps as NULL: nobody else's points wait for it."""
    assert window_head("odd", "10s") == b"windows,level=10s,site=odd "
    assert window_head("+/+/temp", "10s") == b"windows,device=+,level=10s,metric=temp,site=+ "
    begin = AnomalyView("a1", "begin", "edge", "hot", "a/b/c", 1, 1, None, None, "info", "", "", "", 0.0)  # type: ignore[arg-type]
    assert b"value" not in anomaly_line(begin, None)


def test_text_cannot_break_a_line() -> None:
    """Quotes, backslashes and newlines of names and texts stay within their tag or field."""
    made = line(
        "m", {"a": "x\\", "b": "", "c": "l\nm"}, {"text": 'say "no\\"\n', "n": 1, "ok": True, "none": None}, 5
    )
    assert made == 'm,a=x\uff3c,c=l\\ m text="say \\"no\\\\\\" ",n=1i,ok=true 5\n'.encode()


@pytest.mark.parametrize(
    ("level", "name"),
    [("10s", "hw_10s"), ("1m@arrival", "hw_1m_arrival"), ("10m/1m", "hw_10m_1m"), ("found", "hw_found")],
)
def test_a_level_has_a_database(level: str, name: str) -> None:
    """Its name is the level's, with an underscore for whatever is no letter or digit."""
    assert database("hw", level) == name


def test_an_anomaly_is_one_point_with_its_end() -> None:
    """Begin and end have one place, so that the end writes over what was open."""
    begin = AnomalyView(
        "a1",
        "begin",
        "edge",
        "hot",
        "plant/pump/temp",
        1_000,
        1_000,
        9.0,
        None,
        "warning",
        "hot",
        "",
        "",
        0.5,
    )
    end = msgspec.structs.replace(begin, phase="end", time_us=2_001_000)
    still, over = anomaly_line(begin, None), anomaly_line(begin, end)
    assert still.startswith(b"anomalies,device=pump,metric=temp,rule=hot,site=plant id=")
    assert b"open=true,end_us=0i,seconds=0.0 1000000\n" in still
    assert b"open=false,end_us=2001000i,seconds=2.0 1000000\n" in over
    assert b"limit" not in still


def test_an_alert_and_its_events_are_points_of_its_rule_and_subject() -> None:
    """Tags hold no id; events of one moment have places of their own, in their order."""
    alert = AlertView("0123abcd", "hot", "plant/pump/temp", "firing", "warning", "hot", 5_000, 5_000, 9, "plant/pump",
                      1, "plant", "plant/pump")  # fmt: skip
    assert alert_line(alert).startswith(b"alerts,device=pump,rule=hot,site=plant,subject=plant/pump/temp id=")
    assert alert_line(alert).endswith(b",open=true 5000000\n")
    events = [AlertEventView(n, "firing", "firing", "warning", "hot", "", "", 7_000, 5_000) for n in (0, 1)]
    first, second = (int(event_line(alert, event, 9.0).split()[-1]) for event in events)
    assert second == first + 1
    assert first // 1_000_000 == 7


def test_a_device_has_what_the_registry_knows() -> None:
    """Status as a word and a number; what was taken out of the registry is not told."""
    change = DeviceChangeView("plant/pump", 1_000, "silent", "online", "quiet", 500, "edge")
    entry = RegistryChange("plant/pump", 1, False, "P1", "hall", "ann", "", {}, "")
    assert device_line(change, entry) == (
        b'devices,device=pump,site=plant status="silent",before="online",reason="quiet",heard_us=500i,code=1i,agent="edge",'
        b'model="P1",place="hall",owner="ann" 1000000\n'
    )
    assert b'model="",place=""' in device_line(change, msgspec.structs.replace(entry, removed=True))
