"""A real Kafka for tests: one node (KRaft) on free ports of the loopback, which can be killed, stopped and started again."""

from __future__ import annotations

import base64
import secrets
import socket
import subprocess
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

from headwater_appliance.certs import make_authority, make_server
from headwater_appliance.ports import steady_port
from headwater_shared.bus import Bus
from headwater_shared.errors import BusUnavailable
from headwater_shared.extras import load
from headwater_shared.kafka_settings import KafkaSettings, connection
from headwater_shared.topics import TOPICS
from tests.support import ROOT, lacking, part_required, until

JARS = ROOT / "deploy" / "kafka" / "jars.sh"

_JAVA = (
    "-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
)  # fmt: skip
"""One compiler and a collector without threads of its own: it starts in two seconds and leaves the cores to the tests."""
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAIN://127.0.0.1:{plain},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAIN:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/keystore.pem
log.dirs={folder}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.partitions=4
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=65536
num.network.threads=2
num.io.threads=2
background.threads=2
"""
"""What a single node needs, with the short waits of ../shared/design/KAFKA.md. `SECURE` wants TLS, user and password."""
_LOG = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
"""


class KafkaServer:
    """A Kafka with the same ports, data and cluster id for its whole life, however often it dies."""

    def __init__(self, folder: Path, settings: str = _SETTINGS) -> None:
        """Format its folder, with certificates for the secure listener; `authority` is who signed them.

        Args:
            settings: its server.properties, with {plain}, {secure}, {controller} and {folder} in it.
        """
        self._jars = _jars()
        self.folder = folder
        now = datetime.now(UTC)
        self.authority = make_authority(folder, "Kafka's authority", 30, now).certificate
        own = make_server(folder, ["127.0.0.1", "localhost"], 20, now)
        (folder / "keystore.pem").write_text(own.key.read_text() + own.certificate.read_text())
        self.port, self.secure_port, controller = steady_port(), steady_port(), steady_port()
        (folder / "log4j2.properties").write_text(_LOG)
        (folder / "server.properties").write_text(
            settings.format(plain=self.port, secure=self.secure_port, controller=controller, folder=folder)
        )
        self._process: subprocess.Popen[bytes] | None = None
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        format_it = self.java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c")
        subprocess.run(format_it, check=True, capture_output=True, timeout=60)

    @property
    def servers(self) -> str:
        """Its plain listener, as clients want it named."""
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The same as a `bus` of the settings."""
        return f"kafka://{self.servers}"

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
            self._process = subprocess.Popen(self.java("kafka.Kafka"), stdout=out, stderr=out)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.begin()
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        until(self._answers, 60, "Kafka answers")

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

    def _answers(self) -> bool:
        assert self.runs, (self.folder / "log").read_text()[-3000:]
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            admin = AdminClient(
                {"bootstrap.servers": self.servers, "log_level": 0, "socket.timeout.ms": 5000}
            )
            with suppress(KafkaException):
                return bool(admin.list_topics(timeout=5).brokers)
        return False

    def java(self, main: str, *words: str) -> list[str]:
        """Return how a program of Kafka's is started; the path of its settings comes last."""
        log = f"-Dlog4j2.configurationFile={self.folder}/log4j2.properties"
        return [
            "java",
            *_JAVA,
            log,
            "-cp",
            f"{self._jars}/*",
            main,
            *words,
            str(self.folder / "server.properties"),
        ]


def _jars() -> Path:
    """Where Kafka's jars are; the test is skipped, or fails, where they or a client cannot be had."""
    part_required("kafka")
    try:
        load("confluent_kafka", "kafka")
    except Exception as missing:  # noqa: BLE001 - whatever it is, it is the reason
        lacking("kafka", str(missing))
    found = subprocess.run([str(JARS)], capture_output=True, text=True, timeout=300, check=False)
    if found.returncode:
        lacking("kafka", f"Kafka's jars: {found.stderr.strip()}")
    return Path(found.stdout.strip())


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
        from headwater_shared.kafka_bus import KafkaBus

        Topics(self.client, self.prefix).apply()
        bus = KafkaBus(self.client, self.prefix)
        until(lambda: _has_leaders(bus), 30, "the topics have leaders")
        bus.close()

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
