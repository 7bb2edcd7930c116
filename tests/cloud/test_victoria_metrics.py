"""VictoriaMetrics takes what the sink writes, by both of its ways. It writes no point over: nothing about revisions is proved there."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision

from headwater_appliance.stack_servers import VictoriaMetrics
from headwater_cloud.influx_lines import line, window_head, window_lines
from tests.cloud.test_influx_lines import windows_of
from tests.stack import make, running

T_MS = 1_795_000_000_000
Write = Callable[[VictoriaMetrics, bytes], None]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaMetrics]:
    server = make(VictoriaMetrics, tmp_path_factory.mktemp("victoria") / "it")
    with running(server):
        yield server


def ask(server: VictoriaMetrics, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        asked.request(method, path, body)
        answer = asked.getresponse()
        return answer.status, answer.read()
    finally:
        asked.close()


def by_v1(server: VictoriaMetrics, body: bytes) -> None:
    status, said = ask(server, "POST", f"/write?{urlencode({'db': 'headwater_1m', 'precision': 'u'})}", body)
    assert status == 204, said


def by_v2(server: VictoriaMetrics, body: bytes) -> None:
    with InfluxDBClient(server.url, token="any", org="any", enable_gzip=True) as client:
        client.write_api(write_options=SYNCHRONOUS).write(
            "headwater_1m", record=body, write_precision=WritePrecision.US
        )


def window(device: str, values: list[float]) -> bytes:
    """One window as the sink writes it."""
    made = windows_of([values])
    made.start[:] = T_MS * 1000
    return window_lines([window_head(f"north hall/{device}/flow", "1m")], made)


def stored(server: VictoriaMetrics, **labels: str) -> dict[str, dict[str, Any]]:
    """Return the series that have these labels, by name."""
    ask(server, "GET", "/internal/force_flush")
    match = ",".join(f'{name}="{value}"' for name, value in labels.items())
    _, body = ask(server, "GET", f"/api/v1/export?{urlencode({'match[]': '{' + match + '}'})}")
    found = [msgspec.json.decode(text) for text in body.splitlines()]
    return {one["metric"]["__name__"]: one for one in found}


@pytest.mark.parametrize(("write", "device"), [(by_v1, "pump-1"), (by_v2, "pump-2")])
def test_it_takes_the_windows_of_the_sink(server: VictoriaMetrics, write: Write, device: str) -> None:
    """Each field is a series of the measurement and the field, with the tags as labels, at the window's start."""
    write(server, window(device, [1.5, 2.5, 3.5]))
    found = stored(server, device=device)
    wanted = {"count": 3, "mean": 2.5, "min": 1.5, "max": 3.5, "last": 3.5, "flags": 4}
    assert {name: found[f"windows_{name}"]["values"] for name in wanted} == {
        name: [value] for name, value in wanted.items()
    }
    one = found["windows_mean"]
    assert one["timestamps"] == [T_MS]
    assert one["metric"].items() >= {"site": "north hall", "metric": "flow", "level": "1m"}.items()
    assert ("db" in one["metric"]) == (write is by_v1), "a bucket's name is not kept: the level is a label"


def test_texts_are_not_kept(server: VictoriaMetrics) -> None:
    """What was found has numbers and true or false there; its words are gone."""
    by_v1(
        server,
        line("alerts", {"site": "s", "rule": "hot"}, {"id": "a1", "open": True, "value": 81.5}, T_MS * 1000),
    )
    found = {name: one["values"] for name, one in stored(server, rule="hot").items()}
    assert (found["alerts_value"], found["alerts_open"]) == ([81.5], [1])
    assert found.get("alerts_id", [0]) == [0]


def test_it_writes_no_point_over(server: VictoriaMetrics) -> None:
    """A revision leaves the older one beside it. Why revisions, and the audit, are proved on InfluxDB: the day this fails, prove them here."""
    by_v1(server, window("pump-3", [1.5]))
    by_v1(server, window("pump-3", [1.5, 2.5]))
    assert sorted(stored(server, device="pump-3")["windows_count"]["values"]) == [1, 2]
