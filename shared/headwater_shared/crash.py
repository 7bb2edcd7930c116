"""Named steps at which a test kills this process, or stops it; without the variables, nothing.

`HEADWATER_CRASH=commit.before:7` dies by SIGKILL when that step is reached for the seventh time. A name that ends in `during`
dies a moment after it was reached, by another thread, while the system call that follows is under way; `:7+3000` says
how many microseconds after.

`HEADWATER_STOP=FILE`: while that file is there it names, in the same way, the step at which the process stops (SIGSTOP) next;
the file goes when it does. So a test can look at a disk as it is at one step of a process, and let it go on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

VARIABLE = "HEADWATER_CRASH"
STOP = "HEADWATER_STOP"

_MOMENT_US = 200

Reached = Callable[[str], None]


class _Wanted(NamedTuple):
    step: str
    nth: int
    after_us: int


def _nothing(_name: str) -> None:
    pass


def crashing(setting: str) -> Reached:
    """Return what is to be called at each step: it dies at the one that the setting names."""
    if not setting:
        return _nothing
    return _counting(_wanted(setting), _die)


def stopping(file: str) -> Reached:
    """Return what is to be called at each step: it stops at the one that the file names, if the file is there."""
    if not file:
        return _nothing
    path, text = Path(file), ""
    inner: Reached = _nothing

    def stop() -> None:
        path.unlink(missing_ok=True)
        signal.pthread_kill(
            threading.get_ident(), signal.SIGSTOP
        )  # this thread does not get one step further

    def reached(name: str) -> None:
        nonlocal text, inner
        try:
            now = path.read_text()
        except FileNotFoundError:
            text, inner = "", _nothing
            return
        if now != text:
            text, inner = now, _counting(_wanted(now), stop) if now else _nothing
        inner(name)

    return reached


def _wanted(setting: str) -> _Wanted:
    step, _, count = setting.strip().partition(":")
    count, _, after_us = count.partition("+")
    moment_us = _MOMENT_US if step.endswith("during") else 0
    return _Wanted(step, int(count or 1), int(after_us or moment_us))


def _counting(wanted: _Wanted, act: Callable[[], None]) -> Reached:
    left = wanted.nth

    def reached(name: str) -> None:
        nonlocal left
        if name != wanted.step:
            return
        left -= 1
        if left:
            return
        if wanted.after_us:
            threading.Timer(wanted.after_us / 1e6, act).start()
        else:
            act()

    return reached


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _reached() -> Reached:
    crash, stop = os.environ.get(VARIABLE, ""), os.environ.get(STOP, "")
    if crash and stop:
        both = crashing(crash), stopping(stop)

        def reached(name: str) -> None:
            for act in both:
                act(name)

        return reached
    return stopping(stop) if stop else crashing(crash)


reached: Reached = _reached()
"""The steps of this process pass here."""
