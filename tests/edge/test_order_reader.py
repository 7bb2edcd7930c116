"""Reading orders from the bus (R14): each once and in order, from where the file says, whatever became of bus and topic meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest

from headwater_edge import order_reader
from headwater_edge.orders import Taken
from headwater_shared.bus import Stored
from headwater_shared.errors import BusReplaced, BusUnavailable
from headwater_shared.identity import agent_partition
from headwater_shared.topics import COMMANDS
from tests.edge.forwarding import SHARD, Desk
from tests.edge.ordering import AGENT, order, record
from tests.edge.running import AwayBus
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def read(desk: Desk) -> list[str]:
    """Ids of all that was handed over."""
    return [one.id for event in desk.ordered for one in event.orders]


def commit(desk: Desk) -> None:
    """What was handed over is on disk."""
    last = desk.ordered[-1]
    desk.taken = Taken(last.bus, last.offset, last.last)


def test_r14_orders_of_this_agent_are_handed_over_once(desk: Desk) -> None:
    """With the offset behind them; those of others on the partition are passed by."""
    beside = next(
        f"b{n}" for n in range(10_000) if agent_partition(f"b{n}", 16) == agent_partition(AGENT, 16)
    )
    desk.bus.append([order(1, agent=beside), order(2), order(3), order(4, agent=beside)])
    assert desk.once() == "live"
    assert read(desk) == ["id-2", "id-3"]
    (event,) = desk.ordered
    assert (event.bus, event.offset, event.last) == (desk.bus.identity, 4, "id-4")
    assert (event.orders[0].name, event.orders[0].who) == ("shut", "anna")
    commit(desk)
    desk.bus.append([order(5)])
    desk.once(1.1)
    assert read(desk) == ["id-2", "id-3", "id-5"]


def test_r14_nothing_is_read_on_before_what_was_read_is_on_disk(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the commit takes; a process that dies meanwhile reads the same again."""
    monkeypatch.setattr(order_reader, "_AT_ONCE", 2)
    desk.bus.append([order(n) for n in range(5)])
    for _ in range(3):
        desk.once(1.1)
    assert read(desk) == ["id-0", "id-1"]
    desk.open_again()
    desk.once(1.1)
    assert read(desk) == ["id-0", "id-1", "id-0", "id-1"]
    commit(desk)
    desk.once(1.1)
    commit(desk)
    desk.once(1.1)
    assert read(desk)[4:] == ["id-2", "id-3", "id-4"]


def test_r14_the_next_process_reads_on_where_the_file_says(desk: Desk) -> None:
    """And not from the beginning."""
    desk.bus.append([order(1), order(2)])
    desk.once()
    commit(desk)
    desk.open_again()
    desk.bus.append([order(3)])
    desk.once(1.1)
    assert read(desk) == ["id-1", "id-2", "id-3"]


def test_r14_another_bus_is_read_from_its_beginning(desk: Desk) -> None:
    """A log that was replaced holds what is new; what is old has an id that the step knows."""
    desk.bus.append([order(1), order(2)])
    desk.once()
    commit(desk)
    (desk.folder / "log.db").unlink()
    desk.bus = AwayBus(desk.folder / "log.db")
    desk.bus.append([order(9), order(2), order(3)])
    for _ in range(3):
        desk.once(20.0)
    assert read(desk)[2:] == ["id-9", "id-2", "id-3"]


class StrictBus(AwayBus):
    """The real log, as strict as Kafka is: who asks for what lies behind the end has another topic in mind."""

    def read(self, topic: str, offsets: Mapping[int, int], limit: int) -> list[Stored]:
        if any(offset > self.ends(topic).get(p, 0) for p, offset in offsets.items()):
            raise BusReplaced("it ends before that")
        return super().read(topic, offsets, limit)


@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
@pytest.mark.parametrize("more", [1, 6], ids=["shorter", "longer"])
def test_r14_a_topic_that_was_made_anew_is_read_from_its_beginning(
    tmp_path: Path, more: int, *, runs: bool
) -> None:
    """Whether it is shorter than what was read, or has grown past it meanwhile: the record before the offset is another one."""
    desk = Desk(tmp_path)
    desk.bus = StrictBus(tmp_path / "log.db")
    desk.bus.append([order(1), order(2), order(3)])
    desk.once()
    commit(desk)
    if not runs:
        desk.forward.close()
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        connection.executescript("DELETE FROM record; DELETE FROM partition;")
    if not runs:
        desk.open_again()
    elif more > 1:
        desk.bus.away = True
        desk.once(1.1)
        desk.bus.away = False
    desk.bus.append([order(10 + n) for n in range(more)])
    desk.once(60)
    assert read(desk)[3:] == [f"id-{10 + n}" for n in range(more)]
    desk.close()


def test_r14_what_retention_deleted_does_not_stop_reading(desk: Desk) -> None:
    """The record before the offset is gone: what is kept lies all behind it."""
    desk.bus.append([order(1)])
    desk.once()
    commit(desk)
    desk.bus.retain(2**60)
    desk.open_again()
    desk.bus.append([order(2)])
    desk.once(1.1)
    assert read(desk) == ["id-1", "id-2"]


