"""kill -9 at every step there is, in agent and cloud side, also while they start again, and at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fault import steps
from tests.fault.recorded import Recorded
from tests.support import ROOT
from tests.system import kills, result
from tests.system.box import CLOUD, EDGE
from tests.system.kills import Kill, Run, whole_run
from tests.system.load import FEW_IN_FLIGHT
from tests.system.replayed import assert_replays

DETECT = '[edge.windows]\nhorizon = "5s"\nlevels = ["1s", "10s", "1m", "10m", "1h"]\n[[edge.detect]]\nname = "unusual"\nseries = "*"'
HORIZON = '[edge.windows]\nhorizon = "{}"'


def test_every_step_has_a_kill_and_every_kill_a_step() -> None:
    """The list of steps is what `reached(...)` names in the source: no step that nobody kills at, no kill that never comes."""
    found = set(steps.in_the_source())
    assert found - set(steps.ELSEWHERE) == set(steps.ALL), (
        "add the step to tests/fault/steps.py, or take it away there"
    )
    for step in found & set(steps.ELSEWHERE):
        assert step in (ROOT / steps.ELSEWHERE[step]).read_text(), (
            f"{steps.ELSEWHERE[step]} does not kill at {step}"
        )


def _interleaved(starts: Sequence[Kill], others: Sequence[Kill]) -> tuple[Kill, ...]:
    """After each of some kills, one while it starts again."""
    out: list[Kill] = []
    for n, kill in enumerate(others):
        out += [kill, *starts[n : n + 1]]
    return (*out, *starts[len(others) :])


def _assert_as_if_nothing_was(run: Run, wanted: Run, recorded: Recorded, times: int) -> None:
    said = kills.audit_of(run.box, run.ledger)
    found = recorded("kill -9", times, said)
    assert found.good, said
    assert found.counted + found.dead >= found.acknowledged
    assert run.told.sending == times
    assert not run.box.troubles()
    result.assert_same(run.result, wanted.result, result.timed_series(wanted.ledger))
    assert_replays(run.box.data / "edge.db", run.box.settings)


def test_r05_some_steps_of_today_killed_at(tmp_path: Path, recorded: Recorded) -> None:
    """A few of the steps, others each day: lost 0, twice 0; crashes during the start after a crash, and a kill at random. Detectors
    are on: the journal, run again, gives the same scores and the same finds to the last bit.
    """
    edge = steps.kills(steps.of_today(steps.TICK | steps.SNAPSHOT | steps.FORWARD, 9))
    starts = steps.kills(steps.of_today(steps.RESTART, 3))
    cloud = steps.kills(steps.of_today(steps.OF_THE_CLOUD_SIDE, 9))
    every = (*_interleaved(starts, edge), *cloud, Kill(EDGE, records=2_500))
    run = whole_run(tmp_path, every, 90.0, edge=DETECT)
    found = recorded("kill -9", len(every), kills.audit_of(run.box, run.ledger))
    assert found.good, (found, every)
    assert run.told.sending >= len(every) - 2
    assert not run.box.troubles()
    assert_replays(run.box.data / "edge.db", run.box.settings)


GROUPS = {
    "tick": _interleaved(steps.kills(steps.RESTART), steps.kills(steps.TICK)),
    "snapshot": steps.kills(steps.SNAPSHOT),
    "forward": steps.kills(steps.FORWARD),
    "cloud": (*_interleaved(steps.kills(steps.CLOUD_RESTART), steps.kills(steps.CONSUME)),
              *(Kill(CLOUD, f"{step}:{count}") for step, count in steps.FORWARD.items() if step.startswith("log."))),
}  # fmt: skip
EVENT_S = {"tick": 240.0, "snapshot": 240.0, "forward": 300.0, "cloud": 480.0}


@pytest.mark.fault
@pytest.mark.parametrize("group", GROUPS)
def test_r05_a_kill_at_every_step_leaves_the_result_as_it_was(
    tmp_path: Path, group: str, recorded: Recorded
) -> None:
    """Each step of the group once, under load: the audit finds nothing, the result is the undisturbed run's (R31)."""
    run = whole_run(tmp_path / "killed", GROUPS[group], EVENT_S[group])
    wanted = whole_run(tmp_path / "undisturbed", (), EVENT_S[group])
    _assert_as_if_nothing_was(run, wanted, recorded, len(GROUPS[group]))


@pytest.mark.fault
def test_r04_a_kill_at_every_step_of_the_compaction(tmp_path: Path, recorded: Recorded) -> None:
    """Rows leave the journal (a horizon of 5 s), and the agent dies at each step of that, twice: the audit finds nothing. What
    comes so late that only coverage can judge it may be a dead letter, so the windows are not compared.
    """
    every = steps.kills(steps.COMPACTION) * 2
    run = whole_run(tmp_path, every, 500.0, *FEW_IN_FLIGHT, edge=HORIZON.format("5s"))
    found = recorded("kill -9", len(every), kills.audit_of(run.box, run.ledger))
    assert found.good, found
    assert run.told.sending == len(every)
    assert not run.box.troubles()
    assert assert_replays(run.box.data / "edge.db", run.box.settings).deleted > 0


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(4))
def test_r05_two_hundred_kills_at_random(tmp_path: Path, seed: int, recorded: Recorded) -> None:
    """Fifty kills a run, of agent and cloud side, at moments that nobody chose: as if nothing was."""
    chance = random.Random(seed)
    every = [
        Kill(chance.choice((EDGE, EDGE, EDGE, CLOUD)), records=chance.randint(300, 5_000)) for _ in range(50)
    ]
    options = ((), ("--mqtt", "5"), ("--qos", "2"), ("--mqtt", "5", "--qos", "2"))[seed]
    run = whole_run(tmp_path / "killed", every, 400.0, "--seed", str(seed), *options)
    wanted = whole_run(tmp_path / "undisturbed", (), 400.0, "--seed", str(seed), *options)
    _assert_as_if_nothing_was(run, wanted, recorded, len(every))


def test_r15_two_crashes_at_one_journal_row(tmp_path: Path, recorded: Recorded) -> None:
    """The start dies at one row of its replay, and the next start at the same one: the third goes on, and nothing is missing."""
    every = (
        Kill(EDGE, "commit.after:6"),
        Kill(EDGE, "restart.row:1"),
        Kill(EDGE, "restart.row:1"),
    )
    run = whole_run(tmp_path, every, 20.0)
    found = recorded("kill -9", len(every), kills.audit_of(run.box, run.ledger))
    assert found.good
    assert assert_replays(run.box.data / "edge.db", run.box.settings).epochs == 3
