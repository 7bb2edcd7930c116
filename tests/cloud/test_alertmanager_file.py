"""deploy/alertmanager: read by amtool, each route asked, and its messages sent by the real Alertmanager to receivers of the test."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headwater_appliance.stack_servers import Alertmanager
from headwater_shared.clock import RealClock
from tests.cloud.firing import Fires, route
from tests.cloud.receivers import mail_server, webhook
from tests.stack import make, running
from tests.support import ROOT, part_required, until

FOLDER = ROOT / "deploy" / "alertmanager"
FILE = FOLDER / "alertmanager.yml"

ROUTES: list[tuple[Mapping[str, str], str]] = [
    ({"source": "headwater", "severity": "critical", "site": "north", "alertname": "too-hot"}, "tickets,pager,chat"),
    ({"source": "headwater", "severity": "warning", "site": "north", "alertname": "too-hot"}, "tickets,chat"),
    ({"source": "headwater", "severity": "info", "site": "north", "alertname": "too-hot"}, "mail"),
    ({"source": "headwater", "severity": "info", "alertname": "headwater-test"}, "everybody"),
    ({"source": "prometheus", "severity": "critical", "alertname": "HeadwaterNothingArrives"}, "pager,chat"),
    ({"source": "prometheus", "severity": "warning", "alertname": "HeadwaterBacklogGrows"}, "chat"),
    ({"severity": "info", "alertname": "SomethingElse"}, "mail"),
    ({"source": "prometheus", "severity": "none", "alertname": "Watchdog"}, "dead-mans-switch"),
]  # fmt: skip


def amtool(*words: str) -> str:
    part_required("alertmanager")
    done = subprocess.run(
        ["amtool", *words], capture_output=True, text=True, check=False, timeout=60, cwd=FOLDER
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_takes_the_file() -> None:
    """Its templates too."""
    said = amtool("check-config", FILE.name)
    assert "SUCCESS" in said
    assert "1 templates" in said


@pytest.mark.parametrize(
    ("labels", "receivers"), ROUTES, ids=[f"{at['alertname']}-{at['severity']}" for at, _ in ROUTES]
)
def test_amtool_sends_an_alert_to_its_receivers(labels: Mapping[str, str], receivers: str) -> None:
    """By the labels that docs/notify.md names, and by those of Prometheus' rules."""
    amtool(
        "config", "routes", "test", f"--config.file={FILE.name}", f"--verify.receivers={receivers}",
        *(f"{name}={text}" for name, text in labels.items()),
    )  # fmt: skip


def test_every_receiver_is_asked_for() -> None:
    """By some row of the table above."""
    names = set(re.findall(r"^  - name: (\S+)$", FILE.read_text().partition("receivers:\n")[2], re.MULTILINE))
    assert names == {name for _, receivers in ROUTES for name in receivers.split(",")}


def test_prometheus_rules_have_labels_that_are_routed() -> None:
    """Each rule of deploy/prometheus is of a severity that the table above sends somewhere; those that a rule here mutes are there."""
    rules = "\n".join(path.read_text() for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    names = set(re.findall(r"- alert: (\w+)", rules))
    labels = set(re.findall(r"labels: \{ severity: (\w+), source: prometheus \}", rules))
    assert labels == {at["severity"] for at, _ in ROUTES if at.get("source") == "prometheus"}
    assert len(re.findall(r"source: prometheus \}", rules)) == len(re.findall(r"- alert: ", rules))
    named = set(re.findall(r"\b(?:Headwater[A-Z]\w+|Watchdog)\b", FILE.read_text()))
    assert named <= names
    assert {at["alertname"] for at, _ in ROUTES if at.get("source") == "prometheus"} <= names


def test_r29_its_messages_reach_mail_slack_pagerduty_and_a_webhook(folder: Path, tmp_path: Path) -> None:
    """The file as it is, but for addresses, and waits of no time: what comes has texts and links; the end comes to each."""
    with webhook() as hook, mail_server() as box:
        text = FILE.read_text()
        here = f"http://127.0.0.1:{hook.port}"
        for old, new in (
            (r"smtp_smarthost: .*", f"smtp_smarthost: 127.0.0.1:{box.port}\n  smtp_require_tls: false"),
            (r"  smtp_auth_\w+: .*\n", ""),
            (r"global:\n", f"global:\n  pagerduty_url: {here}/pagerduty\n"),
            (r"http://tickets\.example\.org", here),
            (r"/etc/alertmanager/secrets", str(tmp_path / "manager")),
            (r"group_wait: \S+", "group_wait: 20ms"),
            (r"group_interval: \S+", "group_interval: 50ms"),
            (r"mute_time_intervals: .*", "repeat_interval: 12h"),
        ):
            assert re.search(old, text), old
            text = re.sub(old, new, text)
        server = make(Alertmanager, tmp_path / "manager", text)
        shutil.copy(FOLDER / "headwater.tmpl", server.folder)
        (server.folder / "slack_url").write_text(f"{here}/slack")
        (server.folder / "pagerduty_key").write_text("k" * 32)
        (server.folder / "tickets_token").write_text("t0ken")
        hook.answer = (202, {})
        with running(server) as manager:
            some = Fires(
                folder / "one",
                [route(manager.url, severity="info")],
                RealClock(),
                url="https://hw.example.org",
            )
            some.put("north/p1", severity="critical", do="stop it", runbook="https://wiki/run")
            some.put("south/p1", severity="info")
            some.deliver()
            until(lambda: len(hook.got) == 3 and len(box.got) == 1, 20)
            by_path: dict[str, dict[str, Any]] = {posted.path: posted.said for posted in hook.got}
            slack = by_path["/slack"]["attachments"][0]
            assert slack["title"] == "[firing 1, critical] too-hot at north/p1/temp"
            assert slack["title_link"] == "https://wiki/run"
            assert "do: stop it\nmore: https://wiki/run" in slack["text"]
            pager = by_path["/pagerduty"]
            assert (pager["routing_key"], pager["event_action"]) == ("k" * 32, "trigger")
            assert pager["payload"]["summary"] == slack["title"]
            assert pager["payload"]["severity"] == "critical"
            assert "stop it" in pager["payload"]["custom_details"]["text"]
            assert by_path["/headwater"]["commonAnnotations"]["do"] == "stop it"
            tickets = next(posted for posted in hook.got if posted.path == "/headwater")
            assert tickets.headers["Authorization"] == "Bearer t0ken"
            ((subject, body),) = box.texts()
            assert subject == "[firing 1, info] too-hot at south/p1/temp"
            assert "too hot: south/p1/temp, since" in body
            for name in ("north/p1", "south/p1"):
                some.put(name, "resolved")
            some.deliver()
            until(lambda: len(hook.got) == 6 and len(box.got) == 2, 20)
            by_path = {posted.path: posted.said for posted in hook.got[3:]}
            assert (
                by_path["/slack"]["attachments"][0]["title"]
                == "[resolved, critical] too-hot at north/p1/temp"
            )
            assert "over since" in by_path["/slack"]["attachments"][0]["text"]
            assert by_path["/pagerduty"]["event_action"] == "resolve"
            assert by_path["/pagerduty"]["dedup_key"] == pager["dedup_key"]
            assert box.texts()[1][0] == "[resolved, info] too-hot at south/p1/temp"
            some.close()
            assert "level=error" not in manager.log()
