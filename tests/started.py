"""A server that a test started, as a process: frozen, killed and ended by its pid, however often."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals

from tests.support import until

_END_S = 20


class Started:
    """One process at a time, and the log of all."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, command: Sequence[str], ready: Callable[[], bool]) -> None:
        """Start it, and wait until it is ready, at most a minute."""
        with self._log.open("ab") as out:
            self._process = process = subprocess.Popen(command, stdout=out, stderr=out)
        until(lambda: ready() or process.poll() is not None, 60, f"{command[0]} is ready")
        assert process.poll() is None, self.log()[-2000:]

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def signal(self, number: Signals) -> None:
        """Send it a signal: SIGSTOP and SIGCONT freeze and thaw it."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut of its process would."""
        self._end(SIGKILL)

    def end(self) -> None:
        """End it as a supervisor does."""
        self._end(SIGTERM)

    def _end(self, number: Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(SIGCONT)
            process.wait(_END_S)
