"""Named steps at which a test kills this process with SIGKILL; without the variable, nothing.

`HEADWATER_CRASH=commit.before:7` dies when that step is reached for the seventh time. A name that ends in `during` dies a
moment after it was reached, by another thread, while the system call that follows is under way.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

VARIABLE = "HEADWATER_CRASH"

_MOMENT_S = 0.0002

Reached = Callable[[str], None]


def _nothing(_name: str) -> None:
    pass


def crashing(setting: str) -> Reached:
    """Return what is to be called at each step: it dies at the one that the setting names."""
    if not setting:
        return _nothing
    wanted, _, count = setting.partition(":")
    left = int(count or 1)

    def reached(name: str) -> None:
        nonlocal left
        if name != wanted:
            return
        left -= 1
        if left:
            return
        if name.endswith("during"):
            threading.Timer(_MOMENT_S, _die).start()
        else:
            _die()

    return reached


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


reached: Reached = crashing(os.environ.get(VARIABLE, ""))
"""The steps of this process pass here."""
