"""Power cuts of a box under load: `python -m tests.fault.cutting FOLDER ORDER`, as root, in namespaces of its own.

Agent and cloud side run on a file system of their own; a cut is a copy of its disk. The ledger of the fleet lies elsewhere: the
fleet is frozen before the copy begins, so what it has as acknowledged then was acknowledged before the power went. Each
copy is then mounted as after the power came back, agent and cloud side go on with it, the devices send again what they
hold, and the audit judges. Prints a JSON object a cut.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from headwater_shared import crash
from headwater_shared.ledger import lines_path
from tests.fault.agent_for_cuts import SYNC
from tests.fault.disks import Disk, mounted
from tests.fault.recorded import Audited, audited
from tests.fault.small_disks import NO_FLOOR
from tests.support import until
from tests.system.box import CLOUD, EDGE, Box
from tests.system.kills import audit_of
from tests.system.load import Load, resent

AGENT, CLOUD_SIDE = "tests.fault.agent_for_cuts", "tests.fault.cloud_for_cuts"


class Order(msgspec.Struct, frozen=True):
    """What is to be cut."""

    steps: list[str]
    """A cut each, in this order: at a step as `HEADWATER_STOP` names it, or anywhere (empty)."""
    sync: bool = True
    seed: int = 1
    options: list[str] = []
    """More words for `headwater-sim run`."""
    apart: int = 3_000
    """Records of the ledger between two cuts: at least so many, at most three times."""


class Cut(msgspec.Struct, frozen=True):
    """One cut, and what was found after it."""

    step: str
    unacknowledged: int
    """Messages that the devices held when the power went."""
    audited: Audited | None
    trouble: str = ""
    """Why there was no audit."""


class _Taken(msgspec.Struct, frozen=True):
    step: str
    image: Path
    ledger: Path
    unacknowledged: int


def main(folder: Path, order: Order) -> None:
    """Cut as ordered, then audit each copy."""
    disk = Disk(folder)
    taken = _run(folder / "run", disk, order)
    for number, cut in enumerate(taken):
        found = _after(folder / f"cut-{number}", folder / "after", cut, order)
        print(msgspec.json.encode(found).decode(), flush=True)


def _run(folder: Path, disk: Disk, order: Order) -> list[_Taken]:
    """Run a box under load on the disk, and cut the power again and again: to the box nothing happens."""
    here = _box(folder, disk.mounted)
    stop = folder / "stop"
    chance = random.Random(order.seed)
    try:
        stops = {crash.STOP: str(stop)}
        here.start(EDGE, module=AGENT, env=stops if order.sync else {**stops, SYNC: "OFF"})
        here.start(CLOUD, module=CLOUD_SIDE, env=stops)
        here.ready(EDGE)
        here.ready(CLOUD)
        fleet = Load(here, 3_600, *order.options)
        try:
            return [
                _cut(here, disk, fleet, stop, number, step, chance.randint(order.apart, 3 * order.apart))
                for number, step in enumerate(order.steps)
            ]
        finally:
            fleet.process.kill()
            fleet.process.wait(10)
    finally:
        here.close()


def _cut(here: Box, disk: Disk, fleet: Load, stop: Path, number: int, step: str, records: int) -> _Taken:
    fleet.goes_on(records)
    halted = None
    if step:
        half = stop.with_suffix(".new")
        half.write_text(step)
        half.replace(stop)
        both = here.running.values()
        halted = until(lambda: next(filter(_stopped, both), None), 30, f"the step {step}")
    fleet.process.send_signal(signal.SIGSTOP)
    until(lambda: _stopped(fleet.process), what="the fleet is frozen")
    ledger = here.folder / f"ledger-{number}"
    shutil.copyfile(fleet.ledger, ledger)
    shutil.copyfile(lines_path(fleet.ledger), lines_path(ledger))
    image = disk.cut(f"cut-{number}")
    fleet.process.send_signal(signal.SIGCONT)
    if halted is not None:
        halted.send_signal(signal.SIGCONT)
    return _Taken(step, image, ledger, fleet.unacknowledged(ledger))


def _stopped(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "it has ended"
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


def _after(folder: Path, at: Path, cut: _Taken, order: Order) -> Cut:
    """Let the power come back: go on with the copy up to the audit."""
    with mounted(cut.image, at):
        here = _box(folder, at)
        try:
            here.up()
            resent(here, cut.ledger, *order.options)
            here.closed()
            here.end(EDGE)
            here.end(CLOUD)
            found = audited(audit_of(here, cut.ledger))
            if not found.good:
                shutil.copytree(at / "data", folder / "found", ignore=shutil.ignore_patterns("*.sock"))
            return Cut(cut.step, cut.unacknowledged, found, "; ".join(map(str, here.troubles()[:3])))
        except AssertionError as error:
            return Cut(cut.step, cut.unacknowledged, None, str(error)[-1000:])
        finally:
            here.close()


def _box(folder: Path, disk: Path) -> Box:
    """Make a box whose data folder lies on a disk."""
    here = Box(folder, edge=NO_FLOOR + '[edge.windows]\nhorizon = "3s"')
    (disk / "data").mkdir(exist_ok=True)
    here.data.symlink_to(disk / "data")
    return here


if __name__ == "__main__":
    os.environ.pop(crash.VARIABLE, None)
    main(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Order))
