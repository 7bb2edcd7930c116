"""Tests that measure time have the machine to themselves, where `make test` runs two processes of tests at once."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a test may run beside those that run in other processes, or `alone`, and hold that while it runs.

    Args:
        folder: the same for all processes of one run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "door").open("wb") as door, (folder / "room").open("wb") as room:
        # Who waits to be alone stands in the door, so that others do not go in past it again and again.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
