"""Named steps: a test kills or stops a process exactly there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from headwater_shared import crash
from tests.support import until

STEPS = """
import sys
from headwater_shared.crash import reached
for n in range(5):
    reached("a")
    print("a", n, flush=True)
    reached("b")
    sys.stdin.readline()
"""


def _process(**env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STEPS], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _state(process: subprocess.Popen[str]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_dies_when_the_step_is_reached_for_the_time_named() -> None:
    """The third time of `a`: two were passed."""
    with _process(**{crash.VARIABLE: "a:3"}) as process:
        said, _ = process.communicate("\n\n\n\n\n", timeout=10)
        assert process.returncode == -signal.SIGKILL
    assert said.splitlines() == ["a 0", "a 1"]


def test_it_dies_some_microseconds_after_it() -> None:
    """`+100000`: the step is passed, and what follows is under way."""
    with _process(**{crash.VARIABLE: "a:1+100000"}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "a 0\n"
        assert process.wait(10) == -signal.SIGKILL


def test_it_stops_where_the_file_says_and_goes_on(tmp_path: Path) -> None:
    """The file names a step, counted from when it came; the process stops there, the file is gone; continued, it goes on."""
    stop = tmp_path / "stop"
    with _process(**{crash.STOP: str(stop)}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "a 0\n"
        stop.write_text("a:2")
        process.stdin.write("\n\n")
        process.stdin.flush()
        assert process.stdout.readline() == "a 1\n"
        until(lambda: _state(process) == "T", what="it has stopped")
        assert not stop.exists()
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "a 2\n"
        process.stdin.write("\n\n\n")
        process.stdin.close()
        assert process.stdout.read() == "a 3\na 4\n"
        assert process.wait(10) == 0


def test_without_the_variables_nothing_happens() -> None:
    """What the steps call costs nothing and does nothing."""
    assert crash.crashing("") is crash.stopping("")
    with _process() as process:
        said, _ = process.communicate("\n\n\n\n\n", timeout=10)
        assert process.returncode == 0
    assert len(said.splitlines()) == 5
