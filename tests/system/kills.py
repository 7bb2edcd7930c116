"""Kills under load: which process dies when, and the run around it, from the first start to the audit."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import until
from tests.system.box import CLOUD, EDGE, SMALL_SNAPSHOTS, Box, box, command
from tests.system.load import Load, load
from tests.system.replayed import keep_all_rows
from tests.system.result import Result, read

AUDITED = re.compile(r"audit: acknowledged (\d+), counted (\d+), dead (\d+), lost 0, twice 0")


class Kill(NamedTuple):
    """The end of one process: at a step of its own (see `headwater_shared.crash`), or else by SIGKILL from outside."""

    part: str
    step: str = ""
    records: int = 4_000
    """From outside: so many records the ledger grows by before."""
    unacknowledged: int = 0
    """More messages than that the devices must keep at that moment: acknowledgements come a tick at a time, so a live
    agent is caught with few now and then; it is frozen, and killed as soon as they are enough."""


@dataclass
class Told:
    """What a run with kills came to."""

    unacknowledged: list[int] = field(default_factory=list)
    """After each kill of the agent: messages that the devices kept."""
    sending: int = 0
    """At how many kills the fleet was still at it."""
    status: dict[str, Any] = field(default_factory=dict)
    """The agent's, at the end."""
    fleet: dict[str, Any] = field(default_factory=dict)


class Run(NamedTuple):
    """A run that is over."""

    box: Box
    ledger: Path
    told: Told
    result: Result


def whole_run(folder: Path, kills: Sequence[Kill], seconds: float, *options: str, edge: str = "") -> Run:
    """Run a box under the load of a fleet that sends `seconds` of event time, with kills, up to its end.

    `options` are the fleet's, `edge` more settings of the agent.
    """
    with box(folder, edge=edge) as here:
        prepare(here, kills)
        with load(here, seconds, *options) as fleet:
            told = run(here, fleet, kills)
            return Run(here, fleet.ledger, told, read(here.data / "cloud.db"))


def run(here: Box, fleet: Load, kills: Sequence[Kill]) -> Told:
    """Let the kills of each part happen in turn, start what died each time; then see the run to its end, and end all."""
    told = Told()
    left = {part: [kill for kill in kills if kill.part == part] for part in (EDGE, CLOUD)}
    begun = dict.fromkeys(left, 0)
    while any(left.values()):
        part = until(lambda: _next(here, fleet, left, begun), 60, f"the next of {left} happens")
        kill = left[part].pop(0)
        _let_die(here, fleet, kill)
        told.sending += fleet.sending()
        if part == EDGE:
            told.unacknowledged.append(fleet.cut_off())
            assert told.unacknowledged[-1] > kill.unacknowledged, kill
        start(here, part, left[part])
        if not (left[part] and left[part][0].step):  # else it may die before it is ready
            here.ready(part)
        begun[part] = fleet.written()
    told.fleet = fleet.finished(600)  # a busy machine takes its time
    told.status = here.closed()
    here.end(EDGE)
    here.end(CLOUD)
    return told


def _next(here: Box, fleet: Load, left: Mapping[str, Sequence[Kill]], begun: Mapping[str, int]) -> str:
    """Name the part whose next kill is due: it died at its step, or the fleet has written enough since its start."""
    for part, kills in left.items():
        if not kills:
            continue
        if kills[0].step:
            if here.running[part].poll() is not None:
                return part
        elif fleet.written() >= begun[part] + kills[0].records and (
            fleet.unacknowledged() > kills[0].unacknowledged
        ):
            return part
    return ""


def _let_die(here: Box, fleet: Load, kill: Kill) -> None:
    if kill.step:
        here.killed(kill.part)
        return
    if kill.unacknowledged:
        here.freeze(kill.part)
        until(lambda: fleet.unacknowledged() > kill.unacknowledged, what="the devices keep enough")
    here.kill(kill.part)


def start(here: Box, part: str, kills: Sequence[Kill]) -> None:
    """Start a part, which will die at the step that the first of its kills names."""
    step = kills[0].step if kills else ""
    here.start(part, crash=step, module=SMALL_SNAPSHOTS if part == EDGE else "")


def prepare(here: Box, kills: Sequence[Kill]) -> None:
    """Make the agent's file, have it keep all rows, and start both."""
    here.start(EDGE)
    here.ready(EDGE)
    here.end(EDGE)
    keep_all_rows(here.data / "edge.db")
    for part in (EDGE, CLOUD):
        start(here, part, [kill for kill in kills if kill.part == part])
        here.ready(part)


def audit_of(here: Box, ledger: Path) -> str:
    """Audit a run, whatever it finds; return what it printed."""
    done = subprocess.run(
        [command("headwater"), "audit", str(ledger), "--settings", str(here.settings)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout


def audited(here: Box, ledger: Path) -> tuple[int, int, int]:
    """Audit a run; return what its last line says: acknowledged, counted, dead."""
    last = here.run("headwater", "audit", str(ledger)).splitlines()[-1]
    found = AUDITED.fullmatch(last)
    assert found, last
    acknowledged, counted, dead = map(int, found.groups())
    return acknowledged, counted, dead
