"""kill -9 in the middle of a checkpoint, and with a WAL of several MB: SQLite's log is ours to rely on, so it is tried."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.fault.agent_for_cuts import CHECKPOINT
from tests.fault.ended import ended_well
from tests.fault.recorded import Recorded
from tests.support import until
from tests.system.box import CLOUD, EDGE, box
from tests.system.load import load

pytestmark = pytest.mark.fault

AGENT = "tests.fault.agent_for_cuts"
DELAYS_US = (500, 1000, 1500, 2000, 3000, 4000, 6000, 9000)


def _in_a_checkpoint(file: Path) -> bool:
    """Tell whether a writer died between the begin and the end of a checkpoint, by SQLite's WAL index (`WalCkptInfo`)."""
    header = file.with_name(file.name + "-shm").read_bytes()[:136]
    (done,), (attempted,) = struct.unpack_from("=I", header, 96), struct.unpack_from("=I", header, 128)
    return bool(attempted > done)


WANTED = 8
"""Kills inside a checkpoint, where a few of all kills fall."""


def test_r11_killed_inside_a_checkpoint_nothing_is_missing(tmp_path: Path, recorded: Recorded) -> None:
    """The agent dies between the first and the last page that a checkpoint writes, each time under load."""
    inside = kills = 0
    with box(tmp_path) as here:
        here.start(CLOUD)
        here.start(EDGE, module=AGENT)
        here.ready(EDGE)
        with load(here, 60.0 * WANTED) as fleet:
            here.kill(EDGE)
            while inside < WANTED:
                assert kills < 20 * WANTED, f"only {inside} of {kills} kills fell into a checkpoint"
                delay = DELAYS_US[kills % len(DELAYS_US)]
                here.start(EDGE, crash=f"commit.during:4+{delay}", module=AGENT, env={CHECKPOINT: "20"})
                here.killed(EDGE)
                kills += 1
                inside += _in_a_checkpoint(here.data / "edge.db")
            assert fleet.sending()
            here.start(EDGE)
            here.ready(EDGE)
            fleet.finished()
            ended_well(here, fleet, recorded, "kill -9", kills)


def test_r11_killed_with_a_wal_of_several_megabytes_nothing_is_missing(
    tmp_path: Path, recorded: Recorded
) -> None:
    """An agent that never checkpointed is killed: all that it had committed is read from the WAL by the next one."""
    with box(tmp_path) as here:
        here.start(CLOUD)
        here.start(EDGE, module=AGENT, env={CHECKPOINT: "0"})
        here.ready(EDGE)
        with load(here, 60.0) as fleet:
            wal = here.data / "edge.db-wal"
            until(lambda: wal.stat().st_size > 3_000_000, 60, "the WAL has 3 MB")
            assert fleet.sending()
            here.kill(EDGE)
            assert (here.data / "edge.db").stat().st_size < 200_000
            here.start(EDGE)
            here.ready(EDGE)
            fleet.finished()
            ended_well(here, fleet, recorded, "kill -9", 1)
