"""A damaged file under a real agent, a real fleet and its ledger: one clear line, lost 0, twice 0 where all of it can be read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.system import kills
from tests.system.box import CLOUD, EDGE, box
from tests.system.load import load


def test_r15_a_file_without_its_head_under_load(tmp_path: Path) -> None:
    """Killed, beheaded, started: the ledger's audit finds every reading, in windows or dead letters, each once."""
    with box(tmp_path) as here:
        here.up()
        with load(here, 15) as fleet:
            fleet.goes_on(3_000)
            here.kill(EDGE)
            file = here.data / "edge.db"
            with closing(sqlite3.connect(file)) as connection:  # all of it in the one file
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            with file.open("r+b") as opened:
                opened.write(b"\xff" * 100)
            here.start(EDGE)
            here.ready(EDGE)
            fleet.finished()
        status = here.closed()
        assert status["files_set_aside"] == 1
        assert status["lost_ticks"] == status["lost_outbox_rows"] == status["salvaged"] == 0
        here.end(EDGE)
        here.end(CLOUD)
        acknowledged, counted, dead = kills.audited(here, fleet.ledger)
        assert counted + dead >= acknowledged > 0
        said = here.log(EDGE).read_text()
        assert "Traceback" not in said
        assert said.count('"event":"the damaged file was set aside') == 1
        assert (here.data / "edge.db.damaged-1").exists()
