"""`python -m headwater_appliance.kafka_server FOLDER`, the Kafka to try with that docs/kafka.md starts."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater_cloud.kafka_topics import Topics
from headwater_shared.errors import BusUnavailable
from headwater_shared.kafka_settings import KafkaSettings, connection
from tests.kafka import jars
from tests.support import until

_COMMAND = [sys.executable, "-m", "headwater_appliance.kafka_server"]


@contextmanager
def _started(folder: Path) -> Iterator[Topics]:
    """Start it and wait until it answers; Ctrl-C ends it. Yields its topics, at the address that it says."""
    with subprocess.Popen(
        [*_COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith('bus = "kafka://127.0.0.1:')
            topics = Topics(connection(said.split('"')[1], KafkaSettings()))

            def answers() -> bool:
                assert process.poll() is None
                try:
                    topics.differences()
                except BusUnavailable:
                    return False
                return True

            until(answers, 60, "Kafka answers")
            yield topics
        finally:
            process.send_signal(signal.SIGINT)


def test_a_folder_is_a_kafka_again(tmp_path: Path) -> None:
    """Ended by Ctrl-C and started with the same folder, it has the address and the topics that it had; while it runs, a second one is refused."""
    jars()
    with _started(tmp_path / "kafka") as topics:
        assert {one.act for one in topics.apply()} == {"made"}
        before = (tmp_path / "kafka" / "server.properties").read_text()
    with _started(tmp_path / "kafka") as topics:
        assert topics.differences() == []
        second = subprocess.run(
            [*_COMMAND, str(tmp_path / "kafka")], capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "runs already" in second.stderr
    assert (tmp_path / "kafka" / "server.properties").read_text() == before


def test_a_folder_of_another_is_left_alone(tmp_path: Path) -> None:
    """A folder that holds no Kafka is refused, in a line that says what to do; nothing is written to it."""
    (tmp_path / "letters").write_text("mine")
    done = subprocess.run([*_COMMAND, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"headwater: {tmp_path} is there already, and is no Kafka of ours\n  hint: name a new folder\n"
    )
    assert [one.name for one in tmp_path.iterdir()] == ["letters"]
