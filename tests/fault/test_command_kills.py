"""kill -9 at every point of a command's life: none is lost within its time to live, none executed twice (R14)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.fault import steps
from tests.fault.commanded import ACT, Account, Fleet, account, fleet, last_words, open_commands
from tests.support import until
from tests.system import kills
from tests.system.box import EDGE, SMALL_SNAPSHOTS, Box, box
from tests.system.replayed import assert_replays, keep_all_rows

FLEET = "fleet"
"""In place of a step: the fleet is killed, a while later."""


def _run(folder: Path, todo: Sequence[str], seconds: int) -> Account:
    """Run a box with commanded devices; in turn the agent dies at each step (or the fleet does), and is started again."""
    with box(folder, edge=ACT) as here:
        here.start(EDGE)
        here.ready(EDGE)
        here.end(EDGE)
        keep_all_rows(here.data / "edge.db")
        here.up(module=SMALL_SNAPSHOTS)
        with fleet(here, seconds) as devices:
            devices.goes_on(300)
            here.kill(EDGE)
            for step in todo:
                _die(here, devices, step)
            here.start(EDGE, module=SMALL_SNAPSHOTS)
            here.ready(EDGE)
            devices.finished()
            left = until(lambda: open_commands(here) in (0, -1), 20, last_words(here))
            assert left
        here.closed()
        here.end(EDGE)
        here.end("cloud")
        found = account(here.data / "cloud.db", devices.ledger)
        kills.audited(here, devices.ledger)
        assert not here.troubles()
        assert_replays(here.data / "edge.db", here.settings)
        return found


def _die(here: Box, devices: Fleet, step: str) -> None:
    """Start the agent, and let it (or the fleet) die."""
    named = step if step not in (FLEET, "") else ""
    here.start(EDGE, crash=named, module=SMALL_SNAPSHOTS)
    if named:
        here.killed(EDGE, 60)
        return
    here.ready(EDGE)
    if step == FLEET:
        devices.goes_on(150)
        devices.kill()
        devices.start()
    devices.goes_on(random.Random(step).randint(30, 250))
    here.kill(EDGE)


def test_r14_some_steps_of_a_commands_life_killed_at(tmp_path: Path) -> None:
    """A few of the steps, others each day, and the fleet once: each command has its end, each device obeyed once."""
    every = steps.of_today(steps.COMMANDS, 2)
    todo = [f"{step}:{count}" for step, count in every.items()]
    found = _run(tmp_path, [*todo, FLEET], 8)
    assert found.anomalies >= 20
    assert found.done > found.anomalies


@pytest.mark.fault
@pytest.mark.parametrize("turn", [1, 2])
def test_r14_a_kill_at_every_step_of_a_commands_life(tmp_path: Path, turn: int) -> None:
    """Each step of a command, of a tick, of a snapshot and of a start in turn, the fleet between them; then at other counts."""
    of_a_tick = [f"{step}:{max(1, count - 2 * (turn - 1))}" for step, count in steps.TICK.items()]
    of_commands = [f"{step}:{count * turn}" for step, count in steps.COMMANDS.items()]
    starts = [f"{step}:1" for step in steps.RESTART if step != "forward.started"]
    todo: list[str] = []
    for step, start in zip_longest([*of_commands, FLEET, *of_a_tick], starts):  # not two dead starts in a row
        todo += [step, start] if start else [step]
    found = _run(tmp_path, [*todo, FLEET, *of_commands], 90)
    assert found.done > found.anomalies > 100


@pytest.mark.fault
@pytest.mark.parametrize("seed", [1, 2])
def test_r14_fifty_kills_at_random(tmp_path: Path, seed: int) -> None:
    """At moments that nobody chose: 50 of the agent, and some of the fleet among them."""
    chance = random.Random(seed)
    todo = [chance.choice(("", "", "", FLEET)) for _ in range(50)]
    found = _run(tmp_path, todo, 110)
    assert found.done > found.anomalies > 200
