"""A box whose devices are commanded: each runs hot again and again, is told to cool, and to stop cooling when it has.

What must hold afterwards, whatever died in between: every anomaly led to its command, each command has a known end that is
not expiry (none was lost within its time to live), and no device executed one twice.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from headwater_shared import ledger as ledgers
from headwater_shared.identity import stable_id
from tests.support import ROOT, until
from tests.system.box import Box

ACT = """
[[edge.act]]
name = "cool"
rule = "too-hot"
command = { name = "cool", at = "{value}" }
undo = "rest"
ttl = "30m"
retry = "200ms"
"""

_SCENARIO = """[scenario]
about = "machines that run hot again and again"
name = "machine"
devices = {devices}
sites = ["north", "south"]
period = "250ms"
jitter = 0.02
formats = {{ multi = 1, single = 1 }}
[scenario.misbehaviour]
lost_connections = 0.004
copies = 0.002
[scenario.metrics.temperature]
base = 60.0
signals = [{{ kind = "noise", deviation = 0.2, memory = 0.8 }}]
[scenario.metrics.flow]
base = 10.0
[scenario.commands.cool]
towards = {{ flow = 99.0 }}
within = "1s"
[scenario.commands.rest]
ends = "cool"
"""
_FAULT = """[[scenario.faults]]
kind = "level-shift"
device = "machine-{device:03d}"
metric = "temperature"
begin = "{begin}ms"
end = "{end}ms"
size = 40.0
"""
_EVERY_MS, _HOT_MS, _CALM_S = 4_000, 2_000, 6


class Fleet:
    """Devices that send as time goes by; it may be killed, and goes on with its ledger."""

    def __init__(self, box: Box, seconds: int, devices: int) -> None:
        """Make the scenario: hot until `seconds`, then calm, so that every command can be answered."""
        self.ledger = box.folder / "ledger"
        self._box = box
        self._scenario = box.folder / "commanded.toml"
        faults = [
            _FAULT.format(device=device, begin=begin, end=begin + _HOT_MS)
            for device in range(1, devices + 1)
            for begin in range(1_000 + 150 * device, 1_000 * seconds, _EVERY_MS)
        ]
        self._scenario.write_text(_SCENARIO.format(devices=devices) + "".join(faults))
        self._origin = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._seconds = seconds + _CALM_S
        self.start()

    def start(self) -> None:
        with (self._box.folder / "fleet.out").open("ab") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "headwater_firmware_sim", "run", "--scenario", str(self._scenario), "--json",
                    "--port", str(self._box.port), "--ledger", str(self.ledger), "--origin", self._origin,
                    "--duration", str(self._seconds), "--drain", "60",
                ],
                cwd=ROOT, stdout=out, stderr=out,
            )  # fmt: skip

    def kill(self) -> None:
        """End it as a power cut would: all its devices lose what is not in their flash."""
        self.process.kill()
        self.process.wait(10)

    def goes_on(self, records: int) -> None:
        """Wait until so many more records were written."""
        before = self._written()
        until(lambda: self._written() >= before + records, 60, f"the fleet writes {records} records")

    def finished(self) -> None:
        """Wait until all is sent and acknowledged, and the calm is over."""
        code = self.process.wait(240)
        assert code == 0, (self._box.folder / "fleet.out").read_text().splitlines()[-3:]

    def _written(self) -> int:
        return self.ledger.stat().st_size // ledgers.RECORD.itemsize if self.ledger.exists() else 0


@contextmanager
def fleet(box: Box, seconds: int, devices: int = 12) -> Iterator[Fleet]:
    """Run a fleet; it is ended with the block."""
    made = Fleet(box, seconds, devices)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.kill()


class Account(NamedTuple):
    """What became of the commands of a run."""

    anomalies: int
    executed: int
    done: int
    withdrawn: int


def account(cloud: Path, ledger: Path) -> Account:
    """Hold what the cloud side knows of anomalies and commands against what the devices executed."""
    with closing(sqlite3.connect(cloud)) as connection:
        begun = dict(connection.execute("SELECT id, series FROM anomaly WHERE phase = 'begin'").fetchall())
        over = {one for (one,) in connection.execute("SELECT id FROM anomaly WHERE phase = 'end'")}
        said: dict[str, list[str]] = {}
        for command, status in connection.execute("SELECT id, status FROM command ORDER BY time_us, seq"):
            said.setdefault(command, []).append(status)
    executed = Counter(one.id for one in ledgers.Names.read(ledger).executed)
    twice = {command: times for command, times in executed.items() if times > 1}
    assert not twice, f"executed twice: {twice}"
    assert executed.keys() <= said.keys(), "a device executed what nobody knows of"
    firsts = {stable_id("command", "cool", one) for one in begun}
    undos = {stable_id("undo", "cool", one) for one in over}
    assert firsts <= said.keys(), f"no command for {len(firsts - said.keys())} anomalies"
    assert said.keys() <= firsts | undos
    withdrawn = 0
    for command, statuses in said.items():
        ends = sorted(set(statuses) - {"open"})
        assert len(statuses) == len(set(statuses)), f"{command} was said twice: {statuses}"
        assert "expired" not in ends, f"{command} was lost: {statuses}"
        assert ends, f"{command} has no end"
        if "done" in ends:
            assert executed[command] == 1, f"{command} is done, and no device did it"
        else:
            assert command in undos, f"{command} is {ends}, and undoes nothing"
            withdrawn += 1  # the anomaly was back before it was answered
    return Account(len(begun), sum(executed.values()), sum("done" in s for s in said.values()), withdrawn)


def open_commands(box: Box) -> int:
    """Return how many commands the agent has let out that have not ended."""
    return int(box.status().get("commands", {}).get("open", -1))


def last_words(box: Box) -> str:
    """What the fleet said last, for people."""
    return json.dumps((box.folder / "fleet.out").read_text().splitlines()[-1:])
