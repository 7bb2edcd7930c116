"""The power is cut, again and again, under load: what was acknowledged before is counted after, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.fault.cutting import Cut, Order
from tests.fault.disks import disks_required, in_namespace
from tests.fault.recorded import Recorded
from tests.support import ROOT
from tests.system.load import FEW_IN_FLIGHT

ANYWHERE = ""
SNAPSHOT = (
    "snapshot.taken", "snapshot.piece:3", "snapshot.piece:9", "snapshot.head", "snapshot.check", "snapshot.checked",
    "snapshot.gone", "snapshot.counts", "snapshot.piece:14",
)  # fmt: skip
COMPACTION = (
    "compact.before",
    "compact.between",
    "compact.rows",
    "compact.after",
    "compact.between:2",
    "outbox.gone",
)
CHECKPOINT = ("commit.during:3", "commit.during:4+1000", "commit.during:5+2000", "commit.during:6+4000", "commit.during:2+8000", "commit.during:7+500")  # fmt: skip
"""Every fifth commit or so checkpoints here, which is most of the time that it takes."""
SHRINK = ("log.retained", "log.shrink", "log.shrink:2", "log.retained:2")
OF_A_TICK = (
    "tick.gathered", "tick.stepped", "commit.begun", "commit.rows", "commit.before", "commit.after",
    "acknowledge.before", "acknowledge.between", "acknowledge.after",
)  # fmt: skip
OF_THE_WAY_ON = (
    "forward.before", "forward.after", "log.during", "cloud.commit.begun", "cloud.commit.before", "cloud.commit.during",
    "cloud.commit.after", "cloud.publish.before", "cloud.publish.after", "cloud.notify.written",
)  # fmt: skip
ALL = (*SNAPSHOT, *COMPACTION, *CHECKPOINT, *SHRINK, *OF_A_TICK, *OF_THE_WAY_ON, *(ANYWHERE,) * 6)
RUNS = 10


def _cuts(folder: Path, order: Order) -> list[Cut]:
    disks_required()
    command = [sys.executable, "-m", "tests.fault.cutting", str(folder), msgspec.json.encode(order).decode()]
    try:
        said = in_namespace(command, timeout=60 + 20 * len(order.steps), cwd=ROOT)
    except subprocess.CalledProcessError as error:
        raise AssertionError(error.stderr[-4000:]) from None
    return [msgspec.json.decode(line, type=Cut) for line in said.splitlines()]


def _assert_good(cuts: list[Cut], recorded: Recorded) -> None:
    for cut in cuts:
        assert cut.audited is not None, cut
        recorded("power cut", 1, cut.audited)
        assert cut.audited.good, cut
        assert not cut.trouble, cut
        assert cut.audited.acknowledged > 1_000


def test_r05_what_was_acknowledged_when_the_power_went_is_counted(tmp_path: Path, recorded: Recorded) -> None:
    """Three cuts of one run: in a snapshot, in a commit, in the compaction. Lost 0, twice 0."""
    order = Order(["snapshot.piece:3", "commit.during:3+2000", "compact.between"], options=[*FEW_IN_FLIGHT])
    cuts = _cuts(tmp_path, order)
    assert [cut.step for cut in cuts] == order.steps
    _assert_good(cuts, recorded)
    assert all(cut.unacknowledged for cut in cuts), "a cut without load proves nothing"


def test_r05_an_agent_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    """The negative control: with `synchronous=OFF` the same cuts lose what was acknowledged, or what is known of it, and the same audit says so."""
    found = [cut.audited for cut in _cuts(tmp_path, Order([ANYWHERE] * 2, sync=False, apart=8_000))]
    assert any(one is not None and not one.good for one in found), found


@pytest.mark.fault
@pytest.mark.parametrize("number", range(RUNS))
def test_r05_fifty_power_cuts(tmp_path: Path, number: int, recorded: Recorded) -> None:
    """Fifty cuts, five a run: more than half in snapshots, compaction, checkpoints and the shrink of a file."""
    options = (["--mqtt", "5"], [], ["--qos", "2"], ["--mqtt", "5", "--qos", "2"], [])[number % 5]
    order = Order(list(ALL[number::RUNS]), seed=number + 1, options=[*FEW_IN_FLIGHT, *options])
    assert len(ALL) == 50
    assert 2 * len((*SNAPSHOT, *COMPACTION, *CHECKPOINT, *SHRINK)) >= len(ALL)
    assert len(order.steps) == 5
    cuts = _cuts(tmp_path, order)
    assert len(cuts) == len(order.steps)
    _assert_good(cuts, recorded)
