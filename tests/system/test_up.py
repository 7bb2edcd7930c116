"""`headwater up`: both sides as processes of their own, started again when they die, ended with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.support import ROOT, until
from tests.system import kills
from tests.system.box import CLOUD, EDGE, Box, command, descendants
from tests.system.load import load


def _place(box: Box, part: str, before: int = 0) -> dict[str, Any]:
    """Wait until a part is ready that is another process than before; return what it says of itself."""
    file = box.data / f"{part}.json"

    def there() -> dict[str, Any] | None:
        found: dict[str, Any] = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
        return found if found.get("pid", before) != before else None

    found = until(there, 20, f"{part} is ready")
    assert found is not None
    return found


@contextmanager
def _up(box: Box) -> Iterator[subprocess.Popen[bytes]]:
    with box.log("up").open("wb") as out:
        process = subprocess.Popen(
            [command("headwater"), "up", "--settings", str(box.settings)], cwd=ROOT, stdout=out, stderr=out
        )
    running: set[int] = set()
    try:
        _place(box, EDGE)
        _place(box, CLOUD)
        running = descendants([process.pid])
        yield process
    finally:
        running |= descendants([process.pid])
        for pid in descendants(list(running)):
            os.kill(pid, signal.SIGKILL)
        process.wait(10)


def test_what_dies_is_started_again_and_a_signal_ends_all(tmp_path: Path) -> None:
    """Agent and cloud side are killed while a fleet sends; both come back, the agent to its port; the audit finds nothing
    missing. SIGTERM then ends all, with exit code 0.
    """
    box = Box(tmp_path)
    with _up(box) as up:
        with load(box, 30, "--devices", "20", "--driver", "paho") as fleet:
            for part in (EDGE, CLOUD):
                fleet.goes_on(2_000)
                pid = _place(box, part)["pid"]
                os.kill(pid, signal.SIGKILL)
                assert fleet.sending()
                _place(box, part, before=pid)
            fleet.finished()
            box.closed()
        kills.audited(box, fleet.ledger)
        below = descendants([up.pid])
        assert len(below) == 3
        up.send_signal(signal.SIGTERM)
        assert up.wait(20) == 0
        assert not descendants(list(below))
    assert not box.troubles()


def test_nobody_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """SIGKILL of `headwater up` itself: agent and cloud side end by themselves, and cleanly."""
    box = Box(tmp_path)
    with _up(box) as up:
        below = descendants([up.pid]) - {up.pid}
        assert len(below) == 2
        up.kill()
        up.wait(10)
        until(lambda: not descendants(list(below)), 20, "agent and cloud side have ended")
    assert not box.troubles()
    assert box.log("up").read_text().count('"event":"ended"') == 2
