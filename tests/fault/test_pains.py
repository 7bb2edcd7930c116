"""What hurts the users of systems like this (PAINS.md): the line is cut, the settings change, a start sends everything again."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from headwater_shared.sqlite_log_packing import unpacked_headers
from tests.fault.agent_for_cuts import BATCH
from tests.fault.ended import ended_well
from tests.fault.recorded import Recorded
from tests.fault.relay import relay
from tests.support import until
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.kills import audit_of
from tests.system.load import SCENARIO, load

AGENT = "tests.fault.agent_for_cuts"

Rows = dict[tuple[bytes, int, int], bytes]
"""Of an outbox: by epoch, shard and seq, the hash."""


def _outbox(here: Box) -> Rows:
    with closing(sqlite3.connect(f"file:{here.data / 'edge.db'}?mode=ro", uri=True)) as reader:
        return {row[:3]: row[3] for row in reader.execute("SELECT epoch, shard, seq, hash FROM outbox")}


def _copies_on_the_bus(here: Box) -> int:
    """Frames and anomalies that lie on the log more than once, so often."""
    # Not read-only: an agent that was killed in a write leaves a journal that whoever reads next must roll back.
    with closing(sqlite3.connect(here.data / "log.db", timeout=10)) as reader:
        rows = reader.execute("SELECT headers FROM record WHERE topic = 'hw-in' AND key = 'box'")
        sent = [unpacked_headers(row[0])["ce_id"] for row in rows]
    return len(sent) - len(set(sent))


@pytest.mark.parametrize("cuts", [6, pytest.param(60, marks=pytest.mark.fault)])
def test_pain01_the_line_is_cut_in_the_middle_of_a_burst(
    tmp_path: Path, cuts: int, recorded: Recorded
) -> None:
    """Every connection ends in the middle of a packet, again and again, under load: nothing that was acknowledged is missing."""
    with box(tmp_path) as here, relay(here.port) as line:
        here.up()
        with load(here, 8.0 * cuts, "--port", str(line.port)) as fleet:
            for _ in range(cuts):
                fleet.goes_on(2_500)
                assert fleet.sending()
                line.cut()
            done = fleet.finished()
            status = here.closed()
        here.end(EDGE)
        here.end(CLOUD)
        assert done["unacknowledged"] == 0
        assert line.connections > 200 * cuts / 4  # of 200 devices, some are still on their way back at a cut
        assert status["by_transport"] > 0
        found = recorded("line cut", cuts, audit_of(here, fleet.ledger))
        assert found.good, found


def test_pain02_new_settings_take_nothing_from_the_outbox(tmp_path: Path, recorded: Recorded) -> None:
    """Rows wait for the cloud side; the agent starts with other settings, twice: every row is still there, byte for byte, and
    in the end everything is counted.
    """
    with box(tmp_path) as here:
        here.start(EDGE)
        here.ready(EDGE)
        pending: Rows = {}
        text = here.settings.read_text()
        others = (
            text.replace("above = 80.0\nclear = 78.0", "above = 77.0\nclear = 75.0").replace(
                "[edge]\n", '[edge]\ntick = "100ms"\nmax_series = 5000\n'
            ),
            text.replace("[[edge.limit]]", '[edge.windows]\nhorizon = "1h"\n[[edge.limit]]').replace('name = "too-hot"', 'name = "other"'),
        )  # fmt: skip
        with load(here, 60.0) as fleet:
            for other in others:
                before = len(pending)
                until(lambda more=before + 4: len(_outbox(here)) > more, 30, "rows wait")  # type: ignore[misc]
                pending = _outbox(here)
                here.end(EDGE)
                here.settings.write_text(other)
                here.start(EDGE)
                here.ready(EDGE)
                now = _outbox(here)
                assert pending.items() <= now.items()
            fleet.finished()
        here.start(CLOUD)
        here.ready(CLOUD)
        ended_well(here, fleet, recorded, "new settings", len(others))


@contextmanager
def _bus_away(here: Box) -> Iterator[None]:
    """Nobody can append to the log."""
    with closing(sqlite3.connect(here.data / "log.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


WHILE_DRAINING = (
    "forward.after:3", "forward.before:4", "commit.during:2", "log.during:5", "forward.marked:2", "log.before:4",
    "forward.after:9", "commit.before:2", "log.after:6", "commit.after:2",
)  # fmt: skip


def many_sites(folder: Path) -> Path:
    """The scenario of the kills on 40 sites: a frame each, so that much waits."""
    sites = ", ".join(f'"site-{n}"' for n in range(40))
    scenario = folder / "sites.toml"
    scenario.write_text(
        SCENARIO.read_text().replace('sites = ["north", "east", "south", "west"]', f"sites = [{sites}]")
    )
    return scenario


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.fault)])
def test_pain06_killed_while_it_drains_it_sends_nothing_twice_that_counts(
    tmp_path: Path, kills: int, recorded: Recorded
) -> None:
    """A backlog waits for the bus; it drains a few rows at a time, and the agent dies again and again: the drain ends, the bus
    may hold rows twice, the cloud side counts none twice.
    """
    with box(tmp_path) as here:
        here.up(module=AGENT)
        with _bus_away(here), load(here, 20.0 + kills, "--scenario", str(many_sites(tmp_path))) as fleet:
            fleet.finished()
            here.kill(EDGE)
            waiting = len(_outbox(here))
        for step in itertools.islice(itertools.cycle(WHILE_DRAINING), kills):
            assert _outbox(here), f"nothing is left of {waiting} rows to drain"
            here.start(EDGE, crash=step, module=AGENT, env={BATCH: "2"})
            here.killed(EDGE)
        assert _copies_on_the_bus(here) > kills
        here.start(EDGE)
        here.ready(EDGE)
        ended_well(here, fleet, recorded, "kill -9", kills)
