"""`headwater demo --kafka` as a person runs it: its end, what it leaves behind, and the windows of `headwater demo` (R31)."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from headwater_appliance.kafka_server import KafkaServer
from headwater_cloud.history import History
from headwater_shared import ledger as ledgers
from headwater_shared.errors import NeedsPerson
from tests import kafka
from tests.support import part_required, until
from tests.system import result
from tests.system.box import descendants
from tests.system.kills import AUDITED
from tests.system.test_demo import Demo, Demos

SAME = ("--seconds", "30", "--seed", "7", "--origin", "2026-11-02T06:00:00Z")


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[Demos]:
    """Demos of one test, of which nothing is left."""
    kafka.jars()
    made = Demos(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.fault  # make test has the same way out in test_demo.py, without Kafka
def test_ctrl_c_while_kafka_starts_leaves_nothing(demos: Demos) -> None:
    """Interrupted once Kafka runs and the others begin: exit code 130, and nothing is left of it."""
    demo = demos.start("interrupted", "--kafka")
    until(lambda: len(_below(demo)) >= 4, 60, "Kafka and some others run")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 130, demo.lines
    assert demo.left_behind() == set()
    until(lambda: demo.said("^interrupted$"), what="it says so")


def test_a_kafka_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    """Java's own words, and what to look at; nothing runs."""
    part_required("kafka")
    with pytest.raises(NeedsPerson, match=r"(?s)Kafka cannot use .*kafka\.tools\.StorageTool") as told:
        KafkaServer(tmp_path, tmp_path)  # no jars there
    assert "java is 17 or newer" in told.value.hint


@pytest.mark.fault
def test_a_demo_without_a_java_says_what_to_install(demos: Demos) -> None:
    """One clear line, and exit code 78."""
    demo = demos.start("without", "--kafka", PATH="/nowhere")
    assert demo.process.wait(60) == 78
    until(lambda: demo.said("java is missing, and Kafka needs 17"), what="it says so")
    assert demo.said("apt-get install default-jre-headless maven")


@pytest.mark.fault
@pytest.mark.covers("R31")
def test_r31_its_windows_are_those_of_the_demo_with_the_same_seed(demos: Demos, tmp_path: Path) -> None:
    """Both end with the audit at 0 and 0; the pumps that both have come to the same windows, but for those that were told to stop."""
    many, one = demos.start("many", "--kafka", *SAME), demos.start("one", *SAME)
    for demo in (many, one):
        until(partial(demo.said, r"devices  [1-9]"), 120, "a demo shows readings")
        demo.below |= descendants([demo.process.pid])
        assert demo.process.wait(180) == 0, demo.lines
        until(partial(demo.said, "^audit: acknowledged"), what="its last line")
        found = AUDITED.fullmatch(demo.last())
        assert found, demo.last()
        assert int(found[1]) > 5_000
        assert demo.left_behind() == set()
    assert len(many.below) >= 9  # itself, Kafka, four agents, two workers, the fleet
    ((_, memory),) = many.said("all of it together took")
    assert float(re.findall(r"took (\S+) GB", memory)[0]) <= 2.0
    series, told = _series(tmp_path / "many"), _commanded(tmp_path / "many") | _commanded(tmp_path / "one")
    both = {name for name in series & _series(tmp_path / "one") if name.rpartition("/")[0] not in told}
    assert len(both) > 150
    results = [result.read(tmp_path / name / ".demo" / "data" / "cloud.db") for name in ("many", "one")]
    result.assert_same_windows(results[0].windows, results[1].windows, both)


def _below(demo: Demo) -> set[int]:
    demo.below |= descendants([demo.process.pid])
    return demo.below


def _series(folder: Path) -> set[str]:
    return set(ledgers.read(folder / ".demo" / "ledger").series)


def _commanded(folder: Path) -> set[str]:
    """Devices that did what they were told: when they did is not of the plan."""
    history = History(folder / ".demo" / "data" / "cloud.db")
    try:
        return {command.device for command in history.commands()}
    finally:
        history.close()
