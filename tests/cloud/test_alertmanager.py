"""Alertmanager: what fires is posted again and again, the same labels whoever sends it; what ends is resolved, whatever was killed (R29)."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater_cloud.notify_settings import NotifySettings, read_routes
from headwater_cloud.outputs import Notification
from headwater_cloud.sending import Message
from headwater_cloud.write import write_notifications
from headwater_shared.clock import SetClock
from headwater_shared.errors import SettingsError
from tests.cloud.firing import Fires, S, ends_in, route, told
from tests.cloud.kills import Steps
from tests.cloud.receivers import webhook


@pytest.mark.covers("R29")
def test_r29_what_fires_is_posted_every_minute_for_an_hour_ahead_and_its_end_at_once(folder: Path) -> None:
    """In between nothing is posted but what changes; what is over ends when it ended, and is said again for a quarter of an hour."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.put("north/p1")
        for _ in range(180):
            some.deliver()
            some.clock.advance(1)
        assert len(hook.got) == 3
        (alert,) = told(hook).values()
        assert 3600 - 62 < ends_in(alert, some.clock) < 3600
        some.put("north/p1", "resolved")
        some.deliver()
        (alert,) = told(hook).values()
        assert ends_in(alert, some.clock) == -5.0
        before = len(hook.got)
        for _ in range(40):
            some.clock.advance(60)
            some.deliver()
        assert 13 <= len(hook.got) - before <= 15
        assert [*told(hook, before).values()] == [alert]
        some.close()


@pytest.mark.covers("R29")
def test_r29_one_that_is_refused_keeps_no_other_from_firing_or_ending(folder: Path) -> None:
    """Alertmanager refuses all of a post for one alert in it: what else is there is taken, and an end among them; the one is said to be refused."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        hook.refuses = b"no good"
        for n in range(6):
            some.put(f"north/p{n}")
        some.put("north/bad", text="no good")
        some.deliver()
        assert sorted(told(hook)) == [f"north/p{n}/temp warning" for n in range(6)]
        assert "422" in some.courier.status()["routes"]["am"]["failing"]
        some.put("north/p1", "resolved")
        some.put("north/bad", "resolved")
        some.deliver()
        assert ends_in(told(hook)["north/p1/temp warning"], some.clock) < 0
        hook.refuses = b""
        some.clock.advance(60)
        some.deliver()
        assert ends_in(told(hook)["north/bad/temp warning"], some.clock) < 0, "its end was not taken for told"
        assert not some.courier.status()["routes"]["am"]["failing"]
        some.close()


@pytest.mark.parametrize("link", ["http://wiki/%zz", "http://wiki:port/x", "http://[x", "wiki"])
def test_a_link_that_is_none_goes_along_as_text_only(folder: Path, link: str) -> None:
    """Alertmanager would refuse it, and all that is posted with it, as the address of an alert."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.put("north/p1", link=link, value=float("nan"))
        some.deliver()
        (alert,) = told(hook).values()
        assert alert["annotations"]["link"] == link
        assert "generatorURL" not in alert
        some.close()


