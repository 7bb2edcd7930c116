"""Settings that are read again under load: nothing is lost or counted twice, also if the agent dies in the middle of it."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path
from typing import Any

import pytest

from headwater_shared.reload import read_running
from tests.support import until
from tests.system import kills
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import load
from tests.system.replayed import assert_replays, keep_all_rows

MOVING = itertools.cycle(
    (
        '[edge.windows]\nlateness = "4s"\n',
        '[edge.windows]\nheld = "120s"\n[[edge.limit]]\nname = "wet"\nseries = "*/flow"\nabove = 130.0\n',
        '[[edge.window]]\nseries = "nowhere/*"\nkind = "hopping"\nlength = "1m"\nhop = "20s"\n',
        "",
    )
)
"""Other windows each time, but for the levels that the audit wants of all."""
STEPS = ("reload.read", "reload.before", "reload.after")


class Reloads:
    """Writes other settings to a box that runs, and has them taken up."""

    def __init__(self, here: Box) -> None:
        self._here = here
        self._first = here.settings.read_text()

    def ask(self, part: str = EDGE) -> None:
        self._here.settings.write_text(self._first + next(MOVING))
        self._here.running[part].send_signal(signal.SIGHUP)

    def last(self, part: str = EDGE) -> dict[str, Any]:
        found = read_running(self._here.data, part)
        return found.reload if found is not None else {}

    def done(self) -> None:
        """Have the agent take up others, and wait until the journal has them."""
        before = self.last().get("tick", 0)
        self.ask()
        until(lambda: self.last().get("tick", 0) > before, 20, "the reload is in the journal")


def test_r12_twenty_reloads_under_load_lose_nothing(tmp_path: Path) -> None:
    """Windows move twenty times while 200 devices send as fast as they are acknowledged; the cloud side reads its settings again
    as well. The audit finds all of it once, at each level; and the journal runs again to the same rows.
    """
    with box(tmp_path) as here:
        here.start(EDGE)
        here.ready(EDGE)
        here.end(EDGE)
        keep_all_rows(here.data / "edge.db")
        here.up()
        reloads = Reloads(here)
        with load(here, 180) as fleet:
            fleet.goes_on(500)
            for n in range(20):
                if n % 5 == 0:
                    reloads.ask(CLOUD)
                reloads.done()
            assert fleet.sending()
            fleet.finished()
            here.closed()
        assert reloads.last(CLOUD)["ok"] is True
        kills.audited(here, fleet.ledger)
        here.end(EDGE)
        here.end(CLOUD)
        assert not here.troubles()
        assert_replays(here.data / "edge.db", here.settings)


@pytest.mark.fault
def test_r12_killed_in_the_middle_of_a_reload(tmp_path: Path) -> None:
    """The agent dies at each step of a reload, under load: the next one starts with the new settings, and nothing is missing."""
    with box(tmp_path) as here:
        here.up()
        reloads = Reloads(here)
        with load(here, 60) as fleet:
            for step in STEPS:
                here.end(EDGE)
                here.start(EDGE, crash=f"{step}:2")
                here.ready(EDGE)
                fleet.goes_on(500)
                reloads.done()
                fleet.goes_on(500)
                reloads.ask()
                here.killed(EDGE)
                assert fleet.sending()
                here.start(EDGE)
                here.ready(EDGE)
            fleet.finished()
            here.closed()
        kills.audited(here, fleet.ledger)
        assert not here.troubles()
