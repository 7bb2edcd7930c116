"""The demos of the scenarios, whole: the audit is 0 and 0, and what was found is told against the truth."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.box import command
from tests.system.kills import AUDITED

WRONG = {"cold-chain": 9, "city": 40, "pumps": 6}
FALSE = {"cold-chain": 2, "city": 2, "pumps": 12}
"""At most. Detectors that learn of pumps for a day only are wrong now and then."""
SAID = {
    "cold-chain": (
        r"  PATTERN load-lost +hamburg/truck-003 +-2\.00 h .*",
        r"  PATTERN compressor-fails +hamburg/truck-011 .*",
    ),
    "city": (
        r"  found +drift +centre/sensor-077/pm25 .* by unlike-its-peers after .*",
        r"  PATTERN smoke +harbour .*",
        r"        DONE .*  hills/sensor-11[147]  light-on  it answers: done",
        r"        DONE .*  hills/sensor-11[147]  light-off  it answers: done",
    ),
    "pumps": (
        r"        ALERT .*  critical  west/pump-012  bearing-fails: vibration, then heat: .*",
        r"          bearing-fails was complete at \S+ h, (?!0\.[0-4])\d+\.\d h before (warm|shakes) broke",
    ),
}
"""A load that was lost hours ago, and is found late; one sensor that only its peers can tell, smoke that many see, lamps in a
thunderstorm; a bearing that shakes, and then is warmer than its peers, hours before a limit breaks."""
MOST_TOLD = {"cold-chain": 15, "city": 15, "pumps": 60}
"""Notifications: smoke that 33 sensors see, and a district that is cut off, are one incident each."""


@pytest.mark.fault
@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_scenario_ends_with_the_audit_and_the_truth(tmp_path: Path, name: str) -> None:
    """Trucks that come back after hours, clocks of 1970, districts that are cut off: nothing lost, nothing twice; the faults
    are found by the rules that the scenario brings.
    """
    done = subprocess.run(
        [command("headwater"), "demo", "--scenario", name, "--seconds", "90"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, lines[-30:]
    assert AUDITED.fullmatch(lines[-1]), lines[-1]
    told = re.fullmatch(r"truth: (\d+) wrong, (\d+) found, (\d+) missed, (\d+) false", lines[-2])
    assert told, lines[-2]
    wrong, _, missed, false = map(int, told.groups())
    assert (wrong, missed) == (WRONG[name], 0), lines[-40:]
    assert false <= FALSE[name], lines[-40:]
    for pattern in SAID[name]:
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, lines[-40:])
    heard = re.match(r"told: (\d+) notifications .* of (\d+) incidents with (\d+) alerts", lines[-3])
    assert heard, lines[-3]
    assert int(heard[1]) <= MOST_TOLD[name], lines[-3]