@pytest.mark.covers("R29")
def test_r29_an_end_is_said_again_only_to_an_alertmanager_that_was_started_since(folder: Path) -> None:
    """Said to one that has it, it would begin a group of nothing there, and what fires again would wait for that group's next turn."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        hook.began = "2027-01-15T07:00:00.000Z"

        def a_minute() -> int:
            before = len(hook.got)
            some.clock.advance(60)
            some.deliver()
            return len(hook.got) - before

        some.put("north/p1")
        some.deliver()
        assert a_minute() == 1, "it fires on"
        some.put("north/p1", "resolved")
        some.deliver()
        (ended,) = told(hook).values()
        assert ends_in(ended, some.clock) == -5.0
        assert [a_minute() for _ in range(3)] == [0, 0, 0]
        hook.began, before = "2027-01-15T08:03:00.000Z", len(hook.got)
        assert [a_minute() for _ in range(3)] == [1, 0, 0]
        assert [*told(hook, before).values()] == [ended]
        some.close()


@pytest.mark.covers("R29")
def test_r29_labels_hold_what_is_where_and_annotations_the_rest(folder: Path) -> None:
    """No id, region, value or rule version in labels: two senders of one alert, or two versions of a rule, are one there."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock(), url="https://hw.example.org")
        some.put(
            "north/p1", do="stop it", link="https://wiki/hot", runbook="https://wiki/run", owner="ann", sure="2 of 2", place="hall 3",
        )  # fmt: skip
        first = Notification(
            "n1", "id-north/p1", "firing", "too-hot", "s", "warning", "", 1.0, 0, 0, incident="i1"
        )
        with some.store.transaction() as connection:
            write_notifications(connection, [first])
        some.deliver()
        (alert,) = told(hook).values()
        some.close()
    assert hook.got[0].path == "/hook/api/v2/alerts"
    assert alert["labels"] == {
        "alertname": "too-hot", "device": "p1", "severity": "warning", "site": "north", "source": "headwater", "subject": "north/p1/temp",
    }  # fmt: skip
    said = alert["annotations"]
    link = said.pop("acknowledge")
    assert link.startswith("https://hw.example.org/ack/")
    assert alert["generatorURL"] == link
    lines = said.pop("description").splitlines()
    assert lines[0].startswith("too hot: north/p1/temp (hall 3), since Fri 15 Jan")
    assert lines[1:] == ["2 of 2; do: stop it; owner: ann", "more: https://wiki/run https://wiki/hot", f"acknowledge: {link}"]  # fmt: skip
    assert said == {
        "summary": "too-hot at north/p1/temp", "text": "too hot", "value": "9", "sure": "2 of 2", "do": "stop it", "link": "https://wiki/hot",
        "runbook_url": "https://wiki/run", "place": "hall 3", "owner": "ann", "alert": "id-north/p1", "incident": "i1",
        "since": "2027-01-15T07:59:30.000Z",
    }  # fmt: skip


@pytest.mark.covers("R29")
def test_r29_killed_at_each_step_nothing_fires_there_for_ever_and_nothing_is_untold(
    folder: Path, steps: Steps
) -> None:
    """Two alerts begin, one ends, the process dies at each step of it, and while it is away the other one ends as well: the next process
    resolves both, if Alertmanager heard of them.
    """

    def story(some: Fires[SetClock]) -> None:
        some.put("north/p1")
        some.put("north/p2")
        some.deliver()
        some.put("north/p1", "resolved")
        some.deliver()

    for at in range(1000):
        with webhook() as hook:
            some = Fires(folder / f"{at}", [route(hook.url)], SetClock())
            left = steps.killed(partial(story, some), some.folder, at, folder / f"{at}-left")
            known, heard = some.known, told(hook)
            some.close()
            if left is None:
                break
            hook.got.clear()
            some = Fires(left, [route(hook.url)], SetClock())
            some.known = known
            some.clock.advance(30)
            for name in known:
                some.put(name, "resolved")
            some.deliver()
            now = told(hook)
            assert heard.keys() <= now.keys(), steps.passed[-1]
            assert all(ends_in(alert, some.clock) <= 0 for alert in now.values())
            some.close()
    assert at > 10


def test_what_a_person_or_maintenance_mutes_is_withdrawn_and_says_why(folder: Path) -> None:
    """And fires again when that is over."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        for muted in ("muted by ann: pump is out", "maintenance", "maintenance: new bearings"):
            some.put("north/p1", muted="")
            some.deliver()
            some.put("north/p1", muted=muted)
            some.clock.advance(3)
            some.deliver()
            (alert,) = told(hook).values()
            assert ends_in(alert, some.clock) == 0.0
            assert alert["annotations"]["withdrawn"] == muted
        some.put("north/p1", muted="")
        some.deliver()
        (alert,) = told(hook).values()
        assert ends_in(alert, some.clock) == 3600.0
        assert "withdrawn" not in alert["annotations"]
        some.close()


@pytest.mark.parametrize("muted", ["site-down fires", "its gateway box is silent"])
def test_what_another_alert_explains_does_not_begin_to_fire_and_does_not_end(
    folder: Path, muted: str
) -> None:
    """Nobody knows of such an alert that it is over: what was told before goes on."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.put("north/p1")
        some.deliver()
        some.put("north/p1", muted=muted)
        some.put("north/p2", muted=muted)
        some.again()
        some.deliver()
        (alert,) = told(hook).values()
        assert ends_in(alert, some.clock) == 3600.0
        assert alert["annotations"]["muted"] == muted
        some.put("north/p1", "resolved", muted="")
        some.deliver()
        (alert,) = told(hook).values()
        assert ends_in(alert, some.clock) == -5.0
        some.close()


