"""The link that acknowledges: signed, good once, for a week; to look at it changes nothing."""

from __future__ import annotations

import base64
import http.client
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from html import unescape
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headwater_cloud import ack_page
from headwater_cloud.ack_links import PATH, AckLinks
from headwater_cloud.ack_page import Acknowledged
from headwater_cloud.acknowledged import acknowledged
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_pages import HEADER, NotifyPages, message_of_test
from headwater_shared.errors import BusUnavailable, Refused, SettingsError
from headwater_shared.health import Answered, Asked, serve
from headwater_shared.sqlite_log import SqliteLog
from tests.cloud.made import Agent
from tests.cloud.notified import courier_of
from tests.cloud.side import FILE, LOG, Side
from tests.cloud.test_courier import Told, made

URL = "https://hw.example.org"


class Linked:
    """A courier that has taken up notifications, and the page."""

    def __init__(self, folder: Path) -> None:
        self.told = Told(folder)
        self.told.put(made(1, text="<b>hot</b>"), made(2))
        self.told.deliver()
        self.links = AckLinks(folder / "data", URL, self.told.clock)
        self.done: list[Acknowledged] = []
        self.away = False

    def token(self, n: int = 1) -> str:
        link = self.links.link(made(n))
        assert link.startswith(URL + PATH)
        return link.removeprefix(URL + PATH)

    def ask(self, method: str, token: str, body: bytes = b"") -> tuple[int, str]:
        """Ask for the page; returns status and text."""
        assert self.told.courier.store is not None
        found: Answered = ack_page.answer(
            Asked(method, PATH + token, {}, body), self.told.courier.store, self.links, Zones({}), self.told.clock, self._acknowledge
        )  # fmt: skip
        return found.status, unescape(found.body.decode())

    def _acknowledge(self, one: Acknowledged) -> None:
        if self.away:
            raise BusUnavailable("the bus is away")
        self.done.append(one)


@pytest.fixture
def linked(folder: Path) -> Iterator[Linked]:
    made_ = Linked(folder)
    yield made_
    made_.told.close()


def test_looking_at_a_link_acknowledges_nothing_and_its_button_does_once(linked: Linked) -> None:
    """Mail scanners follow links: GET shows the alert and a button, however often. The second POST says who was first."""
    token = linked.token()
    for _ in range(3):
        status, page = linked.ask("GET", token)
        assert status == 200
        assert "<button>Acknowledge</button>" in page
    assert linked.done == []
    status, page = linked.ask("POST", token, b"who=Ann+Lee")
    assert status == 200
    assert "By Ann Lee, Fri 15 Jan 08:00 UTC." in page
    assert [(one.notification.id, one.who) for one in linked.done] == [("a1/firing", "Ann Lee")]
    for method in ("POST", "GET"):
        status, page = linked.ask(method, linked.token(), b"who=Bob")
        assert status == 409
        assert "Acknowledged already" in page
        assert "By Ann Lee" in page
    assert len(linked.done) == 1
    assert linked.ask("POST", linked.token(2))[0] == 200
    assert linked.done[1].who == "somebody"


def test_the_link_of_a_test_shows_that_links_work(linked: Linked) -> None:
    """`headwater notify test` tries the way of the link, too."""
    (one,) = message_of_test(linked.told.clock.wall_us).some
    status, page = linked.ask("GET", linked.links.link(one).removeprefix(URL + PATH))
    assert (status, "The link works" in page) == (200, True)


def test_what_the_alert_says_is_no_html(linked: Linked) -> None:
    """Texts come from settings and devices."""
    assert linked.told.courier.store is not None
    page = ack_page.answer(
        Asked("GET", PATH + linked.token(), {}, b""), linked.told.courier.store, linked.links, Zones({}), linked.told.clock, linked._acknowledge
    )  # fmt: skip
    assert b"<b>" not in page.body
    assert b"&lt;b&gt;hot" in page.body
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_forged_a_cut_and_an_old_link_acknowledge_nothing_and_say_so(linked: Linked, folder: Path) -> None:
    """Every bit counts; another box's key does not open it; after a week it is too old."""
    token = linked.token()
    whole = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for at in range(len(whole)):
        forged = bytearray(whole)
        forged[at] ^= 1
        status, page = linked.ask("POST", base64.urlsafe_b64encode(bytes(forged)).decode())
        assert status == 404
    assert "not one of ours" in page
    for wrong in (token[:-3], "", "%%%", "a" * 5000):
        assert linked.ask("POST", wrong)[0] == 404
    other = AckLinks(folder / "other", URL, linked.told.clock)
    assert linked.ask("POST", other.link(made(1)).removeprefix(URL + PATH))[0] == 404
    linked.told.clock.advance(7 * 86_400 + 1)
    status, page = linked.ask("POST", token)
    assert status == 410
    assert "too old" in page
    assert linked.done == []


