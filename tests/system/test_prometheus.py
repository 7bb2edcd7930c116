"""A real Prometheus with the settings and rules that ship reads a real box: every rule is evaluated, and one fires when a process dies."""

from __future__ import annotations

import http.client
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from headwater_appliance.metrics_page import everything
from headwater_appliance.stack_servers import Prometheus
from headwater_shared import agent_metrics
from tests.stack import Running, make, running
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.wire import Wire

LATENCY = "headwater_cloud_commit_latency_seconds_bucket"
SHIPPED = ROOT / "deploy" / "prometheus"


def _prometheus(folder: Path, box: Box) -> Prometheus:
    """Prometheus as it ships, but that it looks each second, and waits for nothing before an alert fires."""
    server = make(Prometheus, folder, re.sub(r"15s", "1s", (SHIPPED / "prometheus.yml").read_text()))
    for name in ("rules", "targets", "alertmanagers"):
        (folder / name).mkdir()
    for rules in (SHIPPED / "rules").glob("*.yml"):
        (folder / "rules" / rules.name).write_text(re.sub(r"for: \w+", "for: 0s", rules.read_text()))
    targets = [
        {"targets": [f"127.0.0.1:{box.ready(part)['health']}"], "labels": {"part": part}}
        for part in (EDGE, CLOUD)
    ]
    (folder / "targets" / "headwater.json").write_text(json.dumps(targets))
    (folder / "alertmanagers" / "none.yml").write_text("[]\n")
    return server


def _asked(server: Running[Any], path: str) -> Any:
    return json.loads(page_of(server.server.port, f"/api/v1/{path}"))["data"]


def _values(server: Running[Any], query: str) -> list[tuple[dict[str, str], float]]:
    found = _asked(server, f"query?query={quote(query)}")["result"]
    return [(one["metric"], float(one["value"][1])) for one in found]


def _page(port: int, accept: str = "*/*") -> str:
    return page_of(port, "/metrics", accept)


def page_of(port: int, path: str, accept: str = "*/*") -> str:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        asked.request("GET", path, headers={"Accept": accept})
        return asked.getresponse().read().decode()
    finally:
        asked.close()


def test_a_real_prometheus_reads_a_box_and_evaluates_every_rule(tmp_path: Path) -> None:
    """What the agent tells is shown with its site by the cloud; exemplars are kept; no rule has an error; a process that is killed is an
    alert that says so.
    """
    with box(tmp_path / "box") as here:
        here.up()
        with Wire(here.port, "pump-7") as wire:
            wire.send(wire.publish("hw/north/pump-7/data", b'{"temperature": 91}'))
            wire.read_acknowledgements(1)
        here.closed()
        here.end(EDGE)
        here.start(EDGE)  # an agent that knows its site: the first frame of a new one does not
        with running(_prometheus(tmp_path / "prometheus", here)) as server:
            told = 'headwater_agent_readings_total{agent="box",site="north"}'
            until(lambda: [value for _, value in _values(server, told)] == [1.0], 20, "the agent is shown")
            until(lambda: len(_values(server, 'up{job="headwater"} == 1')) == 2, 20, "both are scraped")
            assert [value for _, value in _values(server, "headwater_edge_readings_total")] == [1.0]
            assert _values(server, "headwater_agent_build_info")[0][0]["version"]
            asked = f"query_exemplars?query={LATENCY}&start={time.time() - 300}&end={time.time() + 300}"
            exemplars = until(
                lambda: _asked(server, asked), 20, "the trace of a row that was measured is kept"
            )
            assert exemplars is not None
            assert re.fullmatch(r"[0-9a-f]{32}", exemplars[0]["exemplars"][0]["labels"]["trace_id"])
            rules = until(lambda: _evaluated(server), 20, "every rule was evaluated")
            assert rules is not None
            assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
            here.kill(EDGE)
            down = until(lambda: _alerts(server).get("HeadwaterProcessDown"), 20, "its end is an alert")
            assert down is not None
            assert re.fullmatch(r"edge on 127\.0\.0\.1:\d+ does not answer\.", down["annotations"]["summary"])
            assert "Watchdog" in _alerts(server)
            said = [text for alert in _alerts(server).values() for text in alert["annotations"].values()]
            assert [text for text in said if "<error" in text or "{{" in text] == []


def _evaluated(server: Running[Any]) -> list[dict[str, Any]]:
    rules = [rule for group in _asked(server, "rules")["groups"] for rule in group["rules"]]
    return rules if rules and all(rule["health"] != "unknown" for rule in rules) else []


def _alerts(server: Running[Any]) -> dict[str, Any]:
    return {
        one["labels"]["alertname"]: one
        for one in _asked(server, "alerts")["alerts"]
        if one["state"] == "firing"
    }


def test_every_name_on_a_running_boxs_pages_is_on_the_list(tmp_path: Path) -> None:
    """In both formats, and of the agent every name of the list but those of what is not switched on; the histogram of the way to the commit has the trace of what it saw in OpenMetrics."""
    with box(tmp_path / "box") as here:
        here.up()
        ports = {part: here.ready(part)["health"] for part in (EDGE, CLOUD)}
        with Wire(here.port, "pump-7") as wire:
            wire.send(wire.publish("hw/north/pump-7/data", b'{"temperature": 91}'))
            wire.read_acknowledgements(1)
        here.closed()
        until(lambda: "headwater_agent_series" in _page(ports[CLOUD]), 20, "the agent is shown")
        known = {name + end for name in everything() for end in ("", "_bucket", "_sum", "_count")}
        seen = set[str]()
        for port in ports.values():
            plain = {sample.name for family in parse(_page(port)) for sample in family.samples}
            text = _page(port, "application/openmetrics-text;version=1.0.0")
            families = list(parse_openmetrics(text))  # type: ignore[no-untyped-call]
            seen |= plain | {sample.name for family in families for sample in family.samples}
        assert {name for name in seen - known if not name.startswith("process_")} == set()
        optional = re.compile("headwater_edge_(http|broker|egress|listener_certificate)_")
        listed = {
            metric.family for metric in agent_metrics.BY_NAME.values() if not optional.match(metric.name)
        }
        assert listed - {family.name.removesuffix("_total") for family in parse(_page(ports[EDGE]))} == set()
        text = _page(ports[CLOUD], "application/openmetrics-text;version=1.0.0")
        assert re.search(
            r"^headwater_cloud_commit_latency_seconds_bucket.* # \{trace_id=\"[0-9a-f]{32}\"\}",
            text,
            re.MULTILINE,
        )