def test_what_is_acknowledged_goes_on_and_says_by_whom(folder: Path) -> None:
    """It is not over; what is pending, or was over when it was found, never fires there."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.put("north/p1")
        some.put("north/p2", "pending", fired_us=None)
        some.put("north/p3", "resolved")
        some.deliver()
        some.put("north/p1", "acknowledged", acked="ann")
        some.deliver()
        assert [*told(hook)] == ["north/p1/temp warning"]
        (alert,) = told(hook).values()
        assert ends_in(alert, some.clock) == 3600.0
        assert alert["annotations"]["acknowledged"] == "ann"
        some.close()


def test_an_alert_that_was_not_so_or_becomes_worse_ends_under_its_labels(folder: Path) -> None:
    """Severity is a label, for routes go by it: the alert goes on under the new one."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.put("north/p1")
        some.put("north/p2")
        some.deliver()
        some.put("north/p1", severity="critical")
        some.put("north/p2", "withdrawn")
        some.again()
        some.deliver()
        found = told(hook)
        assert {name: ends_in(alert, some.clock) for name, alert in found.items()} == {
            "north/p1/temp warning": 0.0, "north/p1/temp critical": 3600.0, "north/p2/temp warning": 0.0,
        }  # fmt: skip
        assert found["north/p1/temp warning"]["annotations"]["withdrawn"] == "it goes on as critical"
        assert "show that it was not so" in found["north/p2/temp warning"]["annotations"]["withdrawn"]
        some.close()


def test_a_file_that_went_back_does_not_end_what_it_does_not_know(folder: Path) -> None:
    """It is made anew from the log, say: nothing is posted of an alert that is not there yet, and Alertmanager's hour bridges that."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.put("north/p1")
        some.deliver()
        with some.store.transaction() as connection:
            connection.execute("DELETE FROM alert")
        before = len(hook.got)
        some.again()
        for _ in range(20):
            some.clock.advance(60)
            some.deliver()
        assert len(hook.got) == before
        some.put("north/p1")
        some.deliver()
        assert ends_in(told(hook, before)["north/p1/temp warning"], some.clock) == 3600.0
        some.close()


@pytest.mark.covers("R29")
def test_r29_an_alertmanager_that_is_away_is_tried_again_and_holds_up_no_other(folder: Path) -> None:
    """Of two, one answers nothing: the other one has all. When it is there again, it gets what is so then; meanwhile there is trouble."""
    with webhook() as gone:
        port = gone.port
    with webhook() as hook:
        some = Fires(folder, [NotifySettings("am", "alertmanager", urls=(gone.url, hook.url))], SetClock())
        some.put("north/p1")
        some.put("north/p2")
        some.deliver()
        assert len(told(hook)) == 2
        some.put("north/p2", "resolved")
        some.clock.advance(1)
        some.deliver()
        assert ends_in(told(hook)["north/p2/temp warning"], some.clock) == -6.0
        assert some.courier.troubles() == [
            "notifications do not go out by 'am': 127.0.0.1: Connection refused"
        ]
        status = some.courier.status()["routes"]
        assert (status["am"]["waiting"], status["am"]["sent"], status["am-2"]["waiting"]) == (2, 0, 0)
        with webhook(port) as back:
            back.answer = (503, {"Retry-After": "30"})
            some.clock.advance(4)
            some.deliver()
            back.answer = (200, {})
            some.clock.advance(29)
            some.deliver()
            assert back.got == []
            some.clock.advance(1)
            some.deliver()
            assert {name: ends_in(one, some.clock) for name, one in told(back).items()} == {
                "north/p1/temp warning": 3600.0, "north/p2/temp warning": -40.0,
            }  # fmt: skip
            assert some.courier.troubles() == []
            back.answer = (400, {})
            some.put("north/p3")
            some.deliver()
            assert some.courier.troubles() == [
                "notifications do not go out by 'am': 127.0.0.1 answers 400: it does not take some alert"
            ]
        some.close()


@pytest.mark.covers("R29")
def test_r29_a_clock_that_was_wrong_for_a_while_ends_no_alert_before_it_begins(folder: Path) -> None:
    """It showed a day ahead, and is set right: Alertmanager refuses what ends before it begins, and takes what ends in a day for firing."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.put("north/p1")
        some.deliver()
        some.clock.wall_us -= 86_400 * S
        some.deliver()
        (alert,) = told(hook, 1).values()
        assert alert["startsAt"] <= alert["endsAt"]
        assert ends_in(alert, some.clock) == 3600.0
        some.put("north/p1", "resolved")
        some.deliver()
        (alert,) = told(hook, 2).values()
        assert alert["startsAt"] <= alert["endsAt"]
        assert ends_in(alert, some.clock) <= 0.0
        some.close()


