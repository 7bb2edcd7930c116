"""A wish to stop that a signal handler may express at any moment."""

from __future__ import annotations

import subprocess
import sys

from headwater_shared.stop import Stop
from tests.support import ROOT

_STORM = """
import signal, sys, time
{made}
count = 0
def told(*_):
    global count
    count += 1
    stop.set()
    {unset}
signal.signal(signal.SIGALRM, told)
signal.setitimer(signal.ITIMER_REAL, 3e-4, 3e-4)
while count < 3_000:
    stop.wait(0)
    stop.is_set()
signal.setitimer(signal.ITIMER_REAL, 0)
print("over")
"""


def _storm(made: str, unset: str) -> str:
    script = _STORM.format(made=made, unset=unset)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False).stdout


def test_a_handler_may_set_it_while_its_own_thread_waits() -> None:
    """Thousands of signals that fall anywhere into `wait` and `is_set` stop nobody."""
    assert _storm("from headwater_shared.stop import Stop; stop = Stop()", "stop._set = False") == "over\n"


def test_an_event_never_comes_to_the_end() -> None:
    """What the signal interrupts holds the lock of a `threading.Event` at times: this is why there is a `Stop`. (More signals
    fall into the handler that waits for it, until Python has enough.)
    """
    assert _storm("import threading; stop = threading.Event()", "stop._flag = False") == ""


def test_who_waits_is_told_at_once() -> None:
    """It is set once and stays so."""
    stop = Stop()
    stop.wait(0)
    assert not stop.is_set()
    stop.set()
    stop.set()
    stop.wait(3600)
    assert stop.is_set()
    stop.close()
