"""The demos of the other two scenarios, whole: the audit is 0 and 0, and what was found is told against the truth."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.box import command
from tests.system.kills import AUDITED

WRONG = {"cold-chain": 9, "city": 25}
MISSED = {"cold-chain": 0, "city": 1}
"""That one sensor of the city is wrong only its peers can tell."""


@pytest.mark.fault
@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_scenario_ends_with_the_audit_and_the_truth(tmp_path: Path, name: str) -> None:
    """Trucks that come back after hours, clocks of 1970, districts that are cut off: nothing lost, nothing twice; the faults
    are found by the rules that the scenario brings.
    """
    done = subprocess.run(
        [command("headwater"), "demo", "--scenario", name, "--seconds", "76"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, lines[-30:]
    assert AUDITED.fullmatch(lines[-1]), lines[-1]
    told = re.fullmatch(r"truth: (\d+) wrong, (\d+) found, (\d+) missed, (\d+) false", lines[-2])
    assert told, lines[-2]
    wrong, _, missed, false = map(int, told.groups())
    assert (wrong, missed) == (WRONG[name], MISSED[name]), lines[-40:]
    assert false <= 2, lines[-40:]
