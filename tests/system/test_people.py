"""A few kills at random, and what people get is what they get without (the small one of tests/fault/test_people.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import people
from tests.system.people import PATTERNS


@pytest.mark.fault  # a minute on a busy machine: too long for make test
@pytest.mark.covers("R24", "R26", "R29")
def test_r26_a_few_kills_leave_people_with_the_same_alerts(tmp_path: Path) -> None:
    """Agent and cloud side are killed twice each: alerts of limits, sequence, absence, count and comparison, and what was told of them."""
    killed, undisturbed = people.both(tmp_path, 90.0, times=2, seed=1)
    wanted = undisturbed.found
    assert {alert[1] for alert in wanted.alerts} >= {*PATTERNS, people.COMPARED}
    people.assert_as_undisturbed(killed, undisturbed)
