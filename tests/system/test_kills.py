"""kill -9 of the agent and of the cloud side under load: nothing lost, nothing twice, and the result as if nothing was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import kills, result
from tests.system.box import CLOUD, EDGE
from tests.system.kills import Kill, Run, whole_run
from tests.system.replayed import assert_replays

SECONDS = 75.0
"""Of event time: 300 samples of each device."""

KILLS = (
    Kill(EDGE, "commit.before:5"),
    Kill(CLOUD, "cloud.commit.before:6"),
    Kill(EDGE, "commit.during:8"),
    Kill(EDGE, "snapshot.piece:50"),
    Kill(CLOUD, "cloud.publish.before:6"),
    Kill(EDGE, "acknowledge.before:5"),
    Kill(EDGE, unacknowledged=2_000),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run without kills, of devices that speak MQTT 5 and so send the same readings in other bytes."""
    return whole_run(tmp_path_factory.mktemp("undisturbed"), (), SECONDS, "--mqtt", "5")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run with kills."""
    return whole_run(tmp_path_factory.mktemp("killed"), KILLS, SECONDS)


def test_the_kills_fell_under_load(killed: Run) -> None:
    """Every kill found the fleet sending, the last one of the agent more than 2,000 messages unacknowledged."""
    assert killed.told.sending == len(KILLS)
    assert killed.told.unacknowledged[-1] > 2_000
    assert killed.told.fleet["unacknowledged"] == 0
    assert killed.told.status["by_transport"] > 0


def test_nothing_is_lost_and_nothing_counts_twice(killed: Run) -> None:
    """The audit of the killed run: lost 0, twice 0."""
    acknowledged, counted, dead = kills.audited(killed.box, killed.ledger)
    assert counted + dead >= acknowledged > 50_000
    assert dead > 0
    assert not killed.box.troubles()


def test_the_result_is_that_of_the_undisturbed_run(killed: Run, undisturbed: Run) -> None:
    """Windows, anomalies and alerts are those of the run without kills, and both are the reference's (R31)."""
    assert kills.audited(undisturbed.box, undisturbed.ledger)
    series = result.timed_series(undisturbed.ledger)
    assert series == result.timed_series(killed.ledger)
    result.assert_same(killed.result, undisturbed.result, series)
    some = set(sorted(series)[::5])
    result.assert_same_windows(undisturbed.result.windows, result.reference(undisturbed.ledger, some), some)


def test_the_journal_replays_to_the_last_bit(killed: Run) -> None:
    """The killed run's journal, run again without kills: the same outbox, the same state in each snapshot (R31)."""
    replayed = assert_replays(killed.box.data / "edge.db", killed.box.settings)
    assert replayed.epochs == 2 + sum(kill.part == EDGE for kill in KILLS)
    assert replayed.snapshots > 2
    assert replayed.rows > 100


def test_r04_rows_that_left_the_journal_are_not_missed(tmp_path: Path) -> None:
    """With a horizon of 3 s rows go while the agent is killed: the audit finds 0 and 0, and what is left replays. What comes
    so late that only coverage can judge it may be a dead letter here, so the windows are not compared.
    """
    short = '[edge.windows]\nhorizon = "3s"'
    done = whole_run(tmp_path, [kill for kill in KILLS if kill.part == EDGE][:2], SECONDS, edge=short)
    assert kills.audited(done.box, done.ledger)
    assert not done.box.troubles()
    assert assert_replays(done.box.data / "edge.db", done.box.settings).deleted > 0
