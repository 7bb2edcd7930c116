"""A real Kafka for tests: one node (KRaft) on free ports of the loopback, which can be killed, stopped and started again."""

from __future__ import annotations

import secrets
import subprocess
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import TYPE_CHECKING

from headwater_appliance import kafka_server
from headwater_appliance.certs import make_authority, make_server
from headwater_appliance.ports import steady_port
from headwater_shared.bus import Bus
from headwater_shared.errors import BusUnavailable, HeadwaterError
from headwater_shared.extras import load
from headwater_shared.kafka_settings import KafkaSettings, connection
from headwater_shared.topics import TOPICS
from tests.support import lacking, part_required, until

if TYPE_CHECKING:
    from headwater_shared.kafka_bus import KafkaBus

_SECURE = """\
listeners=PLAIN://127.0.0.1:{plain},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=PLAIN:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/keystore.pem
"""
"""Beside what the demo's Kafka has, a listener that wants TLS, user and password. Of a key that stands twice the last one counts."""


class KafkaServer(kafka_server.KafkaServer):
    """A Kafka that the tests start, kill, stop and start again."""

    def __init__(self, folder: Path, settings: str = kafka_server.SETTINGS + _SECURE) -> None:
        """Format its folder, with certificates for the secure listener; `authority` is who signed them.

        Args:
            settings: its server.properties, with {plain}, {secure}, {controller} and {folder} in it.
        """
        found = jars()
        now = datetime.now(UTC)
        self.authority = make_authority(folder, "Kafka's authority", 30, now).certificate
        own = make_server(folder, ["127.0.0.1", "localhost"], 20, now)
        (folder / "keystore.pem").write_text(own.key.read_text() + own.certificate.read_text())
        self.secure_port = steady_port()
        super().__init__(folder, found, settings.replace("{secure}", str(self.secure_port)))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def begin(self) -> None:
        """Start it without waiting."""
        with (self.folder / "log").open("ab") as out:
            self._process = subprocess.Popen(self.command(), stdout=out, stderr=out)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.begin()
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        until(self._ready, 60, "Kafka answers")

    def send(self, number: Signals) -> None:
        """Send it a signal; SIGKILL and SIGTERM end it."""
        assert self._process is not None
        self._process.send_signal(number)
        if number in (SIGKILL, SIGTERM):
            if number == SIGTERM:
                self._process.send_signal(SIGCONT)
            self._process.wait(30)

    def kill(self) -> None:
        self.send(SIGKILL)

    def hang(self) -> None:
        """Connections stay open, and nothing is answered; `go_on` ends that."""
        self.send(SIGSTOP)

    def go_on(self) -> None:
        self.send(SIGCONT)

    def stop(self) -> None:
        if self.runs:
            self.send(SIGTERM)

    def add_user(self, name: str, password: str) -> None:
        """Let a user in on the secure listener, with SCRAM-SHA-512."""
        from confluent_kafka.admin import (
            AdminClient,
            ScramCredentialInfo,
            ScramMechanism,
            UserScramCredentialUpsertion,
        )

        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        done = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(name, how, password.encode())]
        )
        done[name].result(30)

    def _ready(self) -> bool:
        assert self.runs, (self.folder / "log").read_text()[-3000:]
        return self.answers()


def jars() -> Path:
    """Where Kafka's jars are; the test is skipped, or fails, where they or a client cannot be had."""
    part_required("kafka")
    try:
        load("confluent_kafka", "kafka")
    except Exception as missing:  # noqa: BLE001 - whatever it is, it is the reason
        lacking("kafka", str(missing))
    try:
        return kafka_server.jars()
    except HeadwaterError as missing:
        lacking("kafka", str(missing))


class MadeTopics:
    """Headwater's topics under a prefix of a test's own, so that one cluster serves every test."""

    def __init__(self, server: KafkaServer) -> None:
        self.server = server
        self.prefix = f"t{secrets.token_hex(3)}-"
        self.client = connection(server.address, KafkaSettings())
        self._make()

    @property
    def address(self) -> str:
        """For `tests.contracts.buses`."""
        return f"{self.server.address}/{self.prefix}"

    def make_anew(self) -> None:
        """Lose all that they hold."""
        self.delete()
        self._make()

    def _make(self) -> None:
        """Make them as `headwater-cloud topics --apply` does, and wait until each partition has a leader."""
        from headwater_cloud.kafka_topics import Topics

        Topics(self.client, self.prefix).apply()
        with closing(self.bus()) as bus:
            until(lambda: _has_leaders(bus), 30, "the topics have leaders")

    def bus(self) -> KafkaBus:
        """Return a connection of one's own, to close."""
        from headwater_shared.kafka_bus import KafkaBus

        return KafkaBus(self.client, self.prefix)

    def delete(self) -> None:
        """Let the cluster forget them; one that is too busy for that forgets them with its end."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if self.server.runs:
            admin = AdminClient({"bootstrap.servers": self.server.servers, "log_level": 0})
            for gone in admin.delete_topics([self.prefix + name for name in TOPICS]).values():
                with suppress(KafkaException, TimeoutError):
                    gone.result(20)


def _has_leaders(bus: Bus) -> bool:
    with suppress(BusUnavailable):
        return all(bus.ends(name) == {} for name in TOPICS)
    return False
