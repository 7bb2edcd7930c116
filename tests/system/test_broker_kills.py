"""kill -9 of the agent and of the broker, through Mosquitto: what its memory loses is told apart from what we lose, which is 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from headwater_appliance.audit import audit
from headwater_appliance.audit_findings import Findings
from headwater_appliance.audit_stored import read
from headwater_shared import ledger as ledgers
from headwater_shared.digest import NO_TIME
from tests.brokers import MosquittoServer, mosquitto_server, persistent, publish
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, SMALL_SNAPSHOTS, Box, box
from tests.system.load import Load, load
from tests.system.pumps import connected
from tests.system.replayed import assert_replays, keep_all_rows
from tests.system.tap import Tap, tapped

SCENARIO = ROOT / "tests" / "system" / "broker.toml"
SECONDS = 20.0
"""Of event time: 80 samples of each of 200 devices."""

_BROKER = """
tick_readings = 1000
[[edge.broker]]
name = "plant"
host = "127.0.0.1"
port = {port}
filters = ["hw/#"]
reconnect = "200ms"
reconnect_most = "1s"
version = "{version}"
qos = {qos}
"""

AGENT_DIES = {
    "5": ("commit.before:4", "commit.during:6", "acknowledge.before:5", "acknowledge.after:5", ""),
    "3.1.1": ("acknowledge.before:6", ""),
}
"""At which step each run of the agent dies ("": by a kill from outside, with messages on the way); one more goes to the end."""


class Run(NamedTuple):
    """A run that is over: what the fleet sent to the broker, and what passed between broker and agent."""

    box: Box
    fleet: Path
    tap: Tap

    def audited(self, ledger: Path) -> Findings:
        stored = read(self.box.data / "cloud.db", [self.box.data / "edge.db"])
        return audit(ledgers.read(ledger), stored)


@contextmanager
def through_mosquitto(
    folder: Path,
    config: str = "max_queued_messages 0",
    *,
    scenario: Path = SCENARIO,
    most: int = 1 << 30,
    seconds: float = SECONDS,
    in_flight: int = 64,
    version: str = "5",
    qos: int = 1,
) -> Iterator[tuple[Run, MosquittoServer, Load]]:
    """Run Mosquitto, a tap, both sides and a fleet that has begun to send; end all with the block."""
    with (
        mosquitto_server(folder / "mosquitto", config) as broker,
        tapped(broker.port, folder / "tap.ledger", 5 if version == "5" else 4, most) as tap,
        box(
            folder / "box",
            edge=_BROKER.format(port=tap.port, version=version, qos=qos),
        ) as here,
    ):
        here.start(EDGE)
        here.ready(EDGE)
        here.end(EDGE)
        keep_all_rows(here.data / "edge.db")
        here.up(module=SMALL_SNAPSHOTS)
        connected(here)
        words = (
            "--scenario", str(scenario), "--port", str(broker.port), "--in-flight", str(in_flight), "--qos", str(qos),
        )  # fmt: skip
        with load(here, seconds, *words) as fleet:
            yield Run(here, fleet.ledger, tap), broker, fleet


def finish(run: Run, broker: MosquittoServer, fleet: Load) -> None:
    """See the fleet to its end, and the agent to the last message: what is published last comes last.

    That is the newest reading once more, as a message of its own, which must not count again (R2).
    """
    fleet.finished()
    connected(run.box)
    truth = ledgers.read(run.fleet)
    newest = int(np.argmax(truth.time))
    site, device, metric = truth.series[truth.series_of[newest]].split("/")
    run.tap.last = b'{"t":%d,"v":%r} ' % (truth.time[newest], float(truth.value[newest]))
    publish(broker.port, (f"hw/{site}/{device}/data/{metric}", run.tap.last))
    until(lambda: run.tap.last_acknowledged, 60, "the agent has acknowledged all that the broker has")
    run.box.closed()
    run.box.end(EDGE)
    run.box.end(CLOUD)


def kill_agents(run: Run, steps: Sequence[str]) -> None:
    """Let the agent die at each step in turn, and start it again."""
    here = run.box
    for at, step in enumerate(steps):
        if step:
            here.killed(EDGE)
        else:
            acknowledged = run.tap.acknowledged
            until(lambda n=acknowledged: run.tap.acknowledged > n + 1_000, 30, "the agent is at work")  # type: ignore[misc]
            here.kill(EDGE)
        following = [*steps, ""][at + 1]
        here.start(EDGE, crash=following, module=SMALL_SNAPSHOTS)
        if not following:
            here.ready(EDGE)


def readings(ledger: Path, *, acknowledged: bool) -> set[tuple[str, int, float]]:
    """Return the readings with a time of a ledger, or those of them that were acknowledged: series, time, value."""
    truth = ledgers.read(ledger)
    wanted = (truth.time != NO_TIME) & (truth.acknowledged | (not acknowledged))
    names = np.array(truth.series)[truth.series_of[wanted]]
    return set(zip(names.tolist(), truth.time[wanted].tolist(), truth.value[wanted].tolist(), strict=True))


@pytest.mark.parametrize(
    ("version", "qos"),
    [("5", 1), ("5", 2), *(pytest.param("3.1.1", qos, marks=pytest.mark.fault) for qos in (1, 2))],
)
def test_r03_kills_of_the_agent_behind_mosquitto(tmp_path: Path, version: str, qos: int) -> None:
    """Kills while the broker delivers: by the fleet's ledger nothing is lost and nothing counts twice, untimed readings
    and dead letters included; what came again was told by its packet id; the journal replays to the last bit.
    """
    config, dies = "max_queued_messages 0\nmax_inflight_messages 2000", AGENT_DIES[version]
    with through_mosquitto(tmp_path, config, version=version, most=1_000, qos=qos) as (run, broker, fleet):
        run.box.kill(EDGE)
        run.box.start(EDGE, crash=dies[0], module=SMALL_SNAPSHOTS)
        kill_agents(run, dies)
        finish(run, broker, fleet)
    by_fleet, by_tap = run.audited(run.fleet), run.audited(run.tap.ledger)
    assert by_fleet.line().endswith("lost 0, twice 0")
    assert by_tap.line().endswith("lost 0, twice 0")
    assert by_fleet.good
    assert by_tap.good
    assert by_fleet.dead > 0
    assert run.tap.again > 0
    assert run.tap.connections >= len(dies) + 1
    assert not run.box.troubles()
    assert_replays(run.box.data / "edge.db", run.box.settings)


def _steady(folder: Path) -> Path:
    """Write the scenario without what a broker that dies makes two of: readings without a time, unreadable messages."""
    text = SCENARIO.read_text().replace(", bare = 1", "").replace("unreadable = 0.002", "")
    made = folder / "steady.toml"
    made.write_text(text)
    return made


@pytest.mark.parametrize(
    ("persistence", "qos"),
    [
        (False, 1),
        (True, 2),
        *(pytest.param(*more, marks=pytest.mark.fault) for more in ((False, 2), (True, 1))),
    ],
)
def test_r03_kills_of_mosquitto_and_of_the_agent(tmp_path: Path, qos: int, *, persistence: bool) -> None:
    """What the broker had acknowledged to devices and never delivered is lost there, and just that is missing; of what it
    delivered, all that we acknowledged is counted once: with a session that is gone, and with one from an older state.
    """
    config = persistent(tmp_path) + "\nautosave_interval 1" if persistence else "max_queued_messages 0"
    scenario = _steady(tmp_path)
    with through_mosquitto(
        tmp_path, config, scenario=scenario, most=600, seconds=40, in_flight=1, qos=qos
    ) as (
        run,
        broker,
        fleet,
    ):
        for turn in range(3):
            _kill_at(run, broker, 600, agent_too=turn == 1)
            assert fleet.sending()
        finish(run, broker, fleet)
    by_tap, by_fleet = run.audited(run.tap.ledger), run.audited(run.fleet)
    assert by_tap.line().endswith("lost 0, twice 0"), by_tap.findings[:5]
    assert by_tap.good
    assert by_tap.acknowledged > 5_000
    # The broker lost at least what it never delivered, at most what it never had our acknowledgement of.
    acknowledged = readings(run.fleet, acknowledged=True)
    never_delivered = acknowledged - readings(run.tap.ledger, acknowledged=False)
    never_ours = acknowledged - readings(run.tap.ledger, acknowledged=True)
    assert len(never_delivered) <= by_fleet.lost <= len(never_ours)
    assert by_fleet.twice == 0
    assert persistence or never_delivered
    assert not [trouble for trouble in run.box.troubles() if "broker" not in trouble]


def _kill_at(run: Run, broker: MosquittoServer, messages: int, *, agent_too: bool) -> None:
    """Kill the broker (and the agent) once so many more messages were acknowledged, and start it again."""
    acknowledged = run.tap.acknowledged
    until(lambda: run.tap.acknowledged > acknowledged + messages, 30, "the agent is at work")
    broker.kill()
    if agent_too:
        run.box.kill(EDGE)
        run.box.start(EDGE, module=SMALL_SNAPSHOTS)
        run.box.ready(EDGE)
    broker.start()
    connected(run.box)
