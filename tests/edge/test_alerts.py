"""Local alerts: written with the tick that found them, sent after its commit, at least once; and nothing waits for them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from headwater_edge import commit
from headwater_edge.alert_settings import AlertSettings, check_alerts
from headwater_edge.alerts import waiting
from headwater_edge.device_settings import DeviceSettings
from headwater_edge.home_assistant import About
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.settings import EdgeSettings
from headwater_edge.store import read_store
from headwater_shared.clock import SetClock
from headwater_shared.errors import Refused, SettingsError
from tests.edge.feed import DAY
from tests.edge.hook import Hook, hook
from tests.edge.running import FILE, Publish, Running, as_after_a_kill, edge_settings, full, running
from tests.support import free_port, until_async

HOT = LimitSettings(name="hot", series="*/temp", above=80.0, severity="critical", text="too hot")
WARM = LimitSettings(name="warm", series="*/temp", above=60.0, severity="info")


def alert(**more: Any) -> AlertSettings:
    """One way, whose retries are quick."""
    return AlertSettings(**({"name": "ops", "retry": "10ms", "retry_most": "50ms"} | more))


def to(one: Hook, **more: Any) -> AlertSettings:
    return alert(to="webhook", url=one.url, **more)


def settings_of(*alerts: AlertSettings, **more: Any) -> EdgeSettings:
    return edge_settings(limit=(HOT, WARM), alert=alerts, **more)


@asynccontextmanager
async def alerting(
    folder: Path,
    settings: EdgeSettings,
    clock: SetClock | None = None,
    shown: list[tuple[str, bytes]] | None = None,
) -> AsyncIterator[Running]:
    """An agent that puts out; `shown` is what a subscriber at the listener would get, None: there is none."""

    def show(topic: str, payload: bytes) -> int:
        if shown is None:
            return 0
        shown.append((topic, payload))
        return 1

    async with running(folder, settings, clock) as box:
        box.agent.put_out.start(folder / FILE, show, [""] * len(settings.broker), lambda _: About(), "test")
        try:
            yield box
        finally:
            await box.agent.put_out.close()


def reading(value: float, at: float = 0.0) -> Publish:
    return Publish("hw/s1/d1/data", b'{"temp": %g, "time": %d}' % (value, DAY // 1000 + round(at * 1000)))


def left(folder: Path) -> list[str]:
    """Return the keys of alerts that are in the agent's file."""
    with closing(read_store(folder / FILE)) as reader:
        return [row.key for row in waiting(reader)]


def test_an_anomaly_is_posted_with_its_id_and_signed(tmp_path: Path) -> None:
    """Begin and end, each once, with what a person needs, in JSON; the HMAC of the body proves who sent it; then the file
    keeps nothing of it.
    """
    (tmp_path / "secret").write_text("s3cret\n")

    async def test(one: Hook) -> None:
        way = to(one, secret=f"file:{tmp_path / 'secret'}")
        async with alerting(tmp_path, settings_of(way)) as box:
            await box.publish(reading(90.0, 1))
            await box.publish(reading(20.0, 2))
            await until_async(lambda: len(one.posts) == 2)
            await until_async(lambda: left(tmp_path) == [])
        begin, end = one.said
        assert (begin["phase"], begin["rule"], begin["severity"], begin["value"]) == (
            "begin",
            "hot",
            "critical",
            90.0,
        )
        assert (begin["site"], begin["device"], begin["metric"], begin["text"]) == (
            "s1",
            "d1",
            "temp",
            "too hot",
        )
        assert (end["phase"], end["id"], end["possible_repeat"]) == ("end", begin["id"], False)
        headers, body = one.posts[0]
        assert headers["X-Headwater-Id"] == f"{begin['id']}/begin"
        wanted = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        assert headers["X-Headwater-Signature"] == f"sha256={wanted}"

    with hook() as one:
        asyncio.run(test(one))


