"""Anybody's table through a whole box, and the audit of it."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

from tests.support import ROOT
from tests.system.box import box, command
from tests.system.kills import AUDITED


def test_a_table_that_is_replayed_is_audited(tmp_path: Path) -> None:
    """Three devices, years ago, sent as fast as they are acknowledged, by devices that misbehave: the audit is 0 and 0."""
    path = tmp_path / "old.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["date", "station", "pm10", "pm25"])
        rows.writerows(
            [f"2014-03-{1 + n // 24:02d} {n % 24:02d}:00:00", f"s{d}", n * 0.25, "" if n % 7 else n + d]
            for n in range(600)
            for d in range(3)
        )
    ledger = tmp_path / "ledger"
    with box(tmp_path / "box") as here:
        here.up()
        done = subprocess.run(
            [command("headwater-sim"), "replay", str(path), "--speed", "0", "--misbehave", "--port", str(here.port), "--ledger", str(ledger)],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "device   station" in done.stdout
        here.closed()
        said = here.run("headwater", "audit", str(ledger)).splitlines()[-1]
    found = AUDITED.fullmatch(said)
    assert found, said
    acknowledged, counted, dead = map(int, found.groups())
    assert acknowledged == counted + dead > 2_000
