"""Agent and cloud side with a real Kafka between them, which is killed, hangs, and comes back."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headwater_cloud.history import History
from headwater_shared import trace
from headwater_shared.kafka_bus import KafkaBus
from tests.kafka import KafkaServer, MadeTopics
from tests.support import ROOT, until
from tests.system import kills, outage, result
from tests.system.box import CLOUD, EDGE, Box
from tests.system.kafka_box import Commanded, commanded, kafka_box, note
from tests.system.load import load

SECONDS = 60.0
"""Of event time."""
SLOWLY = ("--in-flight", "5")
"""A thousand messages a tick: on the quickest machine the fleet is still at it when Kafka is back and hangs."""


@dataclass
class Told:
    """What was seen on the way."""

    box: Box
    ledger: Path
    topics: MadeTopics
    commands: list[Commanded] = field(default_factory=list)
    """While Kafka is well, is killed, and hangs."""
    went_on: list[str] = field(default_factory=list)
    """Under what the devices were acknowledged."""
    status: dict[str, Any] = field(default_factory=dict)
    screen: str = ""
    doctor: str = ""


@pytest.fixture(scope="module")
def told(kafka_server: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """One run: Kafka is killed under load, started again, stopped (SIGSTOP), and goes on."""
    if not kafka_server.runs:
        kafka_server.start()
    topics = MadeTopics(kafka_server)
    with kafka_box(tmp_path_factory.mktemp("kafka-box"), topics) as here:
        here.up()
        with load(here, SECONDS, *SLOWLY) as fleet:
            found = Told(here, fleet.ledger, topics)
            fleet.goes_on(4_000)
            found.commands.append(commanded(here, "stove-0"))
            kafka_server.kill()
            fleet.goes_on(4_000)
            found.went_on.append("killed")
            found.commands.append(commanded(here, "stove-1"))
            kafka_server.start()
            fleet.goes_on(4_000)
            kafka_server.hang()
            fleet.goes_on(4_000)
            found.went_on.append("hangs")
            found.commands.append(commanded(here, "stove-2"))
            until(lambda: outage.mode(here) == "offline", 30, "Kafka is missed")
            kafka_server.go_on()
            fleet.finished()
        note(found.ledger, found.commands)
        found.status = here.closed()
        found.screen = here.run("headwater", "status")
        found.doctor = here.run("headwater", "doctor", "--check", "files")
        here.end(EDGE)
        here.end(CLOUD)
        yield found
    topics.delete()


def test_nothing_is_lost_or_twice_through_kafka(told: Told) -> None:
    """Kafka is killed and hangs under load: the audit of what the cloud side read from it finds all, once."""
    acknowledged, counted, dead = kills.audited(told.box, told.ledger)
    assert counted + dead >= acknowledged > 50_000
    assert told.status["outbox"] == 0
    assert not told.box.troubles()


def test_devices_are_acknowledged_and_commanded_while_kafka_is_away(told: Told) -> None:
    """The bus is not in the way of a PUBACK or of a local rule: killed or hanging, both go on as fast as before."""
    assert told.went_on == ["killed", "hangs"]
    assert len(told.commands) == 3
    assert max(one.took_s for one in told.commands) < 5.0


def test_alerts_come_through_kafka(told: Told) -> None:
    """The rule's anomaly reached the cloud side and is an alert there."""
    history = History(told.box.data / "cloud.db")
    subjects = {alert.subject for alert in history.alerts()}
    assert {f"home/stove-{n}/temperature" for n in range(3)} <= subjects


def test_a_box_on_kafka_is_looked_at_as_any_other(told: Told) -> None:
    """Status says that the bus is Kafka and what the cloud side has to read; the doctor misses no file."""
    assert re.search(r"Kafka; \d[\d,]* records? to read", told.screen), told.screen
    assert "sound: edge.db" in told.doctor
    assert "log.db" not in told.doctor