def test_settings_choose_by_rule_series_severity_and_phase(tmp_path: Path) -> None:
    """Each way gets what fits it; the least severity is a warning by default, so an info goes nowhere unasked."""

    async def test(every: Hook, few: Hook) -> None:
        ways = (
            to(every, severity="info"),
            to(few, name="few", rules=("h*",), ends=False),
            to(few, name="none", series=("s2/*",)),
        )
        async with alerting(tmp_path, settings_of(*ways)) as box:
            await box.publish(reading(90.0, 1))
            await box.publish(reading(20.0, 2))
            await until_async(lambda: len(every.posts) == 4 and len(few.posts) == 1)
            await until_async(lambda: left(tmp_path) == [])
        assert {(one["rule"], one["phase"]) for one in every.said} == {
            ("hot", "begin"), ("warm", "begin"), ("hot", "end"), ("warm", "end")
        }  # fmt: skip
        assert [(one["rule"], one["phase"]) for one in few.said] == [("hot", "begin")]

    with hook() as every, hook() as few:
        asyncio.run(test(every, few))


def test_r29_an_alert_survives_a_kill_and_says_that_it_may_be_a_repeat(tmp_path: Path) -> None:
    """Killed after the commit and before the webhook answered: the next agent sends it, same id, marked; one that was
    delivered is not sent again.
    """
    (tmp_path / "first").mkdir()

    async def test(one: Hook) -> None:
        settings = settings_of(to(one, timeout="30s"))
        async with alerting(tmp_path / "first", settings) as first:
            await first.publish(reading(90.0, 1))
            await until_async(lambda: len(one.posts) == 1 and left(tmp_path / "first") == [])
            one.hangs.set()
            await first.publish(reading(20.0, 2))
            await until_async(lambda: len(one.posts) == 2)
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
        one.hangs.clear()
        async with alerting(copy, settings):
            await until_async(lambda: len(one.posts) == 3 and left(copy) == [])
        assert [(post["phase"], post["possible_repeat"]) for post in one.said] == [
            ("begin", False), ("end", False), ("end", True)
        ]  # fmt: skip
        assert len({post["id"] for post in one.said}) == 1

    with hook() as one:
        asyncio.run(test(one))


def test_an_alert_is_in_the_commit_of_its_tick_and_never_without_it(tmp_path: Path) -> None:
    """The file has it when the reading is acknowledged, though nothing sends yet; a tick that is not committed says nothing."""
    (tmp_path / "copy").mkdir()

    async def test(one: Hook) -> None:
        async with running(tmp_path, settings_of(to(one))) as box:  # it does not put out yet
            await box.publish(reading(90.0, 1))
            assert [key.partition("/")[2] for key in left(tmp_path)] == ["begin"]
        async with alerting(tmp_path, settings_of(to(one))):
            await until_async(lambda: len(one.posts) == 1)

    with hook() as one:
        asyncio.run(test(one))


def test_a_hanging_webhook_holds_up_nobody(tmp_path: Path) -> None:
    """While one way hangs for good, readings are acknowledged as ever, another way delivers, and the agent ends at once."""

    async def test(stuck: Hook, well: Hook) -> None:
        stuck.hangs.set()
        ways = (to(stuck, name="stuck", timeout="60s"), to(well))
        began = time.monotonic()
        async with alerting(tmp_path, settings_of(*ways)) as box:
            for at in range(20):
                await box.publish(reading(90.0 if at % 2 else 20.0, at))
            await until_async(lambda: len(well.posts) == 19)
            assert len(stuck.posts) == 1
            route = box.agent.put_out.alerts.routes["stuck"]
            assert route.waiting == 19
        assert time.monotonic() - began < 20

    with hook() as stuck, hook() as well:
        asyncio.run(test(stuck, well))


def test_a_webhook_that_fails_is_tried_again_and_one_that_refuses_is_not(tmp_path: Path) -> None:
    """503 and no server at all: the same alert again, until it is taken; 422 means never this one, and the next one goes."""

    async def test(one: Hook) -> None:
        one.answers = [503, 500, 204, 422, 204]
        async with alerting(
            tmp_path,
            settings_of(to(one), alert(name="gone", to="webhook", url=f"http://127.0.0.1:{free_port()}/")),
        ) as box:
            for at, value in enumerate((90.0, 20.0, 91.0)):
                await box.publish(reading(value, at))
            await until_async(lambda: len(one.posts) == 5)
            routes = box.agent.put_out.alerts.routes
            await until_async(
                lambda: (routes["ops"].sent, routes["ops"].refused, routes["ops"].failures) == (2, 1, 2)
            )
            await until_async(lambda: routes["gone"].failures > 2)
            assert len({post["id"] + post["phase"] for post in one.said[:3]}) == 1
            (trouble,) = box.agent.put_out.troubles()
            assert "gone" in trouble
            assert "refused" in trouble

    with hook() as one:
        asyncio.run(test(one))


