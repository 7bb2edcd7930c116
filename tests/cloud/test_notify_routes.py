"""What people and programs receive: real mail through Apprise, real webhooks, and what is said when they cannot be had."""

from __future__ import annotations

import hashlib
import hmac
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from headwater_cloud import send_apprise
from headwater_cloud.notify_settings import NotifySettings
from headwater_cloud.outputs import Notification
from headwater_cloud.send_apprise import failure, scrubbed
from headwater_cloud.sending import Failed
from headwater_cloud.write import write_notifications
from headwater_shared import trace, tracing
from headwater_shared.clock import SetClock
from headwater_shared.errors import Refused
from tests.cloud.firing import Fires, route
from tests.cloud.receivers import mail_server, webhook
from tests.cloud.test_courier import Told, made
from tests.otlp import collector
from tests.support import until


def pump(**more: Any) -> Notification:
    """A notification with all that it can say."""
    return made(
        1, rule="bearing-fails", subject="north/pump-7", site="north", severity="critical",
        text="vibration, then heat: the bearing of north/pump-7 is failing", do="stop the pump; have the bearing changed within the day",
        sure="2 of 2 steps within 3 h", model="KSB-100", place="hall 3", owner="ann", runbook="https://wiki/bearings", **more,
    )  # fmt: skip


@pytest.mark.covers("R29")
def test_a_mail_arrives_once_and_says_it_in_two_lines(folder: Path) -> None:
    """What, where, since when in the site's time; how sure, what to do; then where to read more, and the link. Its repeat says that it is one."""
    with mail_server() as box:
        told = Told(
            folder,
            (NotifySettings("duty", "apprise", url=box.url),),
            zones={"north": "Europe/Berlin"},
            url="https://hw.example.org/",
        )
        told.put(pump())
        told.deliver()
        told.again()
        told.deliver()
        ((subject, text),) = box.texts()
        told.close()
    assert subject == "[critical] bearing-fails at north/pump-7"
    first, second, more, link = text.strip().splitlines()
    assert (
        first
        == "vibration, then heat: the bearing of north/pump-7 is failing: north/pump-7 (hall 3, KSB-100), since Fri 15 Jan 09:00 CET"
    )
    assert (
        second
        == "2 of 2 steps within 3 h; do: stop the pump; have the bearing changed within the day; owner: ann"
    )
    assert more == "more: https://wiki/bearings"
    assert link.startswith("acknowledge: https://hw.example.org/ack/")


def test_a_webhook_gets_the_documented_body_signed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Id and signature in headers, as the agent's webhooks have them; the fields are docs/notify.md's."""
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    with webhook() as hook:
        told = Told(
            folder,
            (NotifySettings("hook", "webhook", url=hook.url, secret="env:HOOK_SECRET"),),
            url="https://hw.example.org",
        )
        told.put(pump(known_us=1_800_000_060_000_000))
        told.deliver()
        (got,) = hook.got
        told.close()
    assert got.path == "/hook?from=headwater"
    assert got.headers["X-Headwater-Id"] == "a1/firing"
    assert (
        got.headers["X-Headwater-Signature"]
        == "sha256=" + hmac.new(b"s3cret", got.body, hashlib.sha256).hexdigest()
    )
    said = got.said
    assert said.pop("ack").startswith("https://hw.example.org/ack/")
    assert said.pop("message").count("\n") == 3
    assert said == {
        "version": 1, "id": "a1/firing", "digest": False, "title": "[critical] bearing-fails at north/pump-7", "alert": "a1",
        "state": "firing", "rule": "bearing-fails", "subject": "north/pump-7", "severity": "critical", "site": "north",
        "text": "vibration, then heat: the bearing of north/pump-7 is failing", "value": 9.0, "sure": "2 of 2 steps within 3 h",
        "do": "stop the pump; have the bearing changed within the day", "model": "KSB-100", "place": "hall 3", "owner": "ann",
        "runbook": "https://wiki/bearings", "begin": "2027-01-15T08:00:00.000Z", "time": "2027-01-15T08:00:00.000Z",
        "known": "2027-01-15T08:01:00.000Z",
    }  # fmt: skip


@pytest.mark.covers("R29")
def test_r29_a_receiver_that_is_dead_for_an_hour_gets_all_after_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail and webhook, nobody there: all are kept and seen; an hour later, over a restart, each arrives once, unmarked."""
    monkeypatch.setattr(send_apprise, "_APART_S", 0.0)
    with mail_server() as box, webhook() as hook:
        ports = box.port, hook.port
        routes = (
            NotifySettings("duty", "apprise", url=box.url),
            NotifySettings("hook", "webhook", url=hook.url),
        )
    told = Told(folder, routes)
    for n in range(0, 60, 4):
        if n % 20 == 0:
            told.put(made(n))
        told.clock.advance(240)
        told.deliver()
    troubles = told.courier.troubles()
    assert len(troubles) == 2
    assert "'duty': E-Mail: Connection error" in troubles[0]
    assert "Connection refused" in troubles[0]
    assert "'hook': 127.0.0.1: Connection refused" in troubles[1]
    assert [told.courier.status()["routes"][name]["waiting"] for name in ("duty", "hook")] == [3, 3]
    assert told.courier.status()["routes"]["hook"]["oldest_s"] == 3360.0
    told.again()
    with mail_server(ports[0]) as box, webhook(ports[1]) as hook:
        told.deliver()
        assert [posted.said["id"] for posted in hook.got] == ["a0/firing", "a20/firing", "a40/firing"]
        assert not any("possible_repeat" in posted.said for posted in hook.got)
        subjects = [subject for subject, _ in box.texts()]
        assert subjects == ["[warning] too-hot at s1/d1/temp"] * 3
    assert told.courier.troubles() == []
    told.close()


