"""What the bus on Kafka keeps to beyond the contract: an absent, hanging or strange cluster, users, certificates, topics."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headwater_cloud.kafka_topics import declared
from headwater_shared.bus import Record
from headwater_shared.buses import opener
from headwater_shared.errors import BusReplaced, BusUnavailable, PartMissing, SettingsError
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.kafka_settings import KafkaSettings, connection
from headwater_shared.topics import TOPICS
from tests.contracts.test_bus import record, texts
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until

SOON = {
    "message.timeout.ms": 1500,
    "request.timeout.ms": 1000,
    "socket.timeout.ms": 1500,
    "topic.metadata.propagation.max.ms": 500,
}
"""A broker that does not answer is given up sooner."""
LATER = {"message.timeout.ms": 3000, "socket.timeout.ms": 3000}
"""One that says why gets the time for it."""


@pytest.fixture
def topics(kafka: KafkaServer) -> Iterator[MadeTopics]:
    made = MadeTopics(kafka)
    yield made
    made.delete()


def test_r22_an_append_that_kafka_has_not_taken_raises(topics: MadeTopics) -> None:
    """A broker that hangs has taken nothing, whatever the library holds: `append` says so, and what is appended again is there.

    A row is marked sent on that word, and on no other.
    """
    bus, hasty = KafkaBus(topics.client, topics.prefix), KafkaBus({**topics.client, **SOON}, topics.prefix)
    bus.append([record(0, "before")])
    topics.server.hang()
    try:
        with pytest.raises(BusUnavailable, match="appending"):
            hasty.append([record(0, "hangs")])
    finally:
        topics.server.go_on()
    bus.append([record(0, "again")])
    found = texts(bus.read("hw-in", {0: 0}, 100))
    assert found[0] == "before"
    assert "again" in found  # what hung may come after it: its fate was unknown
    bus.close()
    hasty.close()


def test_r27_outputs_of_a_killed_transaction_are_there_once(topics: MadeTopics) -> None:
    """The answer to a commit is lost: whether it was done is not known, and the same outputs again are there once."""
    bus = KafkaBus(topics.client, topics.prefix)
    bus.append_once("p", 1, [record(0, "1")])
    once = bus._once["p"]
    committing = once._appending.producer.commit_transaction

    class Cut:
        """The producer, whose commit goes through; whoever asked is told that it did not."""

        def __getattr__(self, name: str) -> object:
            return getattr(producer, name)

        def commit_transaction(self, timeout: float) -> None:
            committing(timeout)
            from confluent_kafka import KafkaError, KafkaException

            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    producer = once._appending.producer
    once._appending.producer = Cut()
    with pytest.raises(BusUnavailable):
        bus.append_once("p", 2, [record(0, "2")])
    bus.append_once("p", 2, [record(0, "2"), record(0, "3")])
    until(lambda: texts(bus.read("hw-in", {0: 0}, 100)) == ["1", "2", "3"])
    bus.close()


def test_what_a_transaction_has_not_committed_is_not_read(topics: MadeTopics) -> None:
    """Readers see records of outputs only when all of them are there."""
    from confluent_kafka import Producer

    bus = KafkaBus(topics.client, topics.prefix)
    producer = Producer({**topics.client, "transactional.id": f"{topics.prefix}open", "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(f"{topics.prefix}hw-in", b"open", partition=0)
    producer.flush(30)
    assert bus.read("hw-in", {0: 0}, 10) == []
    producer.abort_transaction(30)
    bus.append([record(0, "next")])
    until(lambda: texts(bus.read("hw-in", {0: 0}, 10)) == ["next"])
    bus.close()


def test_topics_made_anew_are_another_bus(topics: MadeTopics) -> None:
    """A topic that was deleted and made again has other offsets: a reader that was further is told, and so is who asks."""
    bus = KafkaBus(topics.client, topics.prefix)
    identity = bus.identity
    assert identity == bus.identity == KafkaBus(topics.client, topics.prefix).identity
    bus.append([record(0, str(n)) for n in range(5)])
    assert len(bus.read("hw-in", {0: 0}, 100)) == 5
    topics.make_anew()
    with pytest.raises(BusReplaced, match="made anew"):
        _ = bus.identity
    with pytest.raises(BusReplaced, match="ends at 0"):
        bus.read("hw-in", {0: 5}, 100)
    bus.close()
    other = KafkaBus(topics.client, topics.prefix)
    assert other.identity != identity
    other.close()


def test_missing_topics_are_said_with_the_line_that_makes_them(kafka: KafkaServer) -> None:
    """Nobody has made the topics: every call says what to type, and nothing is made by itself."""
    bus = KafkaBus({**connection(kafka.address, KafkaSettings()), **SOON}, "nobody-made-")
    for act in (
        lambda: bus.identity,
        lambda: bus.append([record(0, "x")]),
        lambda: bus.read("hw-in", {0: 0}, 1),
        lambda: bus.ends("hw-in"),
    ):
        with pytest.raises(BusUnavailable, match="headwater-cloud topics --apply"):
            act()
    bus.close()


def test_an_absent_kafka_is_said_to_be_away() -> None:
    """Nobody listens: each call raises within its time and says what to look at."""
    at_once = dict.fromkeys(SOON, 500)
    bus = KafkaBus({**connection("kafka://127.0.0.1:1", KafkaSettings()), **at_once})
    for act in (lambda: bus.append([record(0, "x")]), lambda: bus.ends("hw-in")):
        with pytest.raises(BusUnavailable, match="is it up"):
            act()
    bus.close()


def test_users_and_certificates(kafka: KafkaServer, topics: MadeTopics, tmp_path: Path) -> None:
    """A broker that wants SCRAM over TLS: with user, password and authority all works; what is wrong is named."""
    kafka.add_user("headwater", "right")
    (tmp_path / "password").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")
    address = f"kafka://127.0.0.1:{kafka.secure_port}"
    good = KafkaSettings(
        prefix=topics.prefix,
        user="headwater",
        password=f"file:{tmp_path}/password",
        tls=True,
        ca=str(kafka.authority),
    )
    bus = opener(address, tmp_path, good)()
    until(lambda: _works(bus), 20, "the user is known")
    bus.append([record(0, "secret")])
    bus.append_once("p", 1, [record(1, "once")])
    until(lambda: texts(bus.read("hw-in", {0: 0, 1: 0}, 10)) == ["secret", "once"])
    bus.read_up_to("cloud", "hw-in", {0: 1})
    bus.close()
    wrong = {"password": f"file:{tmp_path}/wrong"}, "check user, password"
    stranger = {"ca": None}, "check tls and ca"
    for change, said in (wrong, stranger):
        bad = KafkaBus(
            {**connection(address, msgspec.structs.replace(good, **change)), **SOON, **LATER}, topics.prefix
        )
        with pytest.raises(BusUnavailable, match=said):
            bad.append([record(0, "x")])
        bad.close()


def _works(bus: object) -> bool:
    assert isinstance(bus, KafkaBus)
    try:
        return bool(bus.identity)
    except BusUnavailable:
        return False


@pytest.mark.parametrize(
    ("address", "settings", "said"),
    [
        ("kafka://", KafkaSettings(), "names no Kafka"),
        ("kafka://a:1/b", KafkaSettings(), "names no Kafka"),
        ("kafka://a:1", KafkaSettings(user="u"), "has no password"),
        ("kafka://a:1", KafkaSettings(user="u", password="env:HOME", mechanism="PLAIN"), "PLAIN without TLS"),
        ("kafka://a:1", KafkaSettings(user="u", password="env:NOT_SET_AT_ALL"), "NOT_SET_AT_ALL is not set"),
        ("kafka://a:1", KafkaSettings(ca="x"), "TLS is not"),
        ("kafka://a:1", KafkaSettings(tls=True, certificate="x"), "certificate and key together"),
        (
            "kafka://a:1",
            KafkaSettings(tls=True, ca="/not/there"),
            "ca = '/not/there' cannot be used: No such",
        ),
        ("kafka://a:1", KafkaSettings(tls=True, ca=__file__), "cannot be used"),
        (
            "kafka://a:1",
            KafkaSettings(tls=True, certificate="/not/there", key="/nor/there"),
            "certificate = '/not/there' with key = '/nor/there' cannot be used",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(
    address: str, settings: KafkaSettings, said: str
) -> None:
    """What contradicts itself ends the start with what to change, before anything connects."""
    with pytest.raises(SettingsError, match=said):
        opener(address, Path(), settings)


def test_the_library_is_imported_only_for_kafka(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A box without Kafka never imports its library; where it is named and not installed, the error is the line to type."""
    code = (
        "import sys; from pathlib import Path; from headwater_shared.buses import opener;"
        "from headwater_shared.kafka_settings import KafkaSettings;"
        f"opener('log.db', Path({str(tmp_path)!r}), KafkaSettings())().close();"
        "assert 'confluent_kafka' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(PartMissing, match=r"pip install 'headwater\[kafka\]'"):
        opener("kafka://127.0.0.1:1", tmp_path, KafkaSettings())


def test_the_topics_are_declared_in_one_place() -> None:
    """Each topic is kept as the table of topics says; an append is durable with a replica less than there are."""
    for topic in TOPICS.values():
        found = declared(topic, 3)
        assert found["cleanup.policy"] == ("compact" if topic.compacted else "delete")
        assert found["message.timestamp.type"] == "LogAppendTime"
        assert found["min.insync.replicas"] == "2"
        assert declared(topic, 1)["min.insync.replicas"] == "1"
        if not topic.compacted:
            assert float(found["retention.ms"]) == topic.days * 86_400_000


def test_a_frame_of_all_series_is_one_record(topics: MadeTopics) -> None:
    """12 MB that do not compress go through whole; what no topic takes is said with the setting that would."""
    bus = KafkaBus(topics.client, topics.prefix)
    body = random.Random(1).randbytes(12_000_000)
    bus.append([Record("hw-in", 0, "a", {}, body), Record("hw-in", 0, "a", {}, b"next")])
    assert [s.body for s in bus.read("hw-in", {0: 0}, 10)] == [body, b"next"]
    with pytest.raises(BusUnavailable, match="too large"):
        bus.append([Record("hw-in", 0, "a", {}, body + body)])
    bus.append([Record("hw-in", 0, "a", {}, b"goes on")])
    assert bus.read("hw-in", {0: 2}, 10)[-1].body == b"goes on"
    bus.close()
