"""Several agents, or workers, looked at as one."""

from __future__ import annotations

from headwater_appliance.processes import Running
from headwater_appliance.together import running_of, status_of


def test_counts_are_added_up_and_of_the_rest_the_worst_counts() -> None:
    """What waits is the sum; one agent without a bus, or a reason of one worker, is seen; epochs are told apart."""
    one = {
        "outbox": 3, "forward": "live", "epoch": "a", "holding_back": "", "oldest_unsent_s": 0.5, "disk_free": 9, "ready": True,
        "silent_devices": ["x/1"], "commands": {"open": 1}, "drain_rate": None,
    }  # fmt: skip
    other = {
        "outbox": 4, "forward": "offline", "epoch": "b", "holding_back": "quota", "oldest_unsent_s": 7.0, "disk_free": 5,
        "ready": False, "silent_devices": ["y/2"], "commands": {"open": 2, "done": 1}, "drain_rate": 1.5, "more": 1,
    }  # fmt: skip
    assert status_of([one, other]) == {
        "outbox": 7, "forward": "offline", "epoch": "a, b", "holding_back": "quota", "oldest_unsent_s": 7.0, "disk_free": 5,
        "ready": False, "silent_devices": ["x/1", "y/2"], "commands": {"open": 3, "done": 1}, "drain_rate": 1.5, "more": 1,
    }  # fmt: skip
    assert status_of([one]) == one


def test_processes_together_take_what_each_takes() -> None:
    """Memory and CPU are added up; one that is down is left out; none is none."""
    found = running_of([None, Running(4, 9.0, 100, 1.0, 64), Running(5, 3.0, 50, 0.5, 32)])
    assert found == Running(4, 3.0, 150, 1.5, 32)
    assert running_of([None]) is None