def test_r29_an_answer_that_never_came_is_a_possible_repeat_with_the_same_id(folder: Path) -> None:
    """The webhook takes the body and does not answer: whether it has it is not known. What comes again is as it was, and marked."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        told = Told(
            folder,
            (
                NotifySettings(
                    "hook", "webhook", url=f"http://127.0.0.1:{port}/", timeout="200ms", digest="1s"
                ),
            ),
        )
        told.put(made(1), made(2))
        told.deliver()
        told.clock.advance(1)
        told.deliver()
        (trouble,) = told.courier.troubles()
        assert "127.0.0.1" in trouble
    told.put(made(3))
    with webhook(port) as hook:
        told.clock.advance(10)
        told.deliver()
        told.clock.advance(1)
        told.deliver()
        first, second = (posted.said for posted in hook.got)
    assert (first["id"], first["possible_repeat"]) == ("hook/2", True)
    assert [(one["id"], one["possible_repeat"]) for one in first["notifications"]] == [
        ("a1/firing", True),
        ("a2/firing", True),
    ]
    assert (second["id"], "possible_repeat" in second) == ("a3/firing", False)
    told.close()


@pytest.mark.covers("R29")
def test_r29_what_perhaps_arrived_keeps_its_id_whatever_comes_between(folder: Path) -> None:
    """A digest has no answer, and then the receiver is down for certain: what comes again is the same digest with the same id, and no more in it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hook_of = NotifySettings(
            "hook", "webhook", url=f"http://127.0.0.1:{port}/", timeout="200ms", digest="1s"
        )
        told = Told(folder, (hook_of,))
        told.put(made(1), made(2))
        told.deliver()
        told.clock.advance(1)
        told.deliver()
    told.put(made(3))
    told.clock.advance(10)
    told.deliver()
    (trouble,) = told.courier.troubles()
    assert "refused" in trouble
    with webhook(port) as hook:
        told.clock.advance(10)
        told.deliver()
        first, second = (posted.said for posted in hook.got)
    assert (first["id"], [one["id"] for one in first["notifications"]]) == (
        "hook/2",
        ["a1/firing", "a2/firing"],
    )
    assert second["id"] == "a3/firing"
    told.close()


@pytest.mark.parametrize("name", ["Störung", "警报"])
def test_a_route_may_be_called_as_people_write(folder: Path, name: str) -> None:
    """What is no letter of a header is written as in an address; the body has the id as it is."""
    with webhook() as hook:
        told = Told(folder, (NotifySettings(name, "webhook", url=hook.url, digest="1s"),))
        told.put(made(1), made(2))
        told.deliver()
        told.clock.advance(1)
        told.deliver()
        (posted,) = hook.got
        assert posted.said["id"] == f"{name}/2"
        assert posted.headers["X-Headwater-Id"] == quote(f"{name}/2")
        told.close()


def test_of_several_addresses_of_a_route_only_the_one_that_failed_is_tried_again(folder: Path) -> None:
    """Both take it in the end, and each has it once."""
    with mail_server() as here:
        with mail_server() as box:
            port = box.port
        told = Told(folder, (NotifySettings("duty", "apprise", urls=(here.url, box.url)),))
        told.put(made(1))
        told.deliver()
        assert len(here.got) == 1
        with mail_server(port) as there:
            told.clock.advance(10)
            told.deliver()
            assert len(there.got) == len(here.got) == 1
        told.close()


@pytest.mark.covers("R29")
def test_r29_what_one_of_several_addresses_has_comes_again_to_it_marked_only(folder: Path) -> None:
    """The other one refuses it for ever. A new process tries it once more, and knows no more which address has it."""
    with mail_server() as here, mail_server() as there:
        there.answer_to_rcpt = "550 nobody of that name"
        told = Told(folder, (NotifySettings("duty", "apprise", urls=(here.url, there.url)),))
        told.put(made(1))
        told.deliver()
        told.again()
        told.deliver()
        said = [subject.replace("[warning] ", "") for subject, _ in here.texts()]
        assert said == ["too-hot at s1/d1/temp", "(possible repeat) too-hot at s1/d1/temp"]
        told.close()