def test_the_queue_is_bounded_and_what_is_dropped_is_said(tmp_path: Path) -> None:
    """The oldest goes first, from the file too; the count is in status, log and metrics."""

    async def test(one: Hook) -> None:
        one.hangs.set()
        async with alerting(tmp_path, settings_of(to(one, queue=3, timeout="60s"))) as box:
            for at in range(10):
                await box.publish(reading(90.0 if at % 2 else 20.0, at))
            route = box.agent.put_out.alerts.routes["ops"]
            assert (route.waiting, route.dropped) == (3, 6)
            assert box.agent.put_out.status()["alert ops"]["dropped"] == 6
            await until_async(lambda: len(left(tmp_path)) == 3)

    with hook() as one:
        asyncio.run(test(one))


def test_what_is_too_old_is_given_up(tmp_path: Path) -> None:
    """After `give_up` an alert is dropped and counted, and nothing of it stays."""

    async def test() -> None:
        way = alert(to="webhook", url=f"http://127.0.0.1:{free_port()}/", give_up="100ms")
        async with alerting(tmp_path, settings_of(way)) as box:
            await box.publish(reading(90.0))
            await until_async(lambda: box.agent.put_out.alerts.routes["ops"].dropped == 1)
            await until_async(lambda: left(tmp_path) == [])

    asyncio.run(test())


def test_a_way_that_is_gone_from_the_settings_leaves_nothing(tmp_path: Path) -> None:
    """What waited for it is dropped at the next start, and counted."""

    async def test(one: Hook) -> None:
        async with running(tmp_path, settings_of(to(one))) as box:
            await box.publish(reading(90.0))
        async with alerting(tmp_path, settings_of(to(one, name="other"))) as box:
            assert box.agent.put_out.alerts.nowhere == 1
            await until_async(lambda: left(tmp_path) == [])
        assert one.posts == []

    with hook() as one:
        asyncio.run(test(one))


def test_a_damaged_file_gives_its_alerts_back(tmp_path: Path) -> None:
    """The head of the file is overwritten: what waited is read from its pages, and goes out; a body that is damaged stops nobody."""

    async def test(one: Hook) -> None:
        settings = settings_of(to(one))
        async with running(tmp_path, settings) as box:
            await box.publish(reading(90.0, 1), reading(20.0, 2))
        with closing(sqlite3.connect(tmp_path / FILE)) as file:
            file.execute("UPDATE alert SET body = x'ff00' WHERE key LIKE '%/end'")
            file.commit()
        with (tmp_path / FILE).open("r+b") as whole:
            whole.write(bytes(100))
        async with alerting(tmp_path, settings) as box:
            await until_async(lambda: len(one.posts) == 1 and left(tmp_path) == [])
            assert len(box.agent.put_out.alerts.routes) == 1
        assert [(post["phase"], post["possible_repeat"]) for post in one.said] == [("begin", True)]

    with hook() as one:
        asyncio.run(test(one))


def test_a_way_can_be_tried_out(tmp_path: Path) -> None:
    """Each way sends a test, or says why not, beside what waits; one that is not there is named, with those that are."""

    async def test(one: Hook) -> None:
        ways = (to(one), alert(name="away", to="mqtt"), alert(name="log"))
        async with alerting(tmp_path, settings_of(*ways)) as box:
            alerts = box.agent.put_out.alerts
            found = await alerts.try_out("", "a1", DAY)
            assert (found["ops"], found["log"]) == ("", "")
            assert "nobody is subscribed" in found["away"]
            assert [(post["rule"], post["severity"]) for post in one.said] == [("test", "info")]
            with pytest.raises(Refused, match="no alert 'x'") as refused:
                await alerts.try_out("x", "a1", DAY)
            assert "ops, away, log" in refused.value.hint

    with hook() as one:
        asyncio.run(test(one))


