"""The stand-in for the v2 write API keeps the contract, as influxdb-client sees it; and line protocol is read strictly."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import ProtocolError

from headwater_appliance.audit_influxql import Source, names
from headwater_appliance.stack_servers import Influx
from headwater_shared.errors import StateError
from tests.influx_v2 import ORG, TOKEN, Fault, Store, listening
from tests.line_protocol import Malformed, lines, parse
from tests.stack import influxql, make, running

BUCKET = "headwater_1m"
T = 1_800_000_000_000_000
LINE = f"windows,device=p-1,level=1m,site=north count=60i,mean=50.5 {T}"


@pytest.fixture
def store() -> Iterator[Store]:
    with listening(Store()) as made:
        made.bucket(BUCKET)
        yield made


def client(store: Store, *, token: str = TOKEN, zipped: bool = True) -> InfluxDBClient:
    return InfluxDBClient(store.url, token=token, org=ORG, enable_gzip=zipped, timeout=5_000, retries=False)


def write(store: Store, *records: str, bucket: str = BUCKET, token: str = TOKEN, zipped: bool = True) -> None:
    """Write raw line protocol as the sink does."""
    with client(store, token=token, zipped=zipped) as ours:
        api = ours.write_api(write_options=SYNCHRONOUS)
        api.write(bucket, record="\n".join(records).encode(), write_precision=WritePrecision.US)


def refused(store: Store, *records: str, **more: Any) -> tuple[int, str]:
    """Write what is not taken; return status and body."""
    with pytest.raises(ApiException) as said:
        write(store, *(records or (LINE,)), **more)
    return said.value.status, str(said.value.body)


def test_points_are_taken_and_held(store: Store) -> None:
    """204, by gzip and plain, and what was sent is there, with its types."""
    write(store, LINE)
    write(store, LINE.replace("p-1", "p-2"), zipped=False)
    found = store.points(BUCKET, "windows")
    tags = (("device", "p-1"), ("level", "1m"), ("site", "north"))
    assert found[tags, T * 1000] == {"count": 60, "mean": 50.5}
    assert [(w.status, w.gzip, w.lines, w.precision) for w in store.writes] == [(204, True, 1, "us"), (204, False, 1, "us")]  # fmt: skip
    assert len(found) == 2


def test_a_point_that_comes_again_joins_its_fields(store: Store) -> None:
    """Same measurement, tags and time, in any order of tags: one point, whose fields are those of both, the later ones ruling."""
    write(store, LINE)
    write(store, f"windows,site=north,level=1m,device=p-1 mean=51.0,last=3.0 {T}")
    assert list(store.points(BUCKET, "windows").values()) == [{"count": 60, "mean": 51.0, "last": 3.0}]


def test_the_clients_own_points_are_taken(store: Store) -> None:
    """What influxdb-client itself makes of a Point, escapes included, reads back as it was."""
    fields = {"text": 'a "b" \\ c', "n": 3}
    point = {"measurement": "windows", "tags": {"site": "no rth,="}, "fields": fields, "time": T}
    with client(store) as ours:
        ours.write_api(write_options=SYNCHRONOUS).write(
            BUCKET, record=point, write_precision=WritePrecision.US
        )
    assert store.points(BUCKET, "windows") == {((("site", "no rth,="),), T * 1000): fields}


def test_who_may_not_and_what_is_not_there(store: Store) -> None:
    """401 of a wrong token, 404 of a bucket that is not there; nothing is taken."""
    assert refused(store, token="another") == (401, '{"code":"unauthorized","message":"unauthorized access"}')
    status, body = refused(store, bucket="headwater_10s")
    assert (status, "headwater_10s" in body) == (404, True)
    assert not store.points(BUCKET, "windows")


def test_a_malformed_line_refuses_the_batch_of_version_2(store: Store) -> None:
    """400, which quotes the line; none of the batch is written."""
    bad = f"windows,site=north count= {T}"
    status, body = refused(store, LINE, bad)
    assert (status, f"unable to parse '{bad}'" in body) == (400, True)
    assert not store.points(BUCKET, "windows")


def test_version_3_writes_the_rest_and_names_the_lines(store: Store) -> None:
    """400, with number, text and reason of each line that was not taken; the others are there."""
    store.version = "3"
    status, body = refused(
        store, LINE, "windows,site=north count=", LINE.replace("60i", "60.5"), LINE.replace("p-1", "p-2")
    )
    assert status == 400
    assert "partial write of line protocol occurred" in body
    assert '"line_number":2' in body
    assert '"line_number":3' in body
    assert '"line_number":1' not in body
    assert len(store.points(BUCKET, "windows")) == 2


def test_a_type_that_conflicts_drops_its_point(store: Store) -> None:
    """Version 2 answers 422, says field, both types and how many, and writes the rest."""
    write(store, LINE)
    status, body = refused(store, LINE.replace("60i", "60.5"), LINE.replace("p-1", "p-2"))
    assert status == 422
    assert "is type float, already exists as type integer dropped=1" in body
    assert len(store.points(BUCKET, "windows")) == 2


def test_what_is_older_than_the_bucket_keeps_is_dropped(store: Store) -> None:
    """422 says how many; a bucket without rules keeps all."""
    store.bucket("headwater_10s", 3600)
    store.now_ns = lambda: (T + 3_600_000_001) * 1000
    status, body = refused(store, LINE, bucket="headwater_10s")
    assert (status, "points beyond retention policy dropped=1" in body) == (422, True)
    write(store, LINE)


def test_what_is_too_large_is_413(store: Store) -> None:
    """By bytes as unpacked, and by lines."""
    store.most_bytes = 200
    assert refused(store, *[LINE] * 3)[0] == 413
    store.most_bytes, store.most_lines = 10**6, 2
    assert refused(store, *[LINE] * 3)[0] == 413
    write(store, LINE, LINE.replace("p-1", "p-2"))


@pytest.mark.parametrize("status", [429, 503, 500])
def test_faults_are_answered_as_asked_for(store: Store, status: int) -> None:
    """Once each, with Retry-After where it is given; then all is well."""
    store.faults += [Fault(status, retry_after="7"), Fault(status)]
    with pytest.raises(ApiException) as said:
        write(store, LINE)
    assert (said.value.status, said.value.headers["Retry-After"]) == (status, "7")
    assert refused(store)[0] == status
    write(store, LINE)
    assert store.statuses() == [status, status, 204]


@pytest.mark.parametrize(("cut", "there"), [("before", 0), ("after", 1)])
def test_a_connection_is_cut(store: Store, cut: Any, there: int) -> None:
    """Before the points are taken, or after: who wrote cannot tell which."""
    store.faults.append(Fault(cut=cut))
    with pytest.raises(ProtocolError):
        write(store, LINE)
    assert len(store.points(BUCKET, "windows")) == there


def test_slow_answers_and_writes_at_once(store: Store) -> None:
    """An answer takes as long as was asked for; how many writes were under way at one time is known."""
    store.standing = Fault(slow_s=0.2)
    began = time.monotonic()
    both = [threading.Thread(target=write, args=(store, LINE)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert time.monotonic() - began >= 0.2
    assert store.at_once == 2


def test_buckets_are_listed_and_made(store: Store) -> None:
    """By the client's own API, with retention; not if the token may not."""
    with client(store) as ours:
        assert ours.ping()
        api = ours.buckets_api()
        assert api.find_bucket_by_name(BUCKET).name == BUCKET
        assert api.find_bucket_by_name("headwater_10s") is None
        (org,) = ours.organizations_api().find_organizations(org=ORG)
        made = api.create_bucket(
            bucket_name="headwater_10s",
            org=org.id,
            retention_rules={"type": "expire", "everySeconds": 86_400},
        )
        assert (made.name, store.buckets["headwater_10s"].retention_s) == ("headwater_10s", 86_400)
        store.may_make_buckets = False
        with pytest.raises(ApiException) as said:
            api.create_bucket(bucket_name="headwater_1h", org=org.id)
        assert said.value.status == 401


