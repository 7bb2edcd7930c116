"""kill -9 while the cloud side lets go of what is old, and gives space back: what is kept is all there (R27, R28)."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_cloud import retention, runner
from headwater_cloud.retention import Keep
from headwater_shared import sqlite_log
from headwater_shared.topics import IN
from tests.cloud.kills import Killed
from tests.cloud.made import DAY, SHARD, T0, Agent, row
from tests.cloud.side import Side, copied, windows_of
from tests.fault import steps

_MANY = 3_000
_KEEP = Keep({"10s": 7 * DAY}, 7 * DAY)


def _aged(folder: Path) -> Side:
    """A cloud side with many windows that are ten days old, and some of today."""
    side = Side(folder)
    side.clock.wall_us = T0
    agent = Agent()
    for begin in range(0, _MANY, 500):
        rows = [row(10 * (begin + n), 0.1 * n, opened=("a1", 1, begin + n)) for n in range(500)]
        side.put(agent.frame(*rows))
    side.run()
    side.put_clock(SHARD, seconds=10 * 86_400)
    today = 10 * 86_400
    side.put(agent.frame(*[row(today + 10 * n, 1.0 * n, opened=("a1", 1, 90_000 + n)) for n in range(50)]))
    side.run()
    return side


def _let_go(side: Side) -> None:
    """What a process does every 30 s, until nothing is left to do."""
    while side.runner.prune(_KEEP):
        pass
    side.runner.read_for_good()
    side.log.retain(side.clock.wall_us)


@pytest.mark.parametrize("step", sorted(steps.CLOUD_RETENTION))
def test_r28_killed_while_it_lets_go_it_keeps_what_is_kept(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step of retention and of the shrink: the next process ends it, with the windows, the offsets and the log of
    one that was not killed.
    """
    whole = _aged(tmp_path / "whole")
    _let_go(whole)
    wanted, offsets, ends = windows_of(whole), whole.store.load_offsets(), whole.log.ends(IN.name)
    assert wanted
    whole.drop()

    side = _aged(tmp_path / "side")
    assert len(windows_of(side)) > len(wanted)

    def reached(name: str) -> None:
        if name == step:
            copied(side.folder, tmp_path / "left")
            raise Killed(name)

    with monkeypatch.context() as patch:
        for module in (retention, runner, sqlite_log):
            patch.setattr(module, "reached", reached)
        with pytest.raises(Killed):
            _let_go(side)
    side.drop()
    side.folder = tmp_path / "left"
    side.open()
    side.run()
    _let_go(side)
    assert windows_of(side) == wanted
    assert side.store.load_offsets() == offsets
    assert side.log.ends(IN.name) == ends
    side.drop()
