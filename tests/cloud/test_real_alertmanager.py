"""The real Alertmanager of Debian: what it tells people of what we post (R29)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater_appliance.stack_servers import Alertmanager
from headwater_cloud.notify_pages import message_of_test
from headwater_shared.clock import RealClock
from tests.cloud.firing import Fires, route
from tests.cloud.receivers import Hook, webhook
from tests.stack import Running, make, running
from tests.support import until

SETTINGS = """
route: {{receiver: hook, group_by: [site], group_wait: 50ms, group_interval: 100ms, repeat_interval: 4h}}
receivers: [{{name: hook, webhook_configs: [{{url: "{url}", send_resolved: true}}]}}]
"""


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as made:
        yield made


@pytest.fixture
def manager(tmp_path: Path, hook: Hook) -> Iterator[Running[Alertmanager]]:
    """It writes down what it told every 100 ms: what a kill makes it forget is a matter of that setting."""
    server = make(Alertmanager, tmp_path / "manager", SETTINGS.format(url=hook.url), snapshot="100ms")
    with running(server) as one:
        yield one


def said(hook: Hook) -> list[list[str]]:
    """Of each message that a person got: status and subject of all alerts in it."""
    return [
        sorted(f"{alert['status']} {alert['labels']['subject']}" for alert in posted.said["alerts"])
        for posted in hook.got
    ]


def alerts(hook: Hook) -> list[dict[str, Any]]:
    return [alert for posted in hook.got for alert in posted.said["alerts"]]


@pytest.mark.covers("R29")
def test_r29_two_senders_of_one_alert_are_one_notification(
    folder: Path, manager: Running[Alertmanager], hook: Hook
) -> None:
    """They know it by another id, another value and another version of the rule's text, at other moments. Another alert of the same
    site is another message, and says that the first one goes on; the end, said by both, is one message too.
    """
    one, two = (
        Fires(folder / name, [route(manager.url)], RealClock(), url="https://hw.example.org")
        for name in ("east", "west")
    )
    one.put("north/p1", do="stop it", link="https://wiki/hot")
    two.put("north/p1", id="other", value=9.3, text="too hot, says version 2", link="https://wiki/hot")
    one.deliver()
    two.deliver()
    until(lambda: said(hook) == [["firing north/p1/temp"]], 20)
    (alert,) = alerts(hook)
    assert alert["annotations"]["summary"] == "too-hot at north/p1/temp"
    assert "too hot" in alert["annotations"]["text"]
    assert alert["annotations"]["link"] == alert["generatorURL"] == "https://wiki/hot"
    for some in (two, one):
        some.put("north/p2")
        some.deliver()
    both = ["firing north/p1/temp", "firing north/p2/temp"]
    until(lambda: said(hook)[1:] == [both], 20)
    for some in (one, two):
        for name in ("north/p1", "north/p2"):
            some.put(name, "resolved")
        some.deliver()
    until(lambda: said(hook)[2:] == [[one.replace("firing", "resolved") for one in both]], 20)
    one.close()
    two.close()


@pytest.mark.covers("R29")
def test_r29_kills_of_both_repeat_nothing_and_the_end_comes_through(
    folder: Path, manager: Running[Alertmanager], hook: Hook
) -> None:
    """Both processes are new: it fires on, and nobody is told again. One alert ended while nobody posted, and is told as over."""
    some = Fires(folder / "one", [route(manager.url)], RealClock())
    some.put("north/p1")
    some.put("south/p1")
    some.deliver()
    until(lambda: len(hook.got) == 2, 20)
    log = manager.server.folder / "data" / "nflog"
    written = until(lambda: log.exists() and log.stat().st_mtime_ns, 20)
    until(lambda: log.stat().st_mtime_ns > written, 20, "what it told is on the disk")
    manager.kill()
    some.put("north/p1", "resolved")
    manager.start()
    some.again()
    some.deliver()
    until(lambda: said(hook)[2:] == [["resolved north/p1/temp"]], 20)
    some.put("south/p2")
    some.deliver()
    until(lambda: said(hook)[3:] == [["firing south/p1/temp", "firing south/p2/temp"]], 20)
    some.close()


@pytest.mark.covers("R29")
def test_r29_an_end_that_it_took_and_forgot_is_told_all_the_same(
    folder: Path, manager: Running[Alertmanager], hook: Hook
) -> None:
    """It keeps no alerts: killed between our POST and its message, it would never say the end, were it not posted again."""
    some = Fires(folder / "one", [route(manager.url)], RealClock())
    some.put("north/p1")
    some.deliver()
    until(lambda: len(hook.got) == 1, 20)
    log = manager.server.folder / "data" / "nflog"
    written = until(lambda: log.exists() and log.stat().st_mtime_ns, 20)
    until(lambda: log.stat().st_mtime_ns > written, 20)
    hook.answer = (500, {})
    some.put("north/p1", "resolved")
    some.deliver()
    manager.kill()
    hook.answer = (200, {})
    manager.start()
    some.courier.routes["am"].hurry()  # a minute later
    some.deliver()
    until(lambda: said(hook)[1:] == [["resolved north/p1/temp"]], 20)
    some.close()


def test_what_a_person_tries_out_arrives(folder: Path, manager: Running[Alertmanager], hook: Hook) -> None:
    """By its name; Alertmanager knows it as firing."""
    some = Fires(folder / "one", [route(manager.url)], RealClock())
    some.courier.open()
    assert some.courier.routes["am"].try_out(message_of_test(RealClock().now().wall_us)) == ""
    until(lambda: hook.got, 20)
    (alert,) = msgspec.json.decode(hook.got[0].body)["alerts"]
    assert (alert["labels"]["alertname"], alert["status"]) == ("headwater-test", "firing")
    some.close()
