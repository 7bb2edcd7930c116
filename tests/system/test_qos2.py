"""QoS 2 through and through: the pumps publish at it, agent and fleet are killed, and the audit says 0 and 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import kills, result
from tests.system.box import CLOUD, EDGE, box
from tests.system.kills import Kill, whole_run
from tests.system.load import Load, load
from tests.system.replayed import assert_replays

SECONDS = 20.0
"""Of event time."""
KILLS = (
    Kill(EDGE, "commit.before:5", unacknowledged=-1),
    Kill(EDGE, "acknowledge.before:8", unacknowledged=-1),
    Kill(EDGE, unacknowledged=1_000),
    Kill(EDGE, "commit.during:9", unacknowledged=-1),
)
"""A tick may hold PUBRELs alone, and then no message waits for its commit."""


@pytest.mark.parametrize("version", [pytest.param("3.1.1", marks=pytest.mark.fault), "5"])
def test_pumps_at_qos_2_and_kills_of_the_agent(tmp_path: Path, version: str) -> None:
    """kill -9 in the midst of commits, between commit and PUBREC, and with a thousand messages under way: nothing is lost,
    nothing counts twice, though devices send again before and after their PUBRECs; and the journal replays to the last bit.
    """
    done = whole_run(tmp_path, KILLS, SECONDS, "--qos", "2", "--mqtt", version)
    assert done.told.sending == len(KILLS)
    assert done.told.fleet["unacknowledged"] == 0
    assert done.told.status["by_transport"] > 100
    acknowledged, counted, dead = kills.audited(done.box, done.ledger)
    assert counted + dead >= acknowledged > 12_000
    assert not done.box.troubles()
    series = result.timed_series(done.ledger)
    some = set(sorted(series)[::10])
    result.assert_same_windows(done.result.windows, result.reference(done.ledger, some), some)
    assert_replays(done.box.data / "edge.db", done.box.settings)


def test_a_fleet_that_was_killed_goes_on(tmp_path: Path) -> None:
    """kill -9 of the fleet: its devices come back to their sessions, release what may be unreleased, and send again."""
    with box(tmp_path) as here:
        here.up()
        options = (8.0, "--qos", "2")
        with load(here, *options) as fleet:
            for _ in range(2):
                fleet.goes_on(5_000)
                fleet.process.kill()
                fleet.process.wait(10)
                fleet = Load(here, *options)  # noqa: PLW2901 - the same fleet, started again
            try:
                assert fleet.finished()["unacknowledged"] == 0
            finally:
                fleet.process.kill()
                fleet.process.wait(10)
        here.closed()
        here.end(EDGE)
        here.end(CLOUD)
        assert kills.audited(here, tmp_path / "ledger")
