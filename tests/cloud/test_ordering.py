"""`headwater-cloud command send`: which agent serves a device, what is refused at once, and the end that is waited for (R14)."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headwater_cloud import ordering
from headwater_cloud.cli import app
from headwater_cloud.history import History
from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.clock import SetClock
from headwater_shared.errors import BusUnavailable, HeadwaterError, Refused, SettingsError, TryAgain
from headwater_shared.identity import agent_partition, shard_of
from headwater_shared.records import Command, Heartbeat, Order
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import COMMANDS, IN
from tests.cloud.made import SHARD, T0, heartbeat_record
from tests.cloud.side import FILE, LOG, Side
from tests.cloud.test_devices import change
from tests.edge.running import AwayBus

DEVICE = "s1/d1"


class Cloud:
    """A folder with a cloud side's file and log, and settings that name them."""

    def __init__(self, folder: Path, *some: Record) -> None:
        self.folder = folder
        self.side = Side(folder)
        for one in some:
            self.side.take(one)
        self.settings = folder / "headwater.toml"
        self.settings.write_text(f'[common]\ndata = "{folder}"\n')

    def send(self, *words: str, expected: int = 0) -> str:
        done = CliRunner().invoke(app, ["command", "send", *words, "--settings", str(self.settings)])
        if isinstance(done.exception, HeadwaterError):
            raise done.exception
        assert done.exit_code == expected, (done.output, done.exception)
        return done.output

    def orders(self) -> list[Order]:
        """All that lies on the bus."""
        log = SqliteLog(self.folder / LOG)
        found = log.read(COMMANDS.name, dict.fromkeys(range(COMMANDS.partitions), 0), 100)
        for stored in found:
            assert stored.partition == agent_partition(stored.key, COMMANDS.partitions)
        log.close()
        return [records.decode(Order, stored.body) for stored in found]

    def said(self, seq: int, order: str, status: Any, reason: str = "") -> None:
        """An agent reports what became of an order."""
        one = Command(
            "a1", 1, SHARD, seq, seq, None, order, status, reason, "", "anna", "", "", DEVICE, f"hw/{DEVICE}/cmd", "shut", "{}",
            "", T0, T0 + seq, 60_000_000,
        )  # fmt: skip
        headers = records.headers(records.COMMAND, records.identity_text("a1", 1, SHARD, seq), "a1", T0)
        self.side.take(Record(IN.name, SHARD, "a1", headers, records.encode(one)))


def test_an_order_goes_to_the_agent_that_serves_the_device(tmp_path: Path) -> None:
    """As the device's status says; key, partition and headers are those that the agent looks for."""
    cloud = Cloud(tmp_path, change(1, "online", 1, agent="a7"))
    shown = cloud.send(DEVICE, "shut", "--arguments", '{"valve": 2}', "--ttl", "5m", "--who", "anna")
    (order,) = cloud.orders()
    assert (order.agent, order.device, order.name, order.who) == ("a7", DEVICE, "shut", "anna")
    assert json.loads(order.arguments) == {"valve": 2}
    assert order.ttl_us == 300_000_000
    assert f"ordered: shut for {DEVICE}, through agent a7" in shown
    assert order.id in shown
    log = SqliteLog(tmp_path / LOG)
    (stored,) = log.read(COMMANDS.name, {agent_partition("a7", 16): 0}, 10)
    log.close()
    assert stored.key == "a7"
    assert stored.headers["ce_id"] == order.id
    assert stored.headers["ce_type"] == "io.headwater.order"
    assert stored.headers["ce_subject"] == DEVICE


def test_an_order_as_json(tmp_path: Path) -> None:
    """All of it, with an id of one's own; the same id may be sent again."""
    cloud = Cloud(tmp_path)
    words = (DEVICE, "open", "--agent", "a1", "--id", "work-order-7", "--json")
    said = json.loads(cloud.send(*words))
    assert said["status"] == "sent"
    assert (said["id"], said["agent"], said["arguments"]) == ("work-order-7", "a1", {})
    cloud.send(*words)
    assert [order.id for order in cloud.orders()] == ["work-order-7"] * 2


def test_which_agent_serves_a_device_that_never_said_its_status(tmp_path: Path) -> None:
    """The one whose windows are in its site's shard; where there are none or several, a person has to say."""
    cloud = Cloud(tmp_path)
    with pytest.raises(Refused, match="no agent is known") as error:
        cloud.send(DEVICE, "shut")
    assert "--agent" in error.value.hint
    cloud.side.take(heartbeat_record(_heard("a1")))
    history = History(tmp_path / FILE)
    assert ordering.agent_of(history, DEVICE) == "a1"
    cloud.side.take(heartbeat_record(_heard("a2")))
    with pytest.raises(Refused, match="several agents may serve it: a1, a2"):
        ordering.agent_of(history, DEVICE)
    history.close()
    assert cloud.orders() == []


