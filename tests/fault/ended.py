"""The end of a run with faults: all is closed and forwarded, the processes end well, and the audit finds nothing."""

from __future__ import annotations

from tests.fault.recorded import Recorded
from tests.system.box import CLOUD, EDGE, Box
from tests.system.kills import audit_of
from tests.system.load import Load


def ended_well(here: Box, fleet: Load, recorded: Recorded, fault: str, times: int) -> None:
    """End a box whose fleet has finished, after so many faults; lost 0, twice 0, no trouble in the logs."""
    here.closed()
    here.end(EDGE)
    here.end(CLOUD)
    assert not here.troubles()
    found = recorded(fault, times, audit_of(here, fleet.ledger))
    assert found.good, found