def test_a_mail_that_the_server_will_never_take_is_refused_and_seen(folder: Path) -> None:
    """550 for the recipient: it is not tried for ever; the next mail goes."""
    with mail_server() as box:
        told = Told(folder, (NotifySettings("duty", "apprise", url=box.url),))
        box.answer_to_rcpt = "550 nobody of that name"
        told.put(made(1))
        told.deliver()
        box.answer_to_rcpt = "250 ok"
        told.put(made(2))
        told.deliver()
        assert len(box.got) == 1
        status = told.courier.status()["routes"]["duty"]
        assert (status["sent"], status["refused"], status["waiting"]) == (1, 1, 0)
        told.close()


@pytest.mark.parametrize(
    ("said", "kind", "certain"),
    [
        (["Failed to send Slack notification to #x: Not Found, error=404."], Failed, True),
        (["Failed to send Telegram notification: Unauthorized, error=401."], Failed, True),
        (["Failed to send x notification: error=429."], Failed, True),
        (["Failed to send PagerDuty notification: Bad Request, error=400."], Refused, None),
        (["A Connection Error occurred", "Socket Exception: [Errno 111] Connection refused"], Failed, True),
        (
            ["A Connection Error occurred", "Socket Exception: HTTPSConnectionPool: Failed to resolve 'x'"],
            Failed,
            True,
        ),
        (["A Connection Error occurred", "Socket Exception: read timed out"], Failed, False),
        (["Connection error", "Socket Exception: (535, b'5.7.8 authentication failed')"], Failed, True),
        ([], Failed, False),
    ],
)
def test_why_apprise_did_not_deliver_is_sorted(
    said: list[str], kind: type[Failed | Refused], certain: bool | None
) -> None:
    """A wrong token can be mended: it is tried on. A body that is not wanted never will be. A time-out may have delivered."""
    found = failure("json://u:p@h/", "Name", said)
    assert isinstance(found, kind)
    assert certain is None or (isinstance(found, Failed) and found.certain == certain)


def test_no_secret_of_an_address_is_said() -> None:
    """User, password, the tokens of the path and of the query; the host may be said."""
    url = "slack://botname:p%40ssword@T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?key=abcdef"
    text = "error at slack.com/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ by botname with p@ssword, abcdef"
    assert scrubbed(text, url) == "error at slack.com/T1JJ3T3L2/***/*** by *** with ***, ***"


def test_a_route_of_mails_that_cannot_be_logged_says_no_password(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the log nor what a person sees of the route."""
    url = "mailto://somebody:topsecretword@127.0.0.1:1?mode=insecure&from=hw@example.org&to=duty@example.org"
    told = Told(folder, (NotifySettings("duty", "apprise", url=url),))
    told.put(made(1))
    told.deliver()
    seen: list[Any] = [told.courier.status(), told.courier.troubles(), capsys.readouterr()]
    assert "Connection refused" in str(seen)
    assert "topsecretword" not in str(seen)
    told.close()


def test_threads_of_routes_do_not_wait_for_each_other(folder: Path) -> None:
    """One webhook does not answer at all; the file and the other one have the notification meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as silent, webhook() as hook:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        told = Told(
            folder,
            (
                NotifySettings("hangs", "webhook", url=url, timeout="1s"),
                NotifySettings("hook", "webhook", url=hook.url),
            ),
        )
        told.courier.start()
        told.put(made(1))
        told.courier.wake()
        until(lambda: hook.got and told.lines(), what="others have it")
        assert told.courier.status()["routes"]["hangs"]["waiting"] == 1
        told.close()


def test_each_try_is_a_span_of_the_trace_of_its_alert(folder: Path) -> None:
    """By a webhook, one that fails and the one that delivers; by Alertmanager once the alert fires there; of what is in no trace none."""
    context = trace.traceparent("alert")
    with collector() as spans, webhook() as hook, webhook() as manager:
        tracing.configure(spans.url, "cloud")
        routes = [NotifySettings("hook", "webhook", url=hook.url), route(manager.url)]
        some = Fires(folder, routes, SetClock(), lines="")
        alert = some.put("north/p1")
        with some.store.transaction() as connection:
            write_notifications(connection, [made(1, alert=alert.id, incident="i1", trace=context), made(2)])
        hook.answer = (500, {})
        some.deliver()
        hook.answer = (200, {})
        some.clock.advance(10)
        some.deliver()
        until(lambda: len(spans.spans) == 3, 30)
        tracing.close()
        some.close()
    assert [(one.said["route"], one.failed, one.parent) for one in spans.spans] == [
        ("hook", "127.0.0.1 answers 500", trace.span_of(context)), ("am", "", trace.span_of(context)), ("hook", "", trace.span_of(context)),
    ]  # fmt: skip
    assert len({one.span for one in spans.spans}) == 3
    assert hook.got[0].said["trace"] == context