def _heard(agent: str) -> Heartbeat:
    return Heartbeat(agent, 1, shard_of("s1"), 0, None, T0, T0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("valve", "shut"), "'valve' is no device"),
        ((DEVICE, "shut", "--id", "two words"), "no id"),
        ((DEVICE, "shut", "--arguments", "[1]"), "no JSON object"),
        ((DEVICE, "shut", "--arguments", "{"), "no JSON object"),
        ((DEVICE, "shut", "--ttl", "8d"), "seven days"),
        ((DEVICE, "shut", "--ttl", "0s"), "seven days"),
        ((DEVICE, ""), "no name"),
        ((DEVICE, "shut", "--ttl", "soon"), "no length of time"),
    ],
)
def test_what_cannot_be_ordered_is_said_at_once(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    """With what to write instead; nothing is on the bus."""
    cloud = Cloud(tmp_path)
    with pytest.raises((Refused, SettingsError), match=message) as error:
        cloud.send(*words, "--agent", "a1")
    assert error.value.hint
    assert cloud.orders() == []


def test_a_clock_that_only_the_processes_know_is_a_clear_error(tmp_path: Path) -> None:
    """A time to live from another origin would be over, or never be."""
    cloud = Cloud(tmp_path)
    cloud.settings.write_text(f'[common]\ndata = "{tmp_path}"\nclock = "scaled:60"\n')
    with pytest.raises(SettingsError, match="begins when the processes start"):
        cloud.send(DEVICE, "shut", "--agent", "a1")


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("refused", 1), ("expired", 1)])
def test_the_end_that_is_waited_for(tmp_path: Path, status: str, code: int) -> None:
    """What the agent reports, however often; the exit code says whether it was done."""
    cloud = Cloud(tmp_path)
    for seq, one in enumerate(("open", status, status), 1):
        cloud.said(seq, "x", one, "the valve is stuck" if status == "refused" else "")
    shown = cloud.send(DEVICE, "shut", "--agent", "a1", "--id", "x", "--wait", expected=code)
    wanted = "refused: the valve is stuck" if status == "refused" else status
    assert shown.splitlines()[-1] == wanted


def test_r14_done_outlives_an_expiry_that_is_reported_later(tmp_path: Path) -> None:
    """An order that came again from a restored bus, after its id was forgotten, is over by then: the device did it all the same."""
    cloud = Cloud(tmp_path)
    for seq, one in enumerate(("open", "done", "expired"), 1):
        cloud.said(seq, "x", one)
    history = History(tmp_path / FILE)
    found = history.command("x")
    assert found is not None
    assert found.status == "done"
    assert history.command("y") is None
    history.close()


def test_orders_that_no_agent_has_read_are_shown(tmp_path: Path) -> None:
    """Each once, the newest first, before those of which something is known; with who was to read it, and until when."""
    cloud = Cloud(tmp_path)
    for order in ("x", "y", "y", "z"):
        cloud.send(DEVICE, "shut", "--agent", "a1", "--id", order, "--who", "anna")
    cloud.said(1, "x", "open")
    done = CliRunner().invoke(app, ["commands", "--sent", "--json", "--settings", str(cloud.settings)])
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert [(row["status"], row["id"], row["who"]) for row in rows] == [
        ("sent", "z", "anna"), ("sent", "y", "anna"), ("open", "x", "anna"),
    ]  # fmt: skip
    assert rows[0]["reason"].startswith("agent a1 has not read it; it is over at 20")


def test_waiting_ends_after_the_time_to_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And some seconds for its report: then it is said that nobody knows, and who might."""
    monkeypatch.setattr(ordering, "_GRACE_S", 0.0)
    Cloud(tmp_path)
    clock = SetClock()
    order = Order("a1", "x", DEVICE, "shut", "{}", 60_000_000, clock.wall_us, "anna")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        clock.advance(20)

    with closing(History(tmp_path / FILE)) as history, pytest.raises(TryAgain, match="agent a1 has not said"):
        ordering.end_of(history, order, clock, sleep)
    assert len(looks) in (4, 5)


def test_an_order_of_which_nothing_is_known_may_be_sent_again(tmp_path: Path) -> None:
    """The bus did not answer: it may be there or not, and the message says with which id to order it again."""
    bus = AwayBus(tmp_path / LOG)
    bus.lost_answers = 1
    order = Order("a1", "x", DEVICE, "shut", "{}", 60_000_000, T0, "anna")
    with closing(bus), pytest.raises(BusUnavailable, match="may have been ordered or not") as error:
        ordering.send(bus, order)
    assert "--id x" in error.value.hint
