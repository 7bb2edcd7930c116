"""The courier: what stands in the cloud's table reaches people once, whatever is killed, restored, full or away (R29)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater_cloud import courier, notify_store, notify_thread
from headwater_cloud.notify_file import Waiting, taken_up_to
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_list import undelivered
from headwater_cloud.notify_route import moment
from headwater_cloud.notify_settings import NotifySettings, read_routes
from headwater_cloud.notify_thread import Stepped
from headwater_cloud.outputs import Notification
from headwater_cloud.retention import Keep, prune_levels
from headwater_cloud.store import Store
from headwater_cloud.write import write_notifications
from headwater_shared.clock import SetClock
from headwater_shared.errors import TryAgain
from tests.cloud.kills import Steps
from tests.cloud.made import DAY
from tests.cloud.notified import LINES, NOTIFY, courier_of, deliver
from tests.cloud.receivers import webhook
from tests.cloud.side import FILE
from tests.support import until

ROUTES = (
    NotifySettings("two", "file", file="two.jsonl"),
    NotifySettings("bad", "file", file="bad.jsonl", severity="critical"),
)


def made(n: int, state: str = "firing", **more: object) -> Notification:
    """One notification of alert `n`."""
    fields = {"id": f"a{n}/{state}", "alert": f"a{n}", "state": state, "rule": "too-hot", "subject": "s1/d1/temp", "severity": "warning",
              "text": "too hot", "value": 9.0, "begin_us": 1_800_000_000_000_000, "time_us": 1_800_000_000_000_000}  # fmt: skip
    return msgspec.convert(fields | more, Notification)


class Told:
    """A cloud's file that a test writes notifications into, and a courier of it."""

    def __init__(
        self, folder: Path, routes: tuple[NotifySettings, ...] = (), **more: Any
    ) -> None:  # fmt: skip
        self.folder, self.routes, self.more = folder, routes, more
        self.clock = SetClock()
        self.store = Store(folder / FILE)
        self.courier = courier_of(folder, self.clock, routes, **more)
        self.courier.begin()

    def put(self, *some: Notification) -> list[Notification]:
        """Commit notifications as a batch does; returns those that were news."""
        with self.store.transaction() as connection:
            return write_notifications(connection, some)

    def deliver(self) -> None:
        deliver(self.courier)

    def again(self) -> None:
        """End the courier's process, and start the next one."""
        self.courier.close()
        self.courier = courier_of(self.folder, self.clock, self.routes, **self.more)
        self.courier.begin()

    def lines(self, name: str = LINES) -> list[str]:
        """Ids of the notifications in a file of lines, in order, marked where they may be repeats."""
        path = self.folder / name
        found = (
            [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        )
        return [one["id"] + ("?" if one.get("possible_repeat") else "") for one in found]

    def ids(self) -> list[str]:
        """What the cloud's table holds."""
        return [id_ for (id_,) in self.store.connection.execute("SELECT id FROM notification ORDER BY n")]

    def close(self) -> None:
        self.courier.close()
        self.store.close()


@pytest.fixture
def told(folder: Path) -> Iterator[Told]:
    some = Told(folder)
    yield some
    some.close()


def test_r29_each_goes_out_once_and_is_never_told_again(told: Told) -> None:
    """In the order of the table; the same id again is no news, and the next process begins behind what was delivered."""
    assert [one.id for one in told.put(made(1), made(2))] == ["a1/firing", "a2/firing"]
    told.deliver()
    assert told.put(made(2), made(3), made(3)) == [made(3)]
    told.deliver()
    told.again()
    told.deliver()
    assert told.lines() == ["a1/firing", "a2/firing", "a3/firing"]


@pytest.mark.covers("R29")
def test_r29_killed_at_each_step_only_what_was_on_its_way_goes_again_marked(
    folder: Path, steps: Steps
) -> None:
    """Two files, five notifications; at each step of the courier its process dies. Each file has each notification; twice, and then
    marked, only what was on its way by that file.
    """

    def story(some: Told) -> None:
        some.put(made(1), made(2))
        some.deliver()
        some.put(made(3), made(4), made(5))
        some.deliver()

    for at in range(1000):
        here = folder / f"{at}"
        here.mkdir()
        some = Told(here, ROUTES[:1])
        left = steps.killed(partial(story, some), here, at, folder / f"{at}-left")
        some.close()
        if left is None:
            break
        name = steps.passed[-1]
        some = Told(left, ROUTES[:1])
        some.put(made(1), made(2), made(3), made(4), made(5))
        some.deliver()
        some.close()
        both = [some.lines(), some.lines("two.jsonl")]
        for lines in both:
            assert sorted({line.rstrip("?") for line in lines}) == [f"a{n}/firing" for n in range(1, 6)], name
            assert all(lines.count(line) == 1 for line in lines if not line.endswith("?")), name
        marked = [sum(line.endswith("?") for line in lines) for lines in both]
        in_flight = name in {"cloud.notify.sending", "cloud.notify.written", "cloud.notify.sent"}
        assert min(marked) == 0, f"{name}: only one route had something on its way"
        assert (max(marked) in {2, 3}) == in_flight, name
    assert at > 20


@pytest.mark.covers("R29")
def test_r29_a_failure_that_may_have_delivered_is_marked_and_one_that_did_not_is_not(told: Told) -> None:
    """No file can be made there: what was tried comes unmarked. The disk is full in the middle of a line: it comes marked."""
    path = told.folder / LINES
    path.mkdir()
    told.put(made(1))
    told.deliver()
    path.rmdir()
    path.symlink_to("/dev/full")
    told.clock.advance(10)
    told.put(made(2))
    told.deliver()
    path.unlink()
    told.put(made(3))
    told.clock.advance(10)
    told.deliver()
    assert told.lines() == ["a1/firing?", "a2/firing?", "a3/firing"]
    path.unlink()
    path.mkdir()
    told.put(made(4))
    told.deliver()
    path.rmdir()
    told.clock.advance(10)
    told.deliver()
    assert told.lines() == ["a4/firing"]


def test_r29_what_cannot_be_sent_stays_and_is_tried_again_ever_more_rarely(told: Told) -> None:
    """Waits double up to retry_most, whatever comes in between; a restart tries at once."""
    (told.folder / LINES).mkdir()
    told.put(made(1))
    tries = []
    for second in range(700):
        before = told.courier.routes["file"].failed
        told.deliver()
        if told.courier.routes["file"].failed > before:
            tries.append(second)
        told.clock.advance(1)
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert len(tries) < 14
    assert max(waits) <= 300
    assert waits[0] <= 2
    assert waits[-1] > 40
    assert told.courier.status()["routes"]["file"]["waiting"] == 1
    (told.folder / LINES).rmdir()
    told.again()
    told.deliver()
    assert told.lines() == ["a1/firing"]


def test_r29_a_cloud_file_that_went_back_or_is_another_tells_what_is_new_and_nothing_twice(
    told: Told,
) -> None:
    """From a backup, the table gives numbers again that were given: what has them is new all the same, known by its id."""
    told.put(made(1))
    told.deliver()
    told.store.close()
    shutil.copyfile(told.folder / FILE, told.folder / "backup")
    told.store = Store(told.folder / FILE)
    told.put(made(2), made(3))
    told.deliver()
    told.close()
    for end in ("", "-wal", "-shm"):
        (told.folder / f"{FILE}{end}").unlink(missing_ok=True)
    (told.folder / "backup").rename(told.folder / FILE)
    told.store = Store(told.folder / FILE)
    told.put(made(2), made(4), made(5))
    told.again()
    told.deliver()
    told.put(made(3), made(6))
    told.deliver()
    assert told.lines() == [f"a{n}/firing" for n in (1, 2, 3, 4, 5, 6)]


def test_r29_without_its_file_what_was_told_within_a_day_is_told_again_and_marked(told: Told) -> None:
    """`notify.db` is gone: of the table's rows nobody knows whether they went out. Those of the last day go once more, the older ones
    do not; what comes then is new, and unmarked.
    """
    old = told.clock.wall_us - 2 * 86_400_000_000
    told.put(made(1, time_us=old), made(2, known_us=told.clock.wall_us))
    told.deliver()
    told.courier.close()
    (told.folder / LINES).unlink()
    for path in told.folder.glob(f"{NOTIFY}*"):
        path.unlink()
    told.again()
    told.put(made(3, known_us=told.clock.wall_us))
    told.deliver()
    assert told.lines() == ["a2/firing?", "a3/firing"]


def test_r32_another_process_sends_what_the_first_one_left(told: Told) -> None:
    """Who has not the lock does nothing, and takes over when the one that has it is gone."""
    other = courier_of(told.folder, told.clock)
    other.begin()
    assert not other.trouble
    assert other.status() == {"holds": False, "routes": {}}
    (told.folder / LINES).mkdir()
    told.put(made(1))
    told.deliver()
    assert not other.open()
    told.courier.close()
    (told.folder / LINES).rmdir()
    told.clock.advance(60)
    deliver(other)
    assert told.lines() == ["a1/firing"]
    assert other.status()["holds"]
    other.close()


@pytest.mark.covers("R11")
def test_r11_what_became_of_a_message_is_recorded_when_there_is_room_again(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the courier takes nothing after a message went out: it is recorded later, not sent again, and nothing else is before."""
    told.put(made(1))
    while told.courier.step():
        pass
    whole = notify_store.NotifyStore.sent
    fails = [True, True]

    def sent(store: notify_store.NotifyStore, route: str, letter: int, now_us: int) -> None:
        if fails:
            fails.pop()
            raise TryAgain("the commit did not fit")
        whole(store, route, letter, now_us)

    monkeypatch.setattr(notify_store.NotifyStore, "sent", sent)
    told.put(made(2))
    for _ in range(2):
        with pytest.raises(TryAgain):
            told.courier.routes["file"].step()
    told.deliver()
    told.again()
    told.deliver()
    assert told.lines() == ["a1/firing", "a2/firing"]


def test_a_damaged_file_is_said_and_stops_nothing_else(told: Told) -> None:
    """Its process goes on, says what to do, and begins anew when the file was moved away."""
    told.courier.close()
    (told.folder / f"{NOTIFY}-wal").unlink(missing_ok=True)
    (told.folder / NOTIFY).write_bytes(b"no database at all" * 1000)
    told.courier = courier_of(told.folder, told.clock)
    told.courier.begin()
    assert "notify.db is damaged" in told.courier.troubles()[0]
    assert "move it and its -wal away" in told.courier.troubles()[0]
    told.put(made(1))
    (told.folder / NOTIFY).unlink()
    told.deliver()
    assert told.lines() == ["a1/firing?"]


def test_a_process_sends_by_threads_of_its_own(told: Told) -> None:
    """Started, it needs no stepping: news by a wake, at once."""
    told.courier.start()
    told.put(made(1))
    told.courier.wake()
    until(lambda: told.lines() == ["a1/firing"], what="it is told")
    told.put(made(2))
    told.courier.wake()
    until(lambda: told.lines() == ["a1/firing", "a2/firing"], what="it is told")


def test_what_waits_for_a_route_that_is_gone_stays_in_sight_for_a_month(folder: Path) -> None:
    """It is listed as such, goes out if the route comes back, and is dropped in the end."""
    told = Told(folder, ROUTES)
    (folder / "bad.jsonl").mkdir()
    told.put(made(1, severity="critical"))
    told.deliver()
    told.routes = ()
    told.again()

    def listed() -> list[tuple[str, str]]:
        now = moment(told.clock)
        return [
            (one.route, one.state)
            for one in undelivered(folder / NOTIFY, read_routes((), LINES), Zones({}), now)
        ]

    assert listed() == [("bad", "gone")]
    (one,) = undelivered(folder / NOTIFY, read_routes((), LINES), Zones({}), moment(told.clock), {"bad"})
    assert one.state == "waiting", (
        "a process that runs has it: these settings are not those that it was started with"
    )
    told.clock.advance(29 * 86_400)
    told.deliver()
    told.courier._tidy()
    assert listed() == [("bad", "gone")]
    told.clock.advance(2 * 86_400)
    told.courier._tidy()
    assert listed() == []
    told.close()


def test_what_waits_for_the_end_of_quiet_hours_is_listed_with_when_that_is(folder: Path) -> None:
    """In the hours of the site's zone; the clock stands at 8 in London."""
    routes = (
        NotifySettings(
            "quiet", "webhook", url="http://127.0.0.1:1/", quiet=("06:00-12:30",), zone="Europe/Berlin"
        ),
    )
    told = Told(folder, routes)
    told.put(made(1))
    told.deliver()
    now = moment(told.clock)
    (one,) = undelivered(folder / NOTIFY, read_routes(routes, LINES, secrets=False), Zones({}), now)
    assert (one.state, one.why, one.tries) == ("waiting", "quiet hours", 0)
    assert one.next_us == now.shown_us + 3.5 * 3_600_000_000
    told.close()


def test_what_cannot_be_read_is_told_as_such_and_holds_up_nothing(told: Told) -> None:
    """A newer version wrote a state that this one does not know: people hear that there is something, and the next one comes."""
    told.put(made(1))
    with told.store.transaction() as connection:
        connection.execute("UPDATE notification SET body = replace(body, 'firing', 'dancing')")
    told.put(made(2))
    told.deliver()
    assert told.lines() == ["a1/firing", "a2/firing"]
    (line, _) = (told.folder / LINES).read_text().splitlines()
    assert "unreadable" in line


def test_threads_that_fail_begin_again(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of, in a route or in the courier itself: all begins from the file, and goes on."""
    monkeypatch.setattr(courier, "_TRY_S", 0.01)
    whole, fails = (
        notify_store.NotifyStore.waiting,
        [ZeroDivisionError("a"), OSError("b"), sqlite3.OperationalError("c")],
    )

    def waiting(store: notify_store.NotifyStore, route: str, *which: Any, **more: Any) -> list[Waiting]:
        if fails:
            raise fails.pop()
        return whole(store, route, *which, **more)

    monkeypatch.setattr(notify_store.NotifyStore, "waiting", waiting)
    told.courier.start()
    told.put(made(1))
    told.courier.wake()
    until(lambda: told.lines() == ["a1/firing"], what="it is told")
    assert not fails
    until(lambda: not told.courier.troubles(), what="all is well again")


class Held(Stepped):
    """A route whose file somebody holds at its first look, and that has nothing to send."""

    steps = 0

    def step(self) -> int | None:
        self.steps += 1
        if self.steps == 1:
            raise TryAgain("the file is held")
        return None


def test_a_trouble_with_a_file_is_over_when_the_file_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing needs to be sent for that: health would say for days that notifications do not go out."""
    monkeypatch.setattr(notify_thread, "_AFTER_TROUBLE_S", 0.01)
    one = Held("held", lambda: 0, lambda: None)
    one.start()
    until(lambda: one.steps > 1, what="it looks again")
    one.close()
    assert one.failing == ""


def test_the_last_words_of_a_process_go_out_as_it_ends(folder: Path) -> None:
    """What its last commit has to tell is taken up and sent before it is gone, as far as that takes no waiting."""
    with webhook() as hook:
        told = Told(folder, (NotifySettings("hook", "webhook", url=hook.url),))
        told.courier.start()
        told.put(made(1), made(2))
        told.close()
        assert told.lines() == ["a1/firing", "a2/firing"]
        assert [posted.said["id"] for posted in hook.got] == ["a1/firing", "a2/firing"]


def test_routes_take_what_they_want_and_a_failing_one_holds_up_no_other(folder: Path) -> None:
    """By severity; the one that fails is named, with what waits."""
    told = Told(folder, ROUTES)
    (folder / "bad.jsonl").mkdir()
    told.put(made(1), made(2, severity="critical"), made(3, severity="info"))
    told.deliver()
    assert told.lines() == ["a1/firing", "a2/firing", "a3/firing"]
    assert told.lines("two.jsonl") == ["a1/firing", "a2/firing"]
    status = told.courier.status()["routes"]
    assert [(name, one["sent"], one["waiting"]) for name, one in status.items()] == [
        ("file", 3, 0),
        ("two", 2, 0),
        ("bad", 0, 1),
    ]
    (trouble,) = told.courier.troubles()
    assert "notifications do not go out by 'bad'" in trouble
    told.close()


def test_r27_what_the_courier_has_not_taken_up_is_never_deleted(told: Told) -> None:
    """However old: retention goes by the courier's file, and deletes nothing where there is none."""
    keep = Keep({}, DAY, DAY, partial(taken_up_to, told.folder / NOTIFY))
    now_us = told.clock.wall_us
    told.put(made(1, time_us=now_us - 9 * DAY))
    told.deliver()
    told.put(made(2, time_us=now_us - 9 * DAY), made(3, known_us=now_us))
    told.courier.close()
    for _ in range(2):
        prune_levels(told.store.transaction, [], now_us, keep)
    assert told.ids() == ["a2/firing", "a3/firing"]
    told.again()
    told.deliver()
    prune_levels(told.store.transaction, [], now_us, keep)
    assert told.ids() == ["a3/firing"]
    assert told.lines() == ["a1/firing", "a2/firing", "a3/firing"]


def test_what_the_cloud_forgot_long_ago_is_forgotten(told: Told) -> None:
    """Both are gone from the cloud's table; the one that is delivered is forgotten after a month, the one that waits never."""
    told.put(made(1))
    told.deliver()
    (told.folder / LINES).rename(told.folder / "kept")
    (told.folder / LINES).mkdir()
    told.put(made(2))
    told.deliver()
    with told.store.transaction() as connection:
        connection.execute("DELETE FROM notification")
    told.clock.advance(29 * 86_400)
    told.courier._tidy()
    with closing(sqlite3.connect(told.folder / NOTIFY)) as file:
        assert file.execute("SELECT id FROM notification").fetchall() == [("a1/firing",), ("a2/firing",)]
        told.clock.advance(2 * 86_400)
        told.courier._tidy()
        assert file.execute("SELECT id FROM notification").fetchall() == [("a2/firing",)]
