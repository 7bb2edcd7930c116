"""kill -9 of the agent 30 times and of the cloud side 15 times, under load, in every place that matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.system import kills, result
from tests.system.box import CLOUD, EDGE
from tests.system.kills import Kill, whole_run
from tests.system.replayed import assert_replays

pytestmark = pytest.mark.fault

SECONDS = 360.0
"""Of event time: 1,440 samples of each device."""

SUDDEN = (Kill(EDGE, unacknowledged=2_000),) * 10
IN_A_COMMIT = tuple(
    Kill(EDGE, f"commit.{step}")
    for step in (
        "before:4",
        "during:5",
        "before:1",
        "begun:7",
        "during:8",
        "during:1",
        "before:9",
        "during:11",
    )
)
IN_A_SNAPSHOT = tuple(
    Kill(EDGE, f"snapshot.{step}") for step in ("piece:1", "piece:30", "head:2", "check:2", "piece:100")
)
AROUND = tuple(
    Kill(EDGE, step)
    for step in ("commit.after:5", "acknowledge.before:6", "acknowledge.after:4", "forward.before:3", "forward.after:4", "log.before:3", "log.during:5")
)  # fmt: skip
OF_THE_CLOUD_SIDE = (
    *(Kill(CLOUD, records=12_000),) * 3,
    *(
        Kill(CLOUD, f"cloud.{step}")
        for step in (
            "consume:4", "commit.before:3", "commit.during:4", "commit.after:5", "publish.before:4", "publish.after:5",
            "notify.before:2", "notify.after:3", "commit.before:1", "commit.during:1",
        )
    ),
    *(Kill(CLOUD, f"log.{step}") for step in ("before:4", "during:6")),
)  # fmt: skip


def _mixed(*groups: Sequence[Kill]) -> tuple[Kill, ...]:
    """Deal the groups out in turn."""
    out: list[Kill] = []
    for n in range(max(map(len, groups))):
        out += [group[n] for group in groups if n < len(group)]
    return tuple(out)


KILLS = _mixed(SUDDEN, IN_A_COMMIT, IN_A_SNAPSHOT, AROUND, OF_THE_CLOUD_SIDE)


@pytest.mark.parametrize("options", [("--seed", "1", "--mqtt", "3.1.1"), ("--seed", "2", "--mqtt", "5")])
def test_kills_wherever_they_hurt(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Every kill under load; lost 0, twice 0; the result is the undisturbed run's; the journal replays to the last bit."""
    run = whole_run(tmp_path / "killed", KILLS, SECONDS, *options)
    assert run.told.sending == len(KILLS)
    assert sum(n > 2_000 for n in run.told.unacknowledged) >= 10
    acknowledged, counted, dead = kills.audited(run.box, run.ledger)
    assert counted + dead >= acknowledged > 500_000
    assert not run.box.troubles()

    undisturbed = whole_run(tmp_path / "undisturbed", (), SECONDS, *options)
    series = result.timed_series(undisturbed.ledger)
    result.assert_same(run.result, undisturbed.result, series)

    replayed = assert_replays(run.box.data / "edge.db", run.box.settings)
    starts = 2 + sum(kill.part == EDGE for kill in KILLS)
    assert starts - 2 <= replayed.epochs < starts  # one died before its epoch was committed, one while it was