def test_health_needs_no_token(store: Store) -> None:
    """As the real one: /health says pass in JSON."""
    asked = http.client.HTTPConnection("127.0.0.1", store.port, timeout=5)
    asked.request("GET", "/health")
    answer = asked.getresponse()
    assert (answer.status, b'"status":"pass"' in answer.read()) == (200, True)
    asked.close()


def test_a_store_that_is_away_refuses_and_comes_back_on_its_port(store: Store) -> None:
    """What it holds stays."""
    write(store, LINE)
    store.stop()
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection("127.0.0.1", store.port, timeout=5).connect()
    store.start()
    write(store, LINE)
    assert len(store.points(BUCKET, "windows")) == 1


def test_with_an_influxdb_behind_it_answers_influxql(tmp_path: Path) -> None:
    """As version 2 does through DBRP: with the token, buckets are databases; all points are there too, and only those taken."""
    influx = make(Influx, tmp_path / "influx")
    with running(influx), listening(Store("3", behind=influx)) as store:
        store.bucket(BUCKET)
        refused(store, LINE, "windows count=1i")
        assert names(Source(store.url, token=TOKEN)) == [BUCKET]
        with pytest.raises(StateError, match="does not let us read"):
            names(Source(store.url, token="another"))
        found = influxql(influx, "SELECT * FROM windows", db=BUCKET)
        assert found == [
            {"time": T, "count": 60, "device": "p-1", "level": "1m", "mean": 50.5, "site": "north"}
        ]


