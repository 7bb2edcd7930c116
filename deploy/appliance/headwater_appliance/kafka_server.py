"""A Kafka of one node (KRaft) on this machine, for the demo and the tests: its jars, its settings, how it is started."""

from __future__ import annotations

import base64
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

from headwater_appliance.ports import steady_port
from headwater_shared.errors import HeadwaterError, NeedsPerson, PartMissing

JARS = Path(__file__).parents[2] / "kafka" / "jars.sh"
"""In a checkout: a package brings no Kafka along."""

_JAVA = (
    "-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto",
)  # fmt: skip
"""One compiler and a collector without threads of its own: it starts in two seconds and leaves the cores to others."""
_OLDEST_JAVA = 17
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAIN://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{plain}
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT
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
"""What a single node needs, with short waits and small buffers: it serves one machine, for a while."""
_LOG = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
"""


class KafkaServer:
    """Kafka's folder, with the same ports, data and cluster id however often it is started. It starts nothing that stays."""

    def __init__(self, folder: Path, jars: Path, settings: str = SETTINGS) -> None:
        """Write its settings and format its folder; one that was made before is taken as it is.

        Args:
            folder: its own, which is there.
            jars: the folder with Kafka's (see `jars`).
            settings: its server.properties, with {plain}, {controller} and {folder} in it.

        Raises:
            NeedsPerson: the folder cannot be formatted.
        """
        self.folder = folder
        self._jars = jars
        if made_here(folder):
            found = re.search(
                r"^listeners=PLAIN://127\.0\.0\.1:(\d+)",
                (folder / "server.properties").read_text(),
                re.MULTILINE,
            )
            if found is None:
                raise NeedsPerson(f"{folder}/server.properties names no listener", hint="name a new folder")
            self.port = int(found[1])
            return
        self.port = steady_port()
        (folder / "log4j2.properties").write_text(_LOG)
        (folder / "server.properties").write_text(
            settings.format(plain=self.port, controller=steady_port(), folder=folder)
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        formatted = subprocess.run(
            self.java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c"),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if formatted.returncode:
            raise NeedsPerson(
                f"Kafka cannot use {folder}: {(formatted.stderr or formatted.stdout).strip()[-500:]}",
                hint="see that the disk has room, and that java is 17 or newer",
            )

    @property
    def servers(self) -> str:
        """Its listener without TLS, as clients want it named."""
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The same as a `bus` of the settings."""
        return f"kafka://{self.servers}"

    def command(self) -> list[str]:
        """Return the command that is the server."""
        return self.java("kafka.Kafka")

    def java(self, main: str, *words: str) -> list[str]:
        """Return how a program of Kafka's is started; the path of its settings comes last."""
        return [
            "java", *_JAVA, f"-Dlog4j2.configurationFile={self.folder}/log4j2.properties", "-cp", f"{self._jars}/*",
            main, *words, str(self.folder / "server.properties"),
        ]  # fmt: skip

    def answers(self) -> bool:
        """Ask it whether it is ready; takes up to 5 s."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            admin = AdminClient(
                {"bootstrap.servers": self.servers, "log_level": 0, "socket.timeout.ms": 5000}
            )
            with suppress(KafkaException):
                return bool(admin.list_topics(timeout=5).brokers)
        return False


def made_here(folder: Path) -> bool:
    """Tell whether the folder is one that a `KafkaServer` wrote its settings to and formatted."""
    return (folder / "server.properties").exists() and (folder / "data" / "meta.properties").exists()


def jars() -> Path:
    """Return the folder of Kafka's jars; what is missing is fetched from Maven Central first, which is said on the standard error.

    Raises:
        PartMissing: java, mvn or the script is missing, or nothing could be fetched; the message says what to do.
    """
    java = java_version()
    if java < _OLDEST_JAVA:
        has = f"java is {java}" if java else "java is missing"
        raise PartMissing(
            f"{has}, and Kafka needs {_OLDEST_JAVA} or newer",
            hint="sudo apt-get install default-jre-headless maven",
        )
    if not JARS.exists():
        raise PartMissing(
            f"there is no {JARS}, which fetches Kafka",
            hint="run `make demo-kafka` in a checkout of Headwater",
        )
    found = subprocess.run([str(JARS)], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise PartMissing("Kafka's jars cannot be had", hint="the lines above say why")
    return Path(found.stdout.strip())


def java_version() -> int:
    """Return the major version of the java of this machine; 0: there is none."""
    if shutil.which("java") is None:
        return 0
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found[1]) if found else 0


def main(folder: str) -> None:
    """Be a Kafka to try things with, in a new folder or in the one of last time: no users, no TLS, one node, on the loopback.

    Raises:
        NeedsPerson: it cannot be.
    """
    place = Path(folder).absolute()
    if place.exists() and not made_here(place):
        raise NeedsPerson(f"{place} is there already, and is no Kafka of ours", hint="name a new folder")
    found = jars()
    place.mkdir(parents=True, exist_ok=True)
    _hold(place)
    server = KafkaServer(place, found)
    print(f'bus = "{server.address}"', flush=True)
    os.execvp("java", server.command())  # noqa: S606 - it becomes the server: one process, one pid


def _hold(place: Path) -> None:
    """Be the only one on the folder for as long as this process is, as java too: a second Kafka cuts off the first one's log before it sees that the port is taken."""
    held = os.open(place / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(held, True)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NeedsPerson(
            f"the Kafka of {place} runs already", hint="end that one first, or name another folder"
        ) from None


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except HeadwaterError as error:
        sys.exit(f"headwater: {error}")
