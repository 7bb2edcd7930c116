"""An hour's backlog, in one run: absent at boot, cut mid-burst, back, killed while draining; then what PAINS asks of it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headwater_cloud.history import History
from headwater_firmware_sim import pipeline as fleet_pipeline
from tests.support import until
from tests.system import kills, outage
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import load

PUMPS = Path(fleet_pipeline.__file__).parent / "scenarios" / "pumps.toml"
HOUR_S = 3600.0
DEVICES = "12"


@dataclass
class Told:
    """What was seen on the way."""

    box: Box
    ledger: Path
    offline: dict[str, Any] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    alarms: list[tuple[float, int]] = field(default_factory=list)
    """How long each took to the bus, and how many rows of the backlog waited then."""
    kills: int = 0
    status: dict[str, Any] = field(default_factory=dict)


def whole(folder: Path, steps: Sequence[str], drain: str, module: str = "") -> Iterator[Told]:
    """Run an hour of event time over a bus that comes and goes; while it drains, the agent is killed from outside, and
    its successor at each of the steps (see `headwater_shared.crash`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with box(folder, edge=outage.with_mount(folder, drain)) as here:
        outage.cloud_reads_there(here)
        scenario = folder / "pumps.toml"
        # All devices send as many messages: one that sent five times as many would be waited for alone.
        scenario.write_text(PUMPS.read_text().replace("{ multi = 9, single = 1 }", "{ multi = 1 }"))
        here.start(EDGE)
        place = here.ready(EDGE)  # its bus is not there
        with load(
            here, HOUR_S, "--scenario", str(scenario), "--devices", DEVICES, "--in-flight", "16"
        ) as fleet:
            told = Told(here, fleet.ledger)
            fleet.goes_on(4_000)
            assert outage.mode(here) == "offline"
            outage.mount(here)
            until(lambda: outage.mode(here) != "offline", 20, "the bus is found")
            fleet.goes_on(1_000)
            assert fleet.sending()
            outage.unmount(here)
            fleet.finished()
        until(lambda: outage.mode(here) == "offline", 20, "the bus is missed")
        told.offline = here.status()
        told.health = _health(place["health"])
        outage.mount(here)
        here.start(CLOUD)
        here.ready(CLOUD)
        until(lambda: outage.mode(here) == "backlog", 20, "the bus is back")
        for number in range(3):
            told.alarms.append((outage.ring(here, fleet.ledger, number), here.status()["backlog"]))
        for step in steps:
            here.kill(EDGE)
            if step:
                here.start(EDGE, crash=step, module=module)
                here.killed(EDGE)
            here.start(EDGE, module=module)
            here.ready(EDGE)
            told.kills += 1 + bool(step)
            until(lambda: here.status().get("replayed", 0) > 0, 20, "the next process drains what is left")
            assert here.status()["backlog"] > 0
        here.settings.write_text(here.settings.read_text().replace(f'drain = "{drain}"', 'drain = "100MB"'))
        here.end(EDGE)
        here.start(EDGE)
        here.ready(EDGE)
        told.status = here.closed()
        here.end(EDGE)
        here.end(CLOUD)
        yield told


def _health(port: int) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            found: dict[str, Any] = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        found = json.loads(error.read())
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    yield from whole(tmp_path_factory.mktemp("outage"), ("forward.before:2", "forward.after:2", ""), "40KB")


def test_pain01_a_link_that_is_cut_in_a_burst_loses_nothing(told: Told) -> None:
    """The bus went away between two appends and came back an hour later: the audit finds all, once."""
    acknowledged, counted, dead = kills.audited(told.box, told.ledger)
    assert counted + dead >= acknowledged > 200_000
    assert not told.box.troubles()


def test_pain06_kills_while_draining_send_no_more_than_a_batch_again(told: Told) -> None:
    """kill -9 while it drains: the drain goes on where it was and ends; on the bus only what was on its way lies twice."""
    assert told.kills == 5
    assert told.status["outbox"] == told.status["backlog"] == 0
    found, replayed = outage.on_the_bus(told.box)
    assert replayed > 400
    assert sum(found.values()) - len(found) <= 2 * 64 * told.kills


def test_pain12_a_new_anomaly_is_through_within_two_seconds(told: Told) -> None:
    """With an hour's backlog before it, most of which is still there afterwards."""
    assert len(told.alarms) == 3
    for seconds, left in told.alarms:
        assert seconds < 2.0
        assert left > 300


def test_pain13_windows_close_and_are_whole_though_lanes_overtook_each_other(told: Told) -> None:
    """Newer frames came before older ones: once all are there the cloud side says that each shard is complete, misses no
    seq, and no window waits.
    """
    history = History(told.box.data / "cloud.db")
    progress, reports = history.progress(), history.reports()
    history.close()
    assert {one.waiting for one in progress} == {0}
    assert len({one.shard for one in progress}) >= 4
    assert [report for report in reports if report.kind != "went-back"] == []


def test_pain16_the_bus_is_absent_at_boot_and_the_agent_takes_everything(told: Told) -> None:
    """It started without the log's folder, took an hour of readings, and said in status and health why they wait."""
    assert told.offline["forward"] == "offline"
    assert told.offline["outbox"] > 600
    assert told.offline["oldest_unsent_s"] > 0
    assert told.health["status"] == "failing"
    assert told.health["reasons"] == ["the bus is away; everything waits in the outbox"]


@pytest.mark.fault
def test_pain06_a_hundred_kills_while_draining(tmp_path: Path) -> None:
    """As above, a hundred times: nothing lost, nothing twice, and the drain ends."""
    steps = [f"forward.{step}:{n}" for n in (1, 2, 3, 4, 5) for step in ("before", "after")] * 5
    for told in whole(tmp_path / "box", steps, "8KB", "tests.system.agent_with_small_batches"):
        assert told.kills == 100
        acknowledged, counted, dead = kills.audited(told.box, told.ledger)
        assert counted + dead >= acknowledged > 200_000
        found, _ = outage.on_the_bus(told.box)
        assert sum(found.values()) - len(found) <= 2 * 64 * told.kills


def test_pain10_a_log_that_is_deleted_under_both_is_made_anew(tmp_path: Path) -> None:
    """`headwater up`, and somebody deletes log.db: the cloud side ends and is started again, the agent looks for another log;
    what was only on the old one is sent again. The audit finds nothing missing.
    """
    from tests.system.test_up import place_of, up

    here = Box(tmp_path)
    with up(here):
        with load(here, 60, "--devices", "50") as fleet:
            fleet.goes_on(3_000)
            pid = place_of(here, CLOUD)["pid"]
            for file in here.data.glob("log.db*"):
                file.unlink()
            place_of(here, CLOUD, before=pid)
            assert fleet.sending()
            fleet.finished()
        here.closed()
        kills.audited(here, fleet.ledger)
    log = here.log("up").read_text()
    assert "the bus is another one than before" in log


def test_pain10_a_stall_ends_the_agent_and_the_next_process_sends_all(tmp_path: Path) -> None:
    """An append never returns while the log answers others: readings are taken all the time, then the process ends by itself
    with one clear line and the code that a supervisor starts again after. Nothing is lost.
    """
    with box(tmp_path, edge='[edge.forward]\nstall = "2s"\n') as here:
        here.start(EDGE, module="tests.system.agent_that_stalls")
        here.ready(EDGE)
        here.start(CLOUD)
        with load(here, 60, "--devices", "50") as fleet:
            fleet.goes_on(2_000)
            stalled = here.running.pop(EDGE)
            assert stalled.wait(20) == 75
            said = [line for line in here.log(EDGE).read_text().splitlines() if "stands still" in line]
            assert said == [
                "headwater-edge: forwarding stands still: rows wait, the bus says that it is well and has taken none for 2 s"
            ]
            here.start(EDGE, module="tests.system.agent_that_stalls")
            here.ready(EDGE)
            fleet.finished()
        here.closed()
        kills.audited(here, fleet.ledger)