def test_while_the_bus_is_away_the_button_can_be_pressed_again(linked: Linked) -> None:
    """A link is used up only when its acknowledgement is on the bus."""
    linked.away = True
    status, page = linked.ask("POST", linked.token())
    assert status == 503
    assert "<button>" in page
    linked.away = False
    assert linked.ask("POST", linked.token())[0] == 200
    assert len(linked.done) == 1


def test_r21_the_key_is_beside_the_data_folder_and_readable_by_its_owner_only(
    folder: Path, linked: Linked
) -> None:
    """So no copy of the folder has it; one that others may read is none."""
    key = folder / "data-key" / "notify.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    token = linked.token()
    assert not AckLinks(folder / "data", URL, linked.told.clock).read(token).wrong, (
        "the next process knows it"
    )
    key.chmod(0o644)
    with pytest.raises(SettingsError, match="others may read the key"):
        AckLinks(folder / "data", URL, linked.told.clock)
    assert AckLinks(folder / "data", "", linked.told.clock).link(made(1)) == ""
    with pytest.raises(SettingsError, match="public_url"):
        AckLinks(folder / "data", "hw.example.org", linked.told.clock)


def test_the_button_acknowledges_the_alert_in_its_shard(side: Side) -> None:
    """From the link of a notification to the alert's row: who, when; the same link on another box's page changes nothing more."""
    side.take(Agent().anomaly("begin", 1))
    links, zones = AckLinks(side.folder / "data", URL, side.clock), Zones({})
    store = side.courier.store
    assert store is not None
    ((id_,),) = store.rows("SELECT id FROM notification")
    one = store.notification(str(id_))
    assert one is not None
    path = links.link(one).removeprefix(URL)

    def bus() -> SqliteLog:
        return SqliteLog(side.folder / LOG, wall=lambda: side.clock.wall_us)

    put = partial(acknowledged, bus, side.folder / FILE)
    page = ack_page.answer(Asked("POST", path, {}, b"who=Ann"), store, links, zones, side.clock, put)
    assert page.status == 200, page.body
    side.run()
    assert side.rows("SELECT state, who, why FROM alert") == [("acknowledged", "Ann", "by a link")]
    put(Acknowledged(one, "Ann", side.clock.wall_us))
    side.run()
    assert side.rows("SELECT count(*) FROM alert_event WHERE what = 'ack'") == [(1,)]
    side.take(Agent().anomaly("end", 2, begin=1))
    with pytest.raises(Refused, match="is resolved since"):
        put(Acknowledged(one, "Ann", side.clock.wall_us))


def test_of_several_processes_the_one_that_has_the_file_answers_for_all(folder: Path, linked: Linked) -> None:
    """A link leads to any of them; who has not the courier's file hands on what it is asked, and says so when there is nobody."""
    told, done = linked.told, linked.done
    other = courier_of(folder, told.clock)
    zones = Zones({})
    with ExitStack() as stack:
        servers = []
        for courier in (told.courier, other):
            pages = NotifyPages(courier, folder, linked.links, zones, told.clock, done.append)
            server = serve("127.0.0.1", 0, dict, CollectorRegistry(), pages.pages())
            stack.callback(server.close)
            pages.at(server.port)
            servers.append(server.port)

        def ask(path: str, method: str = "GET", body: str = "") -> tuple[int, str]:
            with closing(http.client.HTTPConnection("127.0.0.1", servers[1], timeout=10)) as made_:
                made_.request(method, path, body, {HEADER: "x"})
                answer = made_.getresponse()
                return answer.status, answer.read().decode()

        assert "<button>" in ask(PATH + linked.token())[1]
        assert ask(PATH + linked.token(), "POST", "who=Ann")[0] == 200
        assert ask(PATH + linked.token(), "POST", "who=Ann")[0] == 409
        assert [one.who for one in done] == ["Ann"]
        assert ask("/notify/test", "POST")[1].startswith('{"id":"test/')
        told.courier.close()
        assert ask("/notify/test", "POST")[0] == 503
        assert other.open()
        assert ask("/notify/retry", "POST") == (200, '{"retried":0}\n')
        other.close()
