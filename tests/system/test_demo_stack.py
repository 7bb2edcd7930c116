"""`headwater demo --stack` as a person runs it: the fault of a pump is a point in the store, a row of panels, and two calls; then the audit over the store."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import kafka
from tests.support import part_required, until
from tests.system.box import descendants
from tests.system.kills import AUDITED
from tests.system.test_demo import Demo, Demos

_PUMP = "south/pump-007/temperature  too-hot"


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[Demos]:
    """Demos of one test, of which nothing is left."""
    kafka.jars()
    for part in ("mosquitto", "influxdb", "prometheus", "alertmanager"):
        part_required(part)
    made = Demos(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.fault
def test_the_whole_story_is_told(demos: Demos) -> None:
    """A pump is too hot: fault, alert, a point in InfluxDB, a call that fires, one that resolves; each panel's query has rows, Prometheus
    scrapes all and nothing of its own fires; the store's audit is the last line; within 2 GB, and nothing is left.
    """
    demo = demos.start("whole", "--stack", "--seconds", "75")
    until(partial(demo.said, r"devices  [1-9]"), 120, "it shows readings")
    demo.below |= descendants([demo.process.pid])
    assert demo.process.wait(240) == 0, demo.lines
    until(partial(demo.said, "^audit: acknowledged"), what="its last line")
    found = AUDITED.fullmatch(demo.last())
    assert found, demo.last()
    assert int(found[1]) > 5_000
    patterns = (
        r"^ +FAULT .*south/pump-007/temperature",
        rf"^ +ALERT .*{_PUMP}",
        rf"^ +CALLED firing  {_PUMP}",
        rf"^ +OVER .*{_PUMP}",
        rf"^ +CALLED resolved  {_PUMP}",
        r"^  Headwater: device: [1-9]\d* of \d+ queries of its panels had rows",
        r"^  Prometheus scrapes 5 of 5 processes, and has [1-9]\d* rules loaded",
        r"^    Watchdog: the dead man's switch",
        r"^  Alertmanager called, alerts by receiver: .*pager [1-9]",
    )
    at = [line for pattern in patterns for line in (demo.said(pattern) or [(0.0, f"no {pattern}")])[:1]]
    assert not [line for _, line in at if line.startswith("no ")], demo.lines
    assert [when for when, _ in at] == sorted(when for when, _ in at)
    assert demo.said(rf"^ +STORED .*{_PUMP}: a point in InfluxDB, state firing")
    assert demo.said(rf"^ +STORED .*{_PUMP}: a point in InfluxDB, state resolved")
    assert len(demo.said(r"queries of its panels had rows$")) == 4
    assert not demo.said("nothing to show")
    assert not demo.said("WRONG")
    ((_, memory),) = demo.said("all of it together took")
    assert float(re.findall(r"took (\S+) GB", memory)[0]) <= 2.0
    assert len(demo.below) >= 12  # itself, five servers, two agents, two workers, the sink, the fleet
    assert demo.left_behind() == set()


@pytest.mark.fault
def test_ctrl_c_leaves_nothing(demos: Demos) -> None:
    """Interrupted while the servers run and the others begin: exit code 130, and nothing is left of it."""
    demo = demos.start("interrupted", "--stack")
    until(lambda: len(_below(demo)) >= 6, 60, "the servers run")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 130, demo.lines
    assert demo.left_behind() == set()
    until(lambda: demo.said("^interrupted$"), what="it says so")


def _below(demo: Demo) -> set[int]:
    demo.below |= descendants([demo.process.pid])
    return demo.below
