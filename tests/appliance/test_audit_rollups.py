"""The audit of rollups: each holds the count and the digest of its windows, or it is found (R25, R30)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headwater_appliance import audit_rollups
from headwater_appliance.audit_findings import Findings
from headwater_shared.identity import shard_of
from tests.cloud.made import T0, Agent, clock_record, row
from tests.cloud.side import FILE, Side
from tests.cloud.test_rollups import COHORTS, registered

SHARDS = (shard_of("s1"), shard_of("s2"))


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    """A cloud side with two sites, three devices and two cohorts, all of it rolled up."""
    made = Side(tmp_path)
    made.clock.wall_us = T0
    made.take(*(registered(device, cohort) for device, cohort in COHORTS.items()))
    agent = Agent()
    for series in ("s1/d1/temp", "s1/d2/temp", "s2/d9/temp", "s2/d9/flow"):
        made.put(
            agent.frame(
                row(0, 1.0, series=series),
                row(10, 2.0, 3.0, series=series),
                row(0, 1.0, 2.0, level="1m", series=series),
            )
        )
    made.run()
    pass_time(made)
    yield made
    made.close()


def pass_time(side: Side) -> None:
    side.clock.advance(3)
    side.take(*(clock_record(shard, side.clock.wall_us) for shard in SHARDS))


def found(side: Side, sleep: Callable[[float], None] = lambda _: None, looks: int = 1) -> Findings:
    findings = Findings()
    audit_rollups.compare(side.folder / FILE, findings, sleep, looks)
    return findings


def change(side: Side, how: str, series: str, level: str = "10s") -> None:
    """Change the windows of a series behind the cloud side's back."""
    side.store.connection.execute(
        f"{how} WHERE series = (SELECT id FROM series WHERE name = ?) AND level = (SELECT id FROM level WHERE name = ?)",
        (series, level),
    )


def test_what_adds_up_is_good(side: Side) -> None:
    """Sites, cohorts, and all sites; how many were compared is said."""
    findings = found(side)
    assert findings.good
    assert findings.rollups == {"10s": 2 * (3 + 2 + 3), "1m": 3 + 2 + 3}


@pytest.mark.parametrize(
    ("how", "series"),
    [
        ("UPDATE window SET count = count + 1", "s1/+/temp"),
        ("UPDATE window SET digest = ~digest", "+/+/temp"),
        ("UPDATE window SET count = count - 1", "+/+pump-a/temp"),
        ("DELETE FROM window", "s2/+/flow"),
        ("DELETE FROM window", "+/+/flow"),
        ("DELETE FROM window", "+/+pump-a/flow"),
    ],
)
def test_a_rollup_that_is_wrong_or_missing_is_found(side: Side, how: str, series: str) -> None:
    """With its name, and what it must hold."""
    change(side, how, series)
    findings = found(side)
    assert [(one.kind, one.series, one.level) for one in findings.findings] == [
        ("altered", series, "10s")
    ] * 2
    assert findings.altered == 2
    assert str(findings.findings[0]).startswith(
        f"audit: altered: {series} 10s 2027-01-15T08:00:00Z: this rollup is not "
    )


def test_a_rollup_of_nothing_is_found(side: Side) -> None:
    """Its windows are gone, and it is not."""
    change(side, "DELETE FROM window", "s2/d9/flow")
    assert {one.series for one in found(side).findings} == {"s2/+/flow", "+/+/flow"}
    assert found(side).findings[0].differences["count"] == {"expected": None, "found": 1}


def test_what_is_still_to_be_made_is_left_out_or_waited_for(side: Side) -> None:
    """The state says what windows changed since; and what is on its way is looked at again."""
    side.put(Agent("a2", 5).frame(row(5, 9.0, series="s1/d1/temp", opened=("a2", 5, 1))))
    side.run()
    assert found(side).good
    side.clock.advance(3)
    side.put(clock_record(SHARDS[0], side.clock.wall_us))
    side.runner._take()
    side.runner._commit()
    side.runner._publish()
    assert not found(side).good, "the second stage has not read it yet"
    assert found(side, lambda _: side.run(), looks=2).good


def test_windows_of_a_version_without_rollups_have_none(side: Side) -> None:
    """A file that was written before: nothing is missing."""
    side.store.connection.execute("UPDATE window SET shard = NULL WHERE shard >= 0")
    change(side, "DELETE FROM window", "s2/+/flow")
    change(side, "DELETE FROM window", "+/+/flow")
    assert [one.series for one in found(side).findings] == []


def test_r28_a_rollup_that_can_no_longer_be_revised_is_not_compared(side: Side) -> None:
    """Its parts are gone, and a window of it changed afterwards."""
    side.store.connection.execute("DELETE FROM part")
    change(side, "UPDATE window SET count = count + 1", "s2/d9/temp")
    assert {one.series for one in found(side).findings} == {"s2/+/temp"}, "that of one shard can be"
