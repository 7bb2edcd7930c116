"""When a route says what: quiet hours across changes of the clocks, nobody woken for what is over, collecting, at most so many."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from headwater_cloud import notify_hours
from headwater_cloud.notify_file import MANY
from headwater_cloud.notify_settings import NotifySettings, read_routes
from headwater_shared.errors import SettingsError
from tests.cloud.made import S
from tests.cloud.receivers import Hook, webhook
from tests.cloud.test_courier import Told, made

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, HOUR = 60, 3600


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> int:
    """Microseconds of a local time."""
    return round(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1e6)


class Night(Told):
    """A courier whose route is a webhook, from a local time in Berlin on."""

    def __init__(self, folder: Path, hook: Hook, begin: str, **settings: object) -> None:
        route = msgspec.convert(
            {"name": "duty", "to": "webhook", "url": hook.url, "zone": "Europe/Berlin"} | settings,
            NotifySettings,
        )
        self.hook = hook
        super().__init__(folder, (route,))
        self.clock.wall_us = at(begin)

    def pass_on(self, seconds: float) -> None:
        """Let time pass, a minute at a time."""
        for _ in range(max(1, round(seconds / MINUTE))):
            self.clock.advance(min(seconds, MINUTE))
            self.deliver()

    def said(self, *some: object) -> list[str]:
        """Put notifications, and return what came of all by now: ids, of a digest those in it in brackets."""
        self.put(*some)  # type: ignore[arg-type]
        self.deliver()
        return [
            f"[{' '.join(one['id'] for one in posted.said['notifications'])}]"
            if posted.said["digest"]
            else posted.said["id"]
            for posted in self.hook.got
        ]


Make = Callable[..., Night]


@pytest.fixture
def night(folder: Path, request: pytest.FixtureRequest) -> Make:
    """Makes a `Night`."""

    def make(begin: str, **settings: object) -> Night:
        hook = webhook()
        one = Night(folder, hook.__enter__(), begin, **settings)
        request.addfinalizer(lambda: hook.__exit__(None, None, None))
        request.addfinalizer(one.close)
        return one

    return make


def test_quiet_hours_hold_what_need_not_wake_and_end_in_one_message(night: Make) -> None:
    """At night a warning waits and a critical alert does not; at six all that waited is one digest, then each comes by itself."""
    one = night("2026-11-26T22:30", quiet=["22:00-06:00"])
    assert one.said(made(1), made(2, severity="critical")) == ["a2/firing"]
    one.pass_on(7 * HOUR)
    assert one.said(made(3)) == ["a2/firing"]
    one.pass_on(29 * MINUTE)
    assert one.said() == ["a2/firing"]
    one.pass_on(1 * MINUTE)
    assert one.said() == ["a2/firing", "[a1/firing a3/firing]"]
    assert one.said(made(4)) == ["a2/firing", "[a1/firing a3/firing]", "a4/firing"]


def test_nobody_is_woken_for_what_is_over(night: Make) -> None:
    """Critical, and over when it was found: it waits for the morning. So does one that is resolved before it could be sent, and that an alert of the
    day before is over. But who was woken hears that it is over.
    """
    one = night("2026-11-26T20:00", quiet=["22:00-06:00"])
    assert one.said(made(9, severity="critical")) == ["a9/firing"]
    one.pass_on(3 * HOUR)
    one.said(
        made(1, severity="critical", over=True),
        made(2, severity="critical"),
        made(2, "resolved", severity="critical"),
    )
    assert one.said(made(9, "resolved", severity="critical")) == ["a9/firing"]
    assert one.said(made(3, severity="critical")) == ["a9/firing", "a3/firing"]
    assert one.said(made(3, "resolved", severity="critical"))[2:] == ["a3/resolved"]
    one.pass_on(7 * HOUR)
    assert one.said()[3:] == ["[a1/firing a2/firing a2/resolved a9/resolved]"]
    title = one.hook.got[-1].said["title"]
    assert title == "3 alerts: 1 critical, 2 over"


@pytest.mark.parametrize(
    ("day", "begins", "hours"),
    [("2026-03-28", "22:00", 7), ("2026-10-24", "22:00", 9), ("2026-11-26", "22:00", 8)],
    ids=["into summer time", "out of it", "any other night"],
)
def test_a_night_of_a_change_of_the_clocks_is_an_hour_shorter_or_longer(
    day: str, begins: str, hours: int
) -> None:
    """Quiet from 22:00 to 06:00 on the wall clock, whatever the wall clock does between."""
    quiet = notify_hours.parse("x", ["22:00-06:00"])
    begin = at(f"{day}T{begins}")
    assert not notify_hours.inside(quiet, begin - 1, BERLIN)
    assert notify_hours.inside(quiet, begin, BERLIN)
    end = notify_hours.until(quiet, begin, BERLIN)
    assert end == begin + hours * HOUR * S
    assert notify_hours.since(quiet, end - 1, BERLIN) == begin


def test_hours_that_end_or_begin_in_an_hour_that_is_not_or_is_twice(night: Make) -> None:
    """02:30 is not on the 29th of March: quiet ends as the clocks go from 2 to 3. It is twice on the 25th of October: quiet each time."""
    until = notify_hours.parse("x", ["22:00-02:30"])
    assert notify_hours.until(until, at("2026-03-29T01:59"), BERLIN) == at("2026-03-29T03:00")
    twice = notify_hours.parse("x", ["02:00-02:30"])
    first, second = at("2026-10-25T02:10"), at("2026-10-25T02:10", fold=1)
    assert second - first == HOUR * S
    assert [
        notify_hours.inside(twice, moment, BERLIN) for moment in (first, at("2026-10-25T02:40"), second)
    ] == [True, False, True]
    one = night("2026-03-29T01:58", quiet=["22:00-02:30"])
    one.said(made(1))
    one.pass_on(2 * MINUTE)
    assert one.said() == ["a1/firing"]
    assert one.clock.wall_us == at("2026-03-29T03:00")


def test_days_of_the_week_and_midnight() -> None:
    """A span belongs to the day that it begins on; one that ends before it begins ends on the next day."""
    hours = notify_hours.parse("x", ["fri-sat 22:00-06:00", "wed 08:00-24:00"])
    inside = [
        day for day in ("2026-11-25T23:59", "2026-11-26T00:00", "2026-11-27T21:59", "2026-11-27T22:00", "2026-11-28T05:59", "2026-11-29T05:59", "2026-11-29T06:00", "2026-11-29T23:00")
        if notify_hours.inside(hours, at(day), BERLIN)
    ]  # fmt: skip
    assert inside == ["2026-11-25T23:59", "2026-11-27T22:00", "2026-11-28T05:59", "2026-11-29T05:59"]
    assert (
        notify_hours.until(notify_hours.parse("x", ["00:00-24:00"]), at("2026-11-26T12:00"), BERLIN) is None
    )


def test_the_zone_is_the_routes_or_the_sites(folder: Path) -> None:
    """Two sites, one quiet there and the other not here; a site without a zone goes by UTC."""
    with webhook() as hook:
        route = NotifySettings("duty", "webhook", url=hook.url, quiet=("22:00-06:00",), most=0)
        told = Told(folder, (route,), zones={"berlin*": "Europe/Berlin", "tokyo": "Asia/Tokyo"})
        told.clock.wall_us = at("2026-11-26T21:30", ZoneInfo("UTC"))
        told.put(*(made(n, subject=f"{site}/d/x") for n, site in enumerate(("berlin-1", "tokyo", "other"))))
        told.deliver()
        assert [posted.said["subject"] for posted in hook.got] == ["tokyo/d/x", "other/d/x"]
        told.close()


def test_hours_are_when_a_route_is_used_at_all(night: Make) -> None:
    """What comes at another time never goes this way."""
    one = night("2026-11-26T07:59", hours=["mon-fri 08:00-18:00"])
    assert one.said(made(1)) == []
    one.pass_on(1 * MINUTE)
    assert one.said(made(2)) == ["a2/firing"]
    one.pass_on(10 * HOUR)
    assert one.said(made(3)) == ["a2/firing"]


def test_a_digest_collects_for_as_long_as_it_is_told(night: Make) -> None:
    """From the first one on; one alone is a message like any other."""
    one = night("2026-11-26T10:00", digest="5m")
    assert one.said(made(1)) == []
    one.pass_on(4 * MINUTE)
    assert one.said(made(2)) == []
    one.pass_on(1 * MINUTE)
    assert one.said() == ["[a1/firing a2/firing]"]
    one.said(made(3))
    one.pass_on(5 * MINUTE)
    assert one.said()[1:] == ["a3/firing"]


def test_never_more_messages_in_a_time_than_allowed_and_none_is_lost(night: Make) -> None:
    """A storm of 60: nine by themselves, and a minute later one digest of the others, "and 41 more"; then, as room comes, the next."""
    one = night("2026-11-26T10:00")
    storm = [made(n) for n in range(60)]
    assert one.said(*storm) == [f"a{n}/firing" for n in range(9)]
    one.pass_on(59)
    assert len(one.said()) == 9
    one.pass_on(1)
    assert one.said()[9] == "[" + " ".join(f"a{n}/firing" for n in range(9, 60)) + "]"
    message = one.hook.got[-1].said["message"]
    assert message.count("\n") == 10
    assert message.endswith("and 41 more: `headwater alerts` lists all")
    one.said(made(70), made(71))
    one.pass_on(8 * MINUTE)
    assert len(one.said()) == 10
    one.pass_on(1 * MINUTE)
    assert one.said()[10:] == ["a70/firing", "a71/firing"]
    assert one.courier.status()["routes"]["duty"]["waiting"] == 0


@pytest.mark.covers("R29")
def test_r29_a_clock_that_was_wrong_for_a_while_silences_no_route(night: Make) -> None:
    """Ten messages went out while it showed a year ahead; it is set right, and the next one does not wait for that year."""
    one = night("2027-11-26T10:00")
    assert len(one.said(*(made(n) for n in range(12)))) == 9
    one.pass_on(MINUTE)
    before = len(one.said())
    one.clock.wall_us = at("2026-11-26T10:00")
    assert one.said(made(20))[before:] == ["a20/firing"]


@pytest.mark.covers("R29")
def test_r29_what_may_wake_does_not_wait_behind_thousands_that_may_not(night: Make) -> None:
    """More warnings than one look reads are held in the night: a critical alert that comes after them goes at once."""
    one = night("2026-11-26T22:30", quiet=["22:00-06:00"])
    assert one.said(*(made(n) for n in range(MANY + 1))) == []
    assert one.said(made(9_999, severity="critical")) == ["a9999/firing"]


def test_after_an_outage_all_that_waited_comes_within_the_limit(night: Make) -> None:
    """A receiver that answers 503 for an hour: then nine, and the rest in one digest; none twice, none marked."""
    one = night("2026-11-26T10:00")
    one.hook.answer = 503, {}
    for n in range(60):
        one.said(made(n))
        one.pass_on(MINUTE)
    assert one.said() == []
    one.hook.answer = 200, {}
    one.pass_on(7 * MINUTE)
    got = one.said()
    assert len(got) == 10
    assert " ".join(got).replace("[", "").replace("]", "").split() == [f"a{n}/firing" for n in range(60)]
    assert not any('possible_repeat":true' in posted.body.decode() for posted in one.hook.got)


def test_who_asks_to_be_left_alone_is(night: Make) -> None:
    """429 with Retry-After: no try before, whatever comes meanwhile; beyond retry_most it is not waited for."""
    one = night("2026-11-26T10:00", retry_most="2m")
    one.hook.answer = 429, {"Retry-After": "90"}
    one.said(made(1))
    one.hook.answer = 200, {}
    one.clock.advance(89)
    assert one.said(made(2)) == []
    one.clock.advance(1)
    assert one.said() == ["a1/firing", "a2/firing"]
    one.hook.answer = 429, {"Retry-After": "86400"}
    one.said(made(3))
    one.hook.answer = 200, {}
    one.clock.advance(120)
    assert one.said()[2:] == ["a3/firing"]


def test_a_refused_message_holds_up_no_other_and_can_be_tried_again(night: Make) -> None:
    """422 means this body: the next one goes; it stays in sight, and goes when a person says so, or after a start."""
    one = night("2026-11-26T10:00")
    one.hook.answer = 422, {}
    one.said(made(1))
    one.hook.answer = 200, {}
    assert one.said(made(2)) == ["a2/firing"]
    status = one.courier.status()["routes"]["duty"]
    assert (status["refused"], status["waiting"]) == (1, 0)
    assert one.courier.store is not None
    assert one.courier.store.retry("other", one.clock.wall_us) == 0
    assert one.courier.store.retry("duty", one.clock.wall_us) == 1
    assert one.said() == ["a2/firing", "a1/firing"]
    one.hook.answer = 422, {}
    one.said(made(3))
    one.hook.answer = 200, {}
    one.again()
    assert one.said()[2:] == ["a3/firing"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": "webhook"}, "cloud.notify 'x': it has no url"),
        ({"to": "webhook", "url": "ftp://there"}, "url is none of a webhook: http:// or https://"),
        ({"to": "webhook", "urls": ["http://x", "http://y"]}, "several urls of a webhook"),
        ({"to": "file"}, "it names no file"),
        ({"to": "apprise", "url": "nosuch://there"}, "Apprise knows no address that begins with nosuch://"),
        ({"to": "apprise", "url": "slack://x"}, "url is none of slack:// as Apprise wants it"),
        ({"to": "apprise", "url": "env:NOT_THERE_AT_ALL"}, "the environment variable NOT_THERE_AT_ALL is not set"),
        ({"to": "webhook", "url": "http://x", "secret": "env:NOT_THERE_AT_ALL"}, "'x': the environment variable NOT_THERE_AT_ALL"),
        ({"to": "webhook", "url": "http://x", "zone": "Europe/Berlim"}, "'Europe/Berlim' is no time zone"),
        ({"to": "webhook", "url": "http://x", "quiet": ["22-6"]}, "quiet: '22-6' is no span of hours"),
        ({"to": "webhook", "url": "http://x", "hours": ["mo-fr 08:00-18:00"]}, "names a day that is none"),
        ({"to": "webhook", "url": "http://x", "retry": "10m"}, "retry above retry_most"),
        ({"to": "file", "file": "x", "name": "file"}, "is the file of \\[cloud\\] notifications"),
    ],
)  # fmt: skip
def test_mistakes_of_the_settings_are_told_with_what_to_write(
    settings: dict[str, object], message: str
) -> None:
    """Each names the route and the key, and says what to write."""
    with pytest.raises(SettingsError, match=message) as caught:
        read_routes([msgspec.convert({"name": "x"} | settings, NotifySettings)], "lines.jsonl")
    assert caught.value.hint


@pytest.mark.parametrize("to", ["webhook", "alertmanager"])
def test_an_address_that_stands_in_the_settings_is_looked_at_without_the_secrets(to: str) -> None:
    """So `headwater rules check` finds it, and not only the start; one that stands elsewhere is left to the start."""
    with pytest.raises(SettingsError, match="http:// or https://"):
        read_routes([msgspec.convert({"name": "x", "to": to, "url": "127.0.0.1:8099/hook"}, NotifySettings)], "", secrets=False)  # fmt: skip
    (route,) = read_routes([msgspec.convert({"name": "x", "to": to, "url": "env:NOT_THERE_AT_ALL"}, NotifySettings)], "", secrets=False)  # fmt: skip
    assert route.settings.name == "x"
