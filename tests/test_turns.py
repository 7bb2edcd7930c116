"""Who is alone while two processes run tests."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support import until
from tests.turns import turn


def test_a_test_that_measures_time_runs_alone(tmp_path: Path) -> None:
    """Others run beside each other; who wants to be alone waits for them, those that come later wait for it, and then go on."""
    ends, within, said = threading.Event(), threading.Barrier(3), []

    def other() -> None:
        with turn(tmp_path, alone=False):
            within.wait(10)
            ends.wait(10)
            said.append("together")

    def run(word: str, *, alone: bool) -> threading.Thread:
        def one() -> None:
            with turn(tmp_path, alone=alone):
                said.append(word)

        thread = threading.Thread(target=one)
        thread.start()
        return thread

    threads = [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    within.wait(10)
    threads.append(run("alone", alone=True))
    until(lambda: _waits(tmp_path / "room"), what="it waits for them")
    threads.append(run("later", alone=False))
    until(lambda: _waits(tmp_path / "door"), what="the next waits behind it")
    assert said == []
    ends.set()
    for thread in threads:
        thread.join(10)
    assert said == ["together", "together", "alone", "later"]


def _waits(lock: Path) -> bool:
    """Tell whether anyone waits for a lock, as the kernel says it."""
    inode = str(lock.stat().st_ino)
    return any(
        line.split()[1] == "->" and line.split()[6].endswith(f":{inode}")
        for line in Path("/proc/locks").read_text().splitlines()
    )