def test_a_route_to_alertmanager_may_be_called_as_people_write(folder: Path) -> None:
    """A name in letters that no header holds does not end the route, and with it the courier."""
    with webhook() as hook:
        some = Fires(folder, [NotifySettings("警报", "alertmanager", url=hook.url)], SetClock())
        some.put("north/p1")
        some.deliver()
        assert len(told(hook)) == 1
        some.close()


def test_filters_are_those_of_other_routes_and_a_password_is_a_header(folder: Path) -> None:
    """Severity, sites and rules; who is in the address is no part of it on the wire."""
    with webhook() as hook:
        url = f"http://me:s%40cret@127.0.0.1:{hook.port}/prefix/"
        some = Fires(folder, [route(url, severity="critical", sites=("n*",), rules=("*hot",))], SetClock())
        some.put("north/p1", severity="critical")
        some.put("north/p2")
        some.put("south/p1", severity="critical")
        some.put("north/p3", severity="critical", rule="other")
        some.deliver()
        assert [*told(hook)] == ["north/p1/temp critical"]
        (got,) = hook.got
        some.close()
    assert got.path == "/prefix/api/v2/alerts"
    assert got.headers["Authorization"] == "Basic " + base64.b64encode(b"me:s@cret").decode()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "it has no url"),
        ({"url": "mailto://x"}, "url is none of an Alertmanager"),
        ({"url": "http://a:90930"}, "url is none of an Alertmanager"),
        ({"url": "http://[a"}, "url is none of an Alertmanager"),
        ({"url": "http://a:9093", "quiet": ("22:00-06:00",)}, "are not for alertmanager"),
        ({"url": "http://a:9093", "digest": "1h"}, "are not for alertmanager"),
        ({"url": "http://a:9093", "secret": "env:HOME"}, "secret without a webhook"),
    ],
)
def test_settings_that_cannot_be_meant_end_the_start(more: dict[str, Any], said: str) -> None:
    """Grouping, waiting and hours are Alertmanager's own."""
    with pytest.raises(SettingsError, match=said):
        read_routes([NotifySettings("am", "alertmanager", **more)], "")


def test_what_a_person_tries_out_is_an_alert_of_five_minutes(folder: Path) -> None:
    """`headwater notify test` posts it beside all others."""
    with webhook() as hook:
        some = Fires(folder, [route(hook.url)], SetClock())
        some.courier.open()
        one = Notification("t", "t", "firing", "test", "test", "info", "a test", 0.0, 0, 0)
        assert some.courier.routes["am"].try_out(Message("t", (one,))) == ""
        (alert,) = msgspec.json.decode(hook.got[0].body)
        assert alert["labels"] == {
            "alertname": "headwater-test",
            "severity": "info",
            "source": "headwater",
        }
        assert ends_in(alert, some.clock) == 300.0
        hook.answer = (500, {})
        assert "answers 500" in some.courier.routes["am"].try_out(Message("t", (one,)))
        some.close()


def test_a_host_that_is_no_name_is_a_trouble_of_its_route_only(folder: Path) -> None:
    """What cannot be looked up is not reached; the courier and its other routes go on."""
    some = Fires(folder, [route("http://a..b:9093")], SetClock())
    some.put("north/p1")
    some.deliver()
    (trouble,) = some.courier.troubles()
    assert trouble.startswith("notifications do not go out by 'am': a..b: ")
    some.close()