@pytest.mark.parametrize(
    "line",
    [f"m,a=1 v=1 {T}", f"m v=1,w=-1.5e-7,x=.5,y=1. {T}", f'm v="a\nb, c=d\\"e" {T}', f"m,a=b\\\\c v=t {T}"],
)
def test_what_is_line_protocol_is_read(line: str) -> None:
    """Floats in all their forms, strings with anything in them, backslashes that escape nothing."""
    assert parse(line, "us").time_ns == T * 1000


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("m,a=1 v=1", "no timestamp"),
        (f"m,a= v=1 {T}", "missing"),
        (f"m,a=1,a=2 v=1 {T}", "duplicate tags"),
        (f"m v=1,v=2 {T}", "duplicate field"),
        (f"m v=NaN {T}", "invalid number"),
        (f"m v=inf {T}", "invalid number"),
        (f"m v=1e999 {T}", "out of range"),
        (f"m v=9223372036854775808i {T}", "out of range"),
        (f"m v=1u {T}", "invalid number"),
        (f"m v=abc {T}", "invalid number"),
        (f'm v="abc {T}', "invalid"),
        (f"m  v=1 {T}", "invalid"),
        (f"m,a=1 v=1 {T} ", "invalid"),
        (f"m,v=1 v=1 {T}", "tags and fields"),
        (f"m,time=1 v=1 {T}", "reserved"),
        (f"_m v=1 {T}", "reserved"),
        (f"m,a=x\\ v=1 {T}", "invalid"),
        (f"m v=1 {2**63 // 1000 + 1}", "time outside range"),
        (f"m {T}", "invalid"),
        (f",a=1 v=1 {T}", "missing measurement"),
    ],
)
def test_line_protocol_is_read_strictly(line: str, why: str) -> None:
    """What is no line, or is read differently by two versions, is refused with a reason."""
    with pytest.raises(Malformed, match=why):
        parse(line, "us")


def test_a_newline_in_a_string_ends_no_line() -> None:
    """Lines are numbered as they were sent."""
    body = 'm a="1\n2" 1\nm a=1 2\n\nm b="\\"\n" 3'
    assert [line for _, line in lines(body)] == ['m a="1\n2" 1', "m a=1 2", 'm b="\\"\n" 3']