def test_a_device_that_is_gone_is_an_alert(tmp_path: Path) -> None:
    """Rule device-offline, begin and end under one id; what is new or online is nothing to tell."""

    async def test() -> None:
        shown: list[tuple[str, bytes]] = []
        clock = SetClock()
        settings = settings_of(alert(to="mqtt"), devices=DeviceSettings())
        async with alerting(tmp_path, settings, clock, shown) as box:
            await box.publish(reading(20.0))
            await box.publish(Publish("hw/s1/d1/status", b"offline"))
            await box.publish(reading(20.0, 1))
            await until_async(lambda: len(shown) == 2)
        assert {topic for topic, _ in shown} == {"hw-alert/s1/d1/device-offline"}
        bodies = [payload.decode() for _, payload in shown]
        assert '"phase":"begin"' in bodies[0]
        assert '"phase":"end"' in bodies[1]
        assert bodies[0][:40] == bodies[1][:40]  # the id

    asyncio.run(test())


def test_with_nobody_subscribed_an_alert_waits(tmp_path: Path) -> None:
    """At the listener there is nobody: it stays in the file, and goes when somebody is there."""

    async def test() -> None:
        async with alerting(tmp_path, settings_of(alert(to="mqtt"))) as box:
            await box.publish(reading(90.0))
            await until_async(lambda: box.agent.put_out.alerts.routes["ops"].failures > 1)
            assert len(left(tmp_path)) == 1
        shown: list[tuple[str, bytes]] = []
        async with alerting(tmp_path, settings_of(alert(to="mqtt")), None, shown):
            await until_async(lambda: len(shown) == 1)

    asyncio.run(test())


def test_r18_what_is_found_while_the_disk_is_full_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Provisional, with the id that the anomaly has later, when it is told once more."""
    monkeypatch.setattr(commit, "_AGAIN_S", 0.01)

    async def test(one: Hook) -> None:
        async with alerting(tmp_path, settings_of(to(one))) as box:
            await box.publish(reading(20.0))
            space = full(box)
            box.source.send(*(reading(at / 3, at) for at in range(1, 200)))
            await until_async(lambda: box.agent.holding)
            held = box.source.send(reading(90.0, 300))
            await until_async(lambda: len(one.posts) == 1)
            space()
            await box.acknowledged(held)
            await until_async(lambda: len(one.posts) == 2)
        first, second = one.said
        assert (first["provisional"], second["provisional"]) == (True, False)
        assert second["id"] == first["id"]

    with hook() as one:
        asyncio.run(test(one))


def test_r18_what_the_tick_found_that_the_disk_does_not_take_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stepped and is not on disk: told as provisional, and once more when it is."""
    monkeypatch.setattr(commit, "_AGAIN_S", 0.01)

    async def test(one: Hook) -> None:
        async with alerting(tmp_path, settings_of(to(one))) as box:
            await box.publish(reading(20.0))
            space = full(box)
            held = box.source.send(*(reading(at / 3, at) for at in range(1, 200)), reading(90.0, 300))
            await until_async(lambda: len(one.posts) == 1)
            space()
            await box.acknowledged(held)
            await until_async(lambda: len(one.posts) == 2)
        assert [post["provisional"] for post in one.said] == [True, False]
        assert len({post["id"] for post in one.said}) == 1

    with hook() as one:
        asyncio.run(test(one))


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (AlertSettings(name="a", to="webhook"), "url = '' is none"),
        (AlertSettings(name="a", url="http://x/"), "without a webhook"),
        (AlertSettings(name="a", topic="x"), "without mqtt"),
        (AlertSettings(name="a", to="mqtt", broker="b"), "none of"),
        (AlertSettings(name="a", to="mqtt", retain=True), "retains nothing"),
        (AlertSettings(name="a", to="mqtt", topic="hw/{site}/x"), "topic of devices"),
        (AlertSettings(name="a", to="mqtt", topic="x/{what}"), "is no topic"),
        (AlertSettings(name="a", to="mqtt", topic="x/#"), "is no topic"),
        (AlertSettings(name="a", retry="0s"), "retry or timeout"),
        (AlertSettings(name="a/b"), "is no name"),
    ],
)
def test_settings_that_cannot_work_are_refused(way: AlertSettings, words: str) -> None:
    """Each with what to write instead."""
    with pytest.raises(SettingsError, match=words) as refused:
        check_alerts([way], [])
    assert refused.value.hint


def test_two_ways_have_two_names() -> None:
    """They are told apart by it in the file."""
    with pytest.raises(SettingsError, match="of two alerts"):
        check_alerts([alert(), alert()], [])
