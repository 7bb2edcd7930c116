"""One box in a test: agent and cloud side as real processes of their own, started, killed and ended by their pids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from headwater_appliance.ports import steady_port
from headwater_edge import words
from headwater_shared.crash import VARIABLE
from headwater_shared.errors import Refused
from tests.support import ROOT, until

EDGE, CLOUD, SINK = "edge", "cloud", "sink"
MODULES = {EDGE: "headwater_edge", CLOUD: "headwater_cloud", SINK: "headwater_cloud"}
WORKER = "worker-{}"
"""A worker of the cloud side, by its slot: `headwater-cloud worker --slot N`."""
SMALL_SNAPSHOTS = "tests.system.agent_with_small_snapshots"

_SETTINGS = """[common]
data = "{data}"
log = "json"
[edge]
name = "box"
health_port = 0
{edge}
[edge.listener]
port = {port}
{listener}
[[edge.limit]]
name = "too-hot"
series = "*/temperature"
above = 80.0
clear = 78.0
severity = "critical"
[cloud.alerts]
grow = "1s"
[cloud]
health_port = 0
"""


def command(name: str) -> str:
    """Return the path of one of our commands, in the environment that runs the tests."""
    return str(Path(sys.executable).parent / name)


def _module(part: str) -> str:
    return MODULES[CLOUD if part.startswith("worker-") else part]


def _words(part: str) -> list[str]:
    if part == SINK:
        return ["--sink"]
    return ["--slot", part.removeprefix("worker-")] if part.startswith("worker-") else []


class Box:
    """The settings, the data folder, and what runs."""

    def __init__(self, folder: Path, *, edge: str = "", listener: str = "") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.settings = folder / "headwater.toml"
        self.port = steady_port()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.settings.write_text(
            _SETTINGS.format(data=self.data, port=self.port, edge=edge, listener=listener)
        )

    def start(
        self, part: str, *, crash: str = "", module: str = "", env: dict[str, str] | None = None
    ) -> None:
        """Start a part; with `crash` (see `headwater_shared.crash`) it will die at that step, even before it is ready."""
        with self.log(part).open("ab") as out:
            self.running[part] = subprocess.Popen(
                [sys.executable, "-m", module or _module(part), str(self.settings), *_words(part)],
                cwd=ROOT,
                env={**os.environ, VARIABLE: crash, **(env or {})},
                stdout=out,
                stderr=out,
            )

    def ready(self, part: str, deadline: float = 20.0) -> dict[str, Any]:
        """Wait until a part says where it listens."""
        process, place = self.running[part], self.data / f"{part}.json"

        def there() -> dict[str, Any] | None:
            code = process.poll()  # before the look: one that was ready and died since had been ready
            found: dict[str, Any] = msgspec.json.decode(place.read_bytes()) if place.exists() else {}
            if found.get("pid") == process.pid:
                return found
            assert code is None, self.log(part).read_text()[-2000:]
            return None

        found = until(there, deadline, f"{part} is ready")
        assert found is not None
        return found

    def up(self, *, module: str = "") -> None:
        """Start both, and wait until they are ready."""
        self.start(EDGE, module=module)
        self.start(CLOUD)
        self.ready(EDGE)
        self.ready(CLOUD)

    def freeze(self, part: str) -> None:
        """Let a part do nothing more; it can only be killed."""
        self.running[part].send_signal(signal.SIGSTOP)

    def kill(self, part: str) -> None:
        """End a part as a power cut of its process would."""
        process = self.running.pop(part)
        assert process.poll() is None, f"{part} had ended by itself: {self.log(part).read_text()[-2000:]}"
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def killed(self, part: str, deadline: float = 30.0) -> None:
        """Wait until a part that was told to crash has done so."""
        process = self.running.pop(part)
        try:
            code = process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.running[part] = process
            raise AssertionError(f"{part} never came to the step at which it was to crash") from None
        assert code == -signal.SIGKILL, f"{part}: {code}: {self.log(part).read_text()[-2000:]}"

    def end(self, part: str) -> None:
        """End a part as a supervisor does; it must end well."""
        process = self.running.pop(part)
        process.terminate()
        assert process.wait(20) == 0, self.log(part).read_text()[-2000:]

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for process in self.running.values():
            process.kill()
            process.wait(10)
        self.running.clear()

    def log(self, part: str) -> Path:
        return self.folder / f"{part}.log"

    def troubles(self) -> list[dict[str, Any]]:
        """Return what was logged as an error, and what is no log line at all: a traceback, say."""
        found = []
        for log in self.folder.glob("*.log"):
            for line in log.read_text().splitlines():
                try:
                    said = json.loads(line)
                except json.JSONDecodeError:
                    said = {"level": "error", "line": line}
                if said["level"] in {"error", "critical"}:
                    found.append(said)
        return found

    def status(self) -> dict[str, Any]:
        """Return what the agent says of itself; empty while none answers."""
        try:
            return words.say(self.data / "edge.sock", "status")
        except Refused:
            return {}

    def closed(self) -> dict[str, Any]:
        """Close all windows, and wait until the cloud side has everything; return the agent's status."""
        words.say(self.data / "edge.sock", "flush")
        until(lambda: self.status().get("outbox") == 0, 60, "the cloud side has everything")
        return self.status()

    def run(self, name: str, *arguments: str, expected: int = 0) -> str:
        """Run one of our commands with the settings; return what it printed."""
        done = subprocess.run(
            [command(name), *arguments, "--settings", str(self.settings)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expected, done.stdout[-4000:]
        return done.stdout

    def connections(self) -> int:
        """Return how many client sockets the agent's port has, those included whose client has yet to see the end."""
        remote = f":{self.port:04X} "
        open_states = {"01", "08"}  # ESTABLISHED, CLOSE_WAIT
        found = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            found += f"{fields[2]} ".endswith(remote) and fields[3] in open_states
        return found


@contextmanager
def box(folder: Path, *, edge: str = "", listener: str = "") -> Iterator[Box]:
    """A box of which nothing is left behind."""
    made = Box(folder, edge=edge, listener=listener)
    try:
        yield made
    finally:
        made.close()


def descendants(marks: Sequence[int]) -> set[int]:
    """Return the pids of all processes that stand below those given, and those themselves as far as they run."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has ended meanwhile
        pid, rest = int(text.split(" ", 1)[0]), text.rpartition(")")[2].split()
        if rest[0] != "Z":
            parents[pid] = int(rest[1])
    found = {pid for pid in marks if pid in parents}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more
