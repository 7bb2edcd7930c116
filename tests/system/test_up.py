"""`headwater up`: both sides as processes of their own, started again when they die, ended with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support import ROOT, until
from tests.system import kills
from tests.system.box import CLOUD, EDGE, Box, command, descendants
from tests.system.load import load


def place_of(box: Box, part: str, before: int = 0) -> dict[str, Any]:
    """Wait until a part is ready that is another process than before; return what it says of itself."""
    file = box.data / f"{part}.json"

    def there() -> dict[str, Any] | None:
        found: dict[str, Any] = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
        return found if found.get("pid", before) != before else None

    found = until(there, 60, f"{part} is ready")
    assert found is not None
    return found


@contextmanager
def up(
    box: Box, env: dict[str, str] | None = None, parts: Sequence[str] = (EDGE, CLOUD)
) -> Iterator[subprocess.Popen[bytes]]:
    with box.log("up").open("wb") as out:
        process = subprocess.Popen(
            [command("headwater"), "up", "--settings", str(box.settings)],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            env={**os.environ, **(env or {})},
        )
    below: set[int] = set()
    try:
        for part in parts:
            place_of(box, part)
        below = descendants([process.pid])
        yield process
    finally:
        below |= descendants([process.pid])
        for pid in descendants(list(below)):
            os.kill(pid, signal.SIGKILL)
        process.wait(10)


def test_what_dies_is_started_again_and_a_signal_ends_all(tmp_path: Path) -> None:
    """Agent and cloud side are killed while a fleet sends; both come back, the agent to its port; the audit finds nothing
    missing. SIGTERM then ends all, with exit code 0.
    """
    box = Box(tmp_path)
    with up(box) as running:
        with load(box, 30, "--devices", "20", "--driver", "paho") as fleet:
            for part in (EDGE, CLOUD):
                fleet.goes_on(2_000)
                pid = place_of(box, part)["pid"]
                os.kill(pid, signal.SIGKILL)
                assert fleet.sending()
                place_of(box, part, before=pid)
            fleet.finished()
            box.closed()
        kills.audited(box, fleet.ledger)
        below = descendants([running.pid])
        assert len(below) == 3
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert not descendants(list(below))
    assert not box.troubles()


@pytest.mark.fault
def test_pain10_what_runs_and_does_not_answer_is_ended_and_started_again(tmp_path: Path) -> None:
    """Agent and cloud side are stopped (SIGSTOP) while a fleet sends, as a process that hangs: `up` ends each after 3 s and starts it
    again; the audit finds nothing missing.
    """
    box = Box(tmp_path)
    box.settings.write_text(box.settings.read_text() + '[up]\nunanswered = "3s"\n')
    with up(box), load(box, 60, "--devices", "50") as fleet:
        for part in (EDGE, CLOUD):
            fleet.goes_on(2_000)
            pid = place_of(box, part)["pid"]
            os.kill(pid, signal.SIGSTOP)
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 60, f"{part} is ended")  # type: ignore[misc]
            place_of(box, part, before=pid)
        fleet.finished()
        box.closed()
        kills.audited(box, fleet.ledger)
    assert box.log("up").read_text().count("a part runs and is of no use") == 2


def test_nobody_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """SIGKILL of `headwater up` itself: agent and cloud side end by themselves, and cleanly."""
    box = Box(tmp_path)
    with up(box) as running:
        below = descendants([running.pid]) - {running.pid}
        assert len(below) == 2
        running.kill()
        running.wait(10)
        until(lambda: not descendants(list(below)), 20, "agent and cloud side have ended")
    assert not box.troubles()
    assert box.log("up").read_text().count('"event":"ended"') == 2
