"""The load: a real fleet as a process of its own, which sends a fixed plan as fast as it is acknowledged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headwater_shared import ledger as ledgers
from tests.support import ROOT, until
from tests.system.box import Box

SCENARIO = ROOT / "tests" / "system" / "kills.toml"
ORIGIN = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT00:00:00+00:00")
"""Yesterday: windows of 10 s are kept for seven days."""
IN_FLIGHT = 64
FEW_IN_FLIGHT = ("--in-flight", "12")
"""For a long run, which has many reboots: of what a device held then, no more is uncertain than the audit can search."""
DEVICES = 200
_NOTHING_MORE = 0.001
"""Seconds of event time that every device has behind it."""


class Load:
    """A fleet that runs, and its ledger."""

    def __init__(self, box: Box, seconds: float, *options: str, ledger: Path | None = None) -> None:
        """Start it; `seconds` of event time are sent. `options` are more words for `headwater-sim run`."""
        self.ledger = ledger or box.folder / "ledger"
        self._box = box
        self._out = box.folder / "fleet.out"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "headwater_firmware_sim", "run", "--scenario", str(SCENARIO), "--json",
                    "--port", str(box.port), "--ledger", str(self.ledger), "--origin", ORIGIN,
                    "--duration", str(seconds), "--no-paced", "--in-flight", str(IN_FLIGHT), "--drain", "60", *options,
                ],
                cwd=ROOT, stdout=out, stderr=out,
            )  # fmt: skip

    def sending(self) -> bool:
        return self.process.poll() is None

    def written(self) -> int:
        """Return how many records the ledger has: they become more with each reading and each acknowledgement."""
        return self.ledger.stat().st_size // ledgers.RECORD.itemsize if self.ledger.exists() else 0

    def goes_on(self, records: int, deadline: float = 30.0) -> None:
        """Wait until so many more records were written."""
        before = self.written()
        until(lambda: self.written() >= before + records, deadline, f"the fleet writes {records} records")

    def unacknowledged(self, ledger: Path | None = None) -> int:
        """Return how many messages the devices keep, as the ledger has it, or a copy of it."""
        rows = ledgers.records(ledger or self.ledger)
        messages = ledgers.Messages([rows], DEVICES)
        sent, closed = messages.with_kind(*ledgers.SENT), messages.with_kind(*ledgers.CLOSED)
        return int((sent & ~closed).sum())

    def cut_off(self) -> int:
        """Return how many messages the devices keep once all of them have seen that the agent is dead."""
        until(lambda: not self._box.connections(), what="the devices have seen that the agent is dead")
        return self.unacknowledged()

    def finished(self, deadline: float = 120.0) -> dict[str, Any]:
        """Wait until all is acknowledged; return the fleet's last word."""
        code = self.process.wait(deadline)
        lines = self._out.read_text().splitlines()
        assert code == 0, lines[-5:]
        done: dict[str, Any] = json.loads(lines[-1])["done"]
        return done


@contextmanager
def load(box: Box, seconds: float, *options: str) -> Iterator[Load]:
    """Run a fleet against a box; it is ended with the block."""
    made = Load(box, seconds, *options)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait(10)


def resent(box: Box, ledger: Path, *options: str) -> dict[str, Any]:
    """Let the devices of a ledger send what they hold, and nothing more, until it is acknowledged."""
    fleet = Load(box, _NOTHING_MORE, *options, ledger=ledger)
    try:
        return fleet.finished()
    finally:
        fleet.process.kill()
        fleet.process.wait(10)
