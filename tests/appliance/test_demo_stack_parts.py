"""The parts of `headwater demo --stack` that can be looked at one by one: the webhook, the panels' queries, what is missing."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headwater_appliance import demo_stack, stack_servers
from headwater_appliance.demo_settings import pace_of
from headwater_appliance.demo_stack_hook import Hook
from headwater_appliance.demo_stack_panels import Shown, queries
from headwater_appliance.demo_stack_query import influxql
from headwater_shared.errors import PartMissing, SettingsError, TryAgain
from tests.stack import make, running
from tests.support import ROOT


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as made:
        yield made


def _post(hook: Hook, body: bytes) -> int:
    asked = http.client.HTTPConnection("127.0.0.1", hook.port, timeout=5)
    try:
        asked.request("POST", "/", body)
        return asked.getresponse().status
    finally:
        asked.close()


def _alert(state: str, **labels: str) -> dict[str, object]:
    return {"status": state, "labels": {"alertname": "too-hot", **labels}, "annotations": {"text": "hot"}}


def test_what_is_posted_is_told_once(hook: Hook) -> None:
    """Each alert of a notification comes out of `news` once, in order, and says whose it is."""
    ours = _alert("firing", source="headwater", subject="a/p-1/temp")
    body = {"version": "4", "status": "firing", "alerts": [ours, _alert("resolved")], "groupKey": "{}"}
    assert _post(hook, msgspec.json.encode(body)) == 200
    assert [(one.name, one.status, one.subject, one.is_ours) for one in hook.news()] == [
        ("too-hot", "firing", "a/p-1/temp", True),
        ("too-hot", "resolved", "", False),
    ]
    assert hook.news() == []
    assert len(hook.told) == 2


def test_what_is_no_notification_is_refused(hook: Hook) -> None:
    """Something else gets 400, and nothing of it is kept."""
    assert _post(hook, b"hello") == 400
    assert hook.news() == []


_BOARD = {
    "title": "Fleet",
    "templating": {
        "list": [
            {"name": "site", "includeAll": True, "allValue": ".*"},
            {"name": "level", "includeAll": False},
        ]
    },
    "panels": [
        {
            "title": "One",
            "targets": [
                {
                    "datasource": {"type": "influxdb"},
                    "query": 'SELECT 1 FROM "h_$level".."w" WHERE "site" =~ /^$site$/ AND $timeFilter GROUP BY time(${__interval}) AND $unknown',
                }
            ],
        },
        {
            "type": "row",
            "panels": [
                {
                    "title": "Two",
                    "targets": [
                        {
                            "datasource": {"type": "prometheus"},
                            "expr": 'rate(x{site=~"$site"}[$__rate_interval])',
                        }
                    ],
                }
            ],
        },
    ],
}


def test_a_panel_is_asked_as_grafana_asks_it(tmp_path: Path) -> None:
    """Variables of the dashboard and of Grafana are put in, panels in rows are asked too, an unknown name stays."""
    (tmp_path / "fleet.json").write_bytes(msgspec.json.encode(_BOARD))
    one, two = queries({"level": "10s"}, Shown(1_000_000, 2_500_000), tmp_path)
    assert one.text == (
        'SELECT 1 FROM "h_10s".."w" WHERE "site" =~ /^.*$/ AND time >= 1000ms AND time <= 2500ms GROUP BY time(10s) AND $unknown'
    )
    assert (one.dashboard, one.panel, one.to_prometheus) == ("Fleet", "One", False)
    assert (two.panel, two.text, two.to_prometheus) == ("Two", 'rate(x{site=~".*"}[30s])', True)


def test_dashboards_that_are_not_there_are_named(tmp_path: Path) -> None:
    """A package brings none along: it says where they would be."""
    with pytest.raises(PartMissing, match=str(tmp_path)):
        list(queries({}, Shown(0, 1), tmp_path))


def test_a_query_that_is_wrong_is_told_with_its_words(tmp_path: Path) -> None:
    """InfluxDB's own words and the query; a server that is gone is named."""
    server = make(stack_servers.Influx, tmp_path / "influx")
    with running(server):
        assert influxql(server.url, "SHOW DATABASES") == []
        with pytest.raises(TryAgain, match="database not found: nowhere"):
            influxql(server.url, 'SELECT * FROM "nowhere".."windows"')
    with pytest.raises(TryAgain, match=str(server.port)):
        influxql(server.url, "SHOW DATABASES")


def test_all_packages_that_are_missing_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint can be pasted, and installs all of them."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(stack_servers, "_SBIN", "/nowhere")
    with pytest.raises(PartMissing, match="mosquitto, influxdb, prometheus, prometheus-alertmanager") as said:
        demo_stack.programs()
    assert said.value.hint == "sudo apt-get install mosquitto influxdb prometheus prometheus-alertmanager"


def test_what_may_not_be_installed_is_said_in_one_line(tmp_path: Path) -> None:
    """Who is not root is told what to paste; exit code 78, so make ends there."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "deploy" / "stack.sh")],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith("default-jre-headless maven influxdb prometheus prometheus-alertmanager")
    assert "sudo apt-get install " in line


def test_a_stack_goes_by_the_clock_on_the_wall() -> None:
    """Another pace is refused, for Prometheus and Alertmanager know only one."""
    assert pace_of("pumps", None, "stack").scale == 1
    with pytest.raises(SettingsError, match="clock on the wall"):
        pace_of("pumps", 60, "stack")