def test_others_read_the_windows_with_plain_libraries(told: Told) -> None:
    """docs/examples/read_windows.py, 40 lines of confluent-kafka and fastavro: the parts that it prints, the highest revision of
    each, add up to the windows that the cloud side stores.
    """
    stored = result.read(told.box.data / "cloud.db").windows
    wanted = {(series, start): w.count for (series, level, start), w in stored.items() if level == "1m"}
    script = ROOT / "docs" / "examples" / "read_windows.py"
    schemas = ROOT / "shared" / "headwater_shared" / "schemas"
    words = [told.topics.server.servers, f"{told.topics.prefix}hw-in", str(schemas)]
    with subprocess.Popen([sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True) as reader:
        too_long = threading.Timer(60, reader.kill)
        too_long.start()
        found = _added(reader, wanted)
        too_long.cancel()
        reader.kill()
    assert found == wanted
    assert len(wanted) > 600


def _added(
    reader: subprocess.Popen[str], wanted: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Add up what is printed until it is what is wanted, or comes to an end."""
    assert reader.stdout is not None
    best: dict[tuple[str, int, str], tuple[int, int]] = {}
    for line in reader.stdout:
        series, level, start, part, revision, count, _ = line.rstrip().split("\t")
        if level == "1m":
            at = series, int(start), part
            best[at] = max(best.get(at, (-1, 0)), (int(revision), int(count)))
        if len(best) >= len(wanted):
            found: dict[tuple[str, int], int] = defaultdict(int)
            for (name, begin, _), (_, number) in best.items():
                found[name, begin] += number
            if found == wanted:
                return found
    return {}


def test_headers_are_cloudevents(told: Told) -> None:
    """Every record of every topic is an event to the `cloudevents` package, with the identity that the rules name."""
    from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
    from cloudevents.core.formats.json import JSONFormat

    bus = KafkaBus(told.topics.client, told.topics.prefix)
    kinds, traces, first = set(), defaultdict[str, set[str]](set), dict[str, str]()
    for topic in ("hw-in", "hw-have", "hw-alerts", "hw-alert-events"):
        for stored in bus.read(topic, dict.fromkeys(bus.ends(topic), 0), 100_000):
            headers = {name: value.encode() for name, value in stored.headers.items()}
            event = from_binary(KafkaMessage(headers, stored.key, stored.body), JSONFormat())
            assert event.get_id() == stored.headers["ce_id"]
            assert event.get_time() is not None
            assert event.get_datacontenttype() == "application/avro"
            kinds.add(event.get_type())
            traces[event.get_type()].add(trace.of(stored.headers))
            if topic == "hw-alert-events":
                first.setdefault(stored.key, trace.of(stored.headers))
    bus.close()
    wanted = ("frame", "anomaly", "command", "heartbeat", "clock", "have", "alert")
    assert kinds >= {f"io.headwater.{kind}" for kind in wanted}
    assert all("" not in traces[f"io.headwater.{kind}"] for kind in ("frame", "anomaly", "command"))
    assert first
    assert set(first.values()) <= traces["io.headwater.anomaly"], (
        "an alert is in the trace of what brought it"
    )
    # What changes later without an anomaly, such as which incident it belongs to, is in none.
    assert traces["io.headwater.alert"] - {""} <= traces["io.headwater.anomaly"]


@pytest.mark.fault
@pytest.mark.covers("R22")
def test_both_end_while_kafka_hangs_and_begin_before_it_answers(kafka: KafkaServer, tmp_path: Path) -> None:
    """A hanging Kafka keeps nobody from ending, nor a cloud side from being started: it waits, and takes up what came meanwhile."""
    topics = MadeTopics(kafka)
    with kafka_box(tmp_path, topics) as here:
        here.up()
        kafka.hang()
        try:
            commanded(here, "stove-0")
            here.end(EDGE)
            here.running[CLOUD].terminate()
            assert here.running.pop(CLOUD).wait(60) == 0
            here.start(EDGE)
            here.start(CLOUD)
            here.ready(EDGE)
            commanded(here, "stove-1")
        finally:
            kafka.go_on()
        until(lambda: here.status().get("outbox") == 0, 60, "the cloud side has everything")
        here.end(EDGE)
        here.end(CLOUD)
        subjects = {alert.subject for alert in History(here.data / "cloud.db").alerts()}
        assert subjects == {f"home/stove-{n}/temperature" for n in range(2)}
    topics.delete()