class ForbiddenBus(AwayBus):
    """The real log, of which one topic cannot be read, as one that was never made, or that is not ours to read."""

    forbidden = True

    def ends(self, topic: str) -> dict[int, int]:
        if self.forbidden and topic == COMMANDS.name:
            raise BusUnavailable("unknown topic")
        return super().ends(topic)


def test_orders_that_cannot_be_read_hold_up_nothing(tmp_path: Path) -> None:
    """Rows go on to the bus, and a minute later it is tried again."""
    desk = Desk(tmp_path)
    bus = desk.bus = ForbiddenBus(tmp_path / "log.db")
    desk.put()
    assert desk.once() == "live"
    assert desk.arrived() == [1]
    desk.bus.append([order(1)])
    bus.forbidden = False
    desk.once(50)
    assert read(desk) == []
    desk.once(11)
    assert read(desk) == ["id-1"]
    desk.close()


def test_on_kafka_an_agent_that_came_before_the_topic_goes_on(tmp_path: Path, kafka: KafkaServer) -> None:
    """An agent that was upgraded before `topics --apply` forwards as before, and reads orders once the topic is there."""
    from confluent_kafka.admin import AdminClient

    from headwater_cloud.kafka_topics import Topics
    from headwater_shared.kafka_bus import KafkaBus

    topics = MadeTopics(kafka)
    name = topics.prefix + COMMANDS.name
    admin = AdminClient({**topics.client, "log_level": 0})
    admin.delete_topics([name])[name].result(30)
    until(lambda: name not in admin.list_topics(timeout=30).topics, 20, "the topic is gone")
    bus = KafkaBus(topics.client, topics.prefix)
    desk = Desk(tmp_path)
    desk.bus = bus  # type: ignore[assignment]  # the real one
    desk.put()
    assert desk.once() == "live"
    assert len(bus.read("hw-in", {SHARD: 0}, 10)) == 1
    Topics(topics.client, topics.prefix).apply()
    until(lambda: _appended(topics), 20, "the topic has leaders")
    until(lambda: desk.once(61) and read(desk) == ["id-1"], 20, "the order is read")
    desk.close()
    topics.delete()


def _appended(topics: MadeTopics) -> bool:
    from headwater_shared.kafka_bus import KafkaBus

    bus = KafkaBus(topics.client, topics.prefix)
    with closing(bus), suppress(BusUnavailable):
        bus.append([order(1)])
        return True
    return False


def test_what_cannot_be_read_is_refused_where_its_headers_say_what_it_is(desk: Desk) -> None:
    """Of a newer version, or damaged: the id and the device stand in the headers. Without them nobody could be told."""
    desk.bus.append(
        [record(b"\xc3\x01newer...", "id-1", "s/d"), record(b"", "", "s/d"), record(b"", "id-3", "nowhere")]
    )
    desk.once()
    (said,) = desk.ordered[0].orders
    assert (said.id, said.device) == ("id-1", "s/d")
    assert said.fault.startswith("it cannot be read here: unknown schema fingerprint")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": ""}, "it has no name"),
        ({"name": "n" * 129}, "it has no name, or one of more"),
        ({"ttl_s": 0}, "its time to live"),
        ({"ttl_s": 7 * 86_400 + 1}, "its time to live"),
        ({"arguments": "[1]"}, "its arguments are no JSON object"),
        ({"arguments": '{"a":'}, "its arguments are no JSON object"),
        ({"arguments": '{"a":' + "[" * 4000}, "its arguments are no JSON object"),
        ({"arguments": '{"a":' + "[" * 40 + "]" * 40 + "}"}, "nested more than 32 deep"),
        ({"arguments": '{"a":"' + "x" * 4096 + '"}'}, "it has more than 4096 bytes"),
    ],
)
def test_what_nobody_can_carry_out_bears_the_reason(desk: Desk, changes: dict[str, object], why: str) -> None:
    """And nothing that the step would stumble over."""
    desk.bus.append([order(1, **changes)])  # type: ignore[arg-type]
    desk.once()
    (said,) = desk.ordered[0].orders
    assert why in said.fault
    assert said.arguments == "{}"
    assert len(said.name) <= 128


def test_an_idle_topic_is_asked_for_its_end_once_a_second(tmp_path: Path) -> None:
    """And not read: that is all that an agent without orders costs."""
    desk = Desk(tmp_path)
    bus = desk.bus = CountingBus(tmp_path / "log.db")
    for _ in range(20):
        desk.once(0.1)
    assert bus.asked in (2, 3)
    assert bus.reads == 0
    desk.close()


class CountingBus(AwayBus):
    """The real log; counts what is asked of the topic of orders."""

    asked = reads = 0

    def ends(self, topic: str) -> dict[int, int]:
        self.asked += topic == COMMANDS.name
        return super().ends(topic)

    def read(self, topic: str, offsets: Mapping[int, int], limit: int) -> list[Stored]:
        self.reads += topic == COMMANDS.name
        return super().read(topic, offsets, limit)
