"""A day of scaled time: devices come and go under new names, and memory, file and status stay as they must (pain 8)."""

from __future__ import annotations

import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater_shared import ledger as ledgers
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import Load

CHURN = ROOT / "tests" / "fault" / "churn.toml"
SCALE = 60
DAY_S = float(os.environ.get("HEADWATER_DAY_S", "1440"))
"""Seconds by the wall of the long run: 1,440 are a day at 60 times its pace."""
SHORT_S = float(os.environ.get("HEADWATER_SHORT_DAY_S", "20"))
QUOTA = 60_000_000
IDLE = "2h"
"""Silence after which a series is let go, once its readings have left the journal: after six hours more of less."""
_LOOK_S = 2.0
_FLAT = 16_000_000
"""Bytes that the agent may grow by from the second fifth of the day to the last."""


class Watch:
    """Looks at a box again and again while a fleet runs."""

    def __init__(self, here: Box, ledger: Path) -> None:
        self._here = here
        self._ledger = ledger
        self.resident: list[int] = []
        self.files: list[int] = []

    def look(self) -> None:
        """Hold what the agent says of itself against the ledger and the disk."""
        acknowledged = self._counts()[1]
        said = self._here.status()
        sent, _ = self._counts()
        assert said, "the agent says nothing of itself"
        # The ledger is read before and after: what is acknowledged was accepted, what was accepted is in the ledger.
        assert acknowledged <= said["accepted"] <= sent, (acknowledged, said["accepted"], sent)
        assert said["devices"] <= len(ledgers.Names.read(self._ledger).devices)
        assert (said["holding_back"], said["files_set_aside"], said["dead_letters"]) == ("", 0, 0), said
        files = sum(path.stat().st_size for path in self._here.data.glob("edge.db*"))
        assert files <= said["disk_taken"] + 2_000_000, (files, said)  # it looks once in a while
        assert said["disk_taken"] <= said["disk_quota"] == QUOTA
        self.files.append(files)
        self.resident.append(_resident(self._here.running[EDGE].pid))

    def _counts(self) -> tuple[int, int]:
        """Return the readings that were sent, and those that were acknowledged, as the ledger has it now."""
        if not self._ledger.exists():
            return 0, 0
        rows = ledgers.records(self._ledger)
        if not len(rows):
            return 0, 0
        readings = rows[rows["kind"] == ledgers.READING]
        messages = ledgers.Messages([rows], int(rows["device"].max()) + 1)
        sure = messages.with_kind(ledgers.ACKNOWLEDGED)[messages.index(readings)]
        return len(readings), int(np.count_nonzero(sure))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _day(folder: Path, seconds: float) -> tuple[Watch, dict[str, Any], str]:
    """Let so many seconds of the wall pass; return what was seen, what the agent says at the end, and the audit's last line."""
    clock = f"scaled:{SCALE}@{datetime.now(UTC).isoformat()}"
    with box(folder / "box", edge=f'[edge.disk]\nquota = "{QUOTA}B"\nfree = "1MB"\n') as here:
        text = here.settings.read_text()
        text = text.replace("[common]\n", '[common]\nclock = "scaled:60"\n')
        here.settings.write_text(text.replace("[edge]\n", f'[edge]\nseries_idle = "{IDLE}"\n'))
        for part in (EDGE, CLOUD):
            here.start(part, env={"HEADWATER_CLOCK": clock})
            here.ready(part)
        fleet = Load(
            here,
            seconds,
            "--scenario",
            str(CHURN),
            "--paced",
            "--clock",
            clock,
            "--origin",
            "now",
            "--no-misbehave",
        )
        try:
            watch, next_look = Watch(here, fleet.ledger), time.monotonic() + _LOOK_S
            while fleet.sending():
                until(lambda at=next_look: time.monotonic() > at or not fleet.sending(), 60)  # type: ignore[misc]
                watch.look()
                next_look += _LOOK_S
            fleet.finished()
        finally:
            fleet.process.kill()
            fleet.process.wait(10)
        said = here.closed()
        truth = ledgers.read(fleet.ledger)
        heard = {name.rpartition("/")[0] for name in truth.series}
        assert said["series"] + said["evicted"] - said["returned"] == len(truth.series)
        assert said["devices"] <= len(heard)
        said["heard"] = len(heard)
        assert said["accepted"] == len(truth.time) - said["by_meaning"] - said["by_transport"]
        audited = here.run("headwater", "audit", str(fleet.ledger)).splitlines()[-1]
    return watch, said, audited


def test_pain08_devices_come_and_go_for_a_while(tmp_path: Path) -> None:
    """Twenty minutes in twenty seconds: the status is true at each look, the file within its quota, the audit 0 and 0."""
    watch, said, audited = _day(tmp_path, SHORT_S)
    assert audited.endswith("lost 0, twice 0")
    assert said["heard"] >= 60
    assert len(watch.files) >= SHORT_S / _LOOK_S / 2


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Watch, dict[str, Any], str]:
    """24 hours in 24 minutes, some 2,900 devices, 40 at once."""
    return _day(tmp_path_factory.mktemp("day"), DAY_S)


@pytest.mark.fault
def test_pain08_a_day_of_devices_that_come_and_go(day: tuple[Watch, dict[str, Any], str]) -> None:
    """Through a whole day the status is true at each look, the file within its quota, the audit 0 and 0."""
    watch, said, audited = day
    assert audited.endswith("lost 0, twice 0")
    assert said["heard"] > 1.5 * DAY_S
    assert said["series"] < said["evicted"]
    assert max(watch.files) < QUOTA


@pytest.mark.fault
def test_pain08_through_a_day_of_devices_that_come_and_go_memory_is_flat(
    day: tuple[Watch, dict[str, Any], str],
) -> None:
    """From the second fifth of the day to the last the agent has grown by no more than noise."""
    watch, said, _ = day
    print(f"{said['heard']} devices; series {said['series']}, evicted {said['evicted']}")
    fifth = len(watch.resident) // 5
    each = [statistics.median(watch.resident[fifth * at : fifth * (at + 1)]) for at in range(5)]
    print(*(f"{median / 1e6:.1f} MB" for median in each))
    early, late = each[1], each[4]
    assert late - early < _FLAT, f"resident {early / 1e6:.1f} MB, then {late / 1e6:.1f} MB"
